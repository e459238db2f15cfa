"""Two processes train one run together, and it is the run of one process."""

import json
import os
import socket
import subprocess
import sys

import pytest


def test_two_processes_equal_one(trained, config_file, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["train", f"--config={config_file}", f"--workdir={tmp_path / 'run'}"]
    together = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_NUM_CPU_DEVICES": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", "from jaxvision.cli import main; main()", *words],
            env={**os.environ, **together, "JAX_PROCESS_ID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        outputs = [p.communicate(timeout=300) for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert [p.returncode for p in processes] == [0, 0], outputs
    assert "finished" in outputs[0][0]
    assert "step" not in outputs[1][0]  # one process speaks
    found = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert found == pytest.approx(trained[1], rel=1e-4)
