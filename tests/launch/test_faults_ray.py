"""A sweep on a real Ray cluster, whose controller and then one of whose nodes are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxvision.launch.ray import RayLauncher
from jaxvision.sweep import Sweep, grid
from jaxvision.sweep.controller import Controller

ray = pytest.importorskip("ray")
pytest.importorskip("optuna")

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    c = ConfigDict()
    c.x = 0
    c.evals = dict(val=dict(name="classify", split="validation", every="1 step"))
    return c
"""
# Stands in for a run: 30 steps, the last one saved; it notes each start, and whether another process is in its workdir.
RUN = """
import fcntl, json, sys, time
from pathlib import Path
folder, x = Path(sys.argv[1]), float(sys.argv[2])
lock = open(folder / "lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    (folder / "overlap").touch()
step = folder / "step"
start = int(step.read_text()) if step.exists() else 0
print("from step", start, flush=True)
for n in range(start + 1, 31):
    time.sleep(0.2)
    step.write_text(str(n))
(folder / "results.json").write_text(json.dumps({"steps": 30, "seconds": 6.0, "results": {"val/top1": x}}))
"""
TRIALS = 6


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    small = dict(num_cpus=1, object_store_memory=80 * 2**20)
    cluster = Cluster(initialize_head=True, head_node_args=dict(small, include_dashboard=False))
    cluster.others = [cluster.add_node(**small) for _ in range(2)]
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def controller(folder, address, show=lambda _: None):
    sweep = Sweep(config=str(folder / "fake.py"), space={"x": grid(*range(TRIALS))}, search="grid")

    def command(config, values, workdir):
        return [sys.executable, str(folder / "run.py"), str(workdir), str(values["x"])]

    return Controller(sweep, folder / "out", RayLauncher(address), parallel=3, seconds=0.2, command=command, show=show)


@pytest.mark.slow
def test_each_trial_ends_once_though_the_controller_and_a_node_were_killed(cluster, tmp_path):
    (tmp_path / "fake.py").write_text(CONFIG)
    (tmp_path / "run.py").write_text(RUN)
    first = subprocess.Popen([sys.executable, __file__, str(tmp_path), cluster.address])
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("out/trials/*/seed0/step"))) < 3:
        assert time.monotonic() < end, "the first runs did not start"
        time.sleep(0.1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()

    def show(controller):
        """Kills a node, once, while three runs adopted from the first controller are on the cluster."""
        if cluster.others and len([run for run in controller.alive if run.state == "running"]) == 3:
            cluster.remove_node(cluster.others.pop(), allow_graceful=False)
            cluster.others.clear()

    trials = controller(tmp_path, cluster.address, show).run()

    assert not cluster.others
    assert [trial.state for trial in trials] == ["complete"] * TRIALS
    attempts = [trial.runs[0].attempts for trial in trials]
    assert sorted(attempts) == [1] * (TRIALS - 1) + [2]  # one CPU a node: one run was lost with it
    lost = trials[attempts.index(2)].runs[0].workdir
    words = (lost / "launch" / "output.log").read_text().split()
    starts = [int(word) for word in words if word.isdecimal()]
    assert len(starts) == 2
    assert starts[0] == 0 < starts[1]
    assert not list(tmp_path.rglob("overlap"))
    log = [json.loads(line) for line in (tmp_path / "out" / "journal.log").read_text().splitlines()]
    trial_ids = [line["trial_id"] for line in log if line["op_code"] == 6 and line["state"] != 0]
    assert sorted(trial_ids) == list(range(TRIALS))


if __name__ == "__main__":
    controller(Path(sys.argv[1]), sys.argv[2]).run()
