import os
import socket
import subprocess
import sys

import jax
import pytest

from jaxvision.errors import UserError
from jaxvision.parallel import distributed

VARIABLES = (
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
    "SLURM_NTASKS",
    "OMPI_COMM_WORLD_SIZE",
)


@pytest.fixture
def environment(monkeypatch):
    """No trace of a cluster."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_one_process_needs_nothing(environment):
    jax.devices()  # JAX is in use already, as in a notebook
    distributed.initialize()
    assert distributed.is_main()
    distributed.assert_equal_across_processes("a config", "the config")
    assert distributed.any_process(True)
    assert not distributed.any_process(False)


def test_several_processes_after_a_device_query_are_an_error(environment):
    jax.devices()
    environment.setenv("SLURM_NTASKS", "2")
    with pytest.raises(RuntimeError, match="must be called before"):
        distributed.initialize()


def test_variables_must_be_numbers(environment):
    environment.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES must be a whole number, not 'two'"):
        distributed.initialize()


PROGRAM = """
import jax, numpy as np
from jaxvision.errors import UserError
from jaxvision.parallel import distributed
from jaxvision.parallel.mesh import make_mesh, replicate, shard_batch

distributed.initialize()
distributed.initialize()  # a second call changes nothing
me = jax.process_index()
assert distributed.is_main() == (me == 0)
assert (jax.process_count(), jax.device_count()) == (2, 4)

mesh = make_mesh(fsdp=2)
batch = shard_batch({"x": np.arange(4.0) + 4 * me}, mesh)
assert batch["x"].shape == (8,)
weights = replicate({"w": np.arange(8.0)}, mesh)["w"]
assert float(jax.jit(lambda x, w: x @ w)(batch["x"], weights)) == 140.0  # rows lie in the order of processes

assert distributed.any_process(me == 1)
assert not distributed.any_process(False)
distributed.assert_equal_across_processes({"seed": 0}, "the config")
for wrong in (
    lambda: distributed.assert_equal_across_processes({"seed": me}, "the config"),
    lambda: make_mesh(tensor=4),
):
    try:
        wrong()
    except UserError as error:
        print(error)
"""


def launch(program, **variables):
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", **variables}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_processes():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    processes = [launch(PROGRAM, **common, JAX_PROCESS_ID=str(i)) for i in range(2)]
    try:
        outputs = [p.communicate(timeout=120) for p in processes]
    finally:
        for p in processes:
            p.kill()
    for i, (stdout, stderr) in enumerate(outputs):
        assert processes[i].returncode == 0, stderr
        assert f"the config differs between processes: [1] against process 0. Here it is {{'seed': {i}}}" in stdout
        assert "the tensor axis must divide the 2 devices of a process" in stdout


def test_incomplete_flags_and_no_cluster():
    program = """
from jaxvision.errors import UserError
from jaxvision.parallel import distributed

distributed.initialize()  # nothing given, no cluster: one process
try:
    distributed.initialize(coordinator_address="localhost:1234")
except UserError as error:
    print(error)
"""
    process = launch(program)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "cannot join the job: Number of processes must be defined. Given: coordinator_address='localhost" in stdout
