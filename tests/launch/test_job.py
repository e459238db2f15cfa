"""The process that is a job: its files, the signals it hands on, and what becomes of its command when it is killed."""

import json
import os
import signal
import subprocess
import sys

import pytest

from jaxvision.launch.base import Status, prepare, status
from jaxvision.launch.job import process_start

SAVES = "trap 'echo saved; exit 85' TERM; echo ready; while :; do sleep 0.05; done"


def start(folder, *command):
    prepare(folder)
    return subprocess.Popen([sys.executable, "-m", "jaxvision.launch.job", str(folder), "--", *command])


def output(folder):
    path = folder / "output.log"
    return path.read_text() if path.exists() else ""


def test_output_and_exit_status_lie_in_the_folder(tmp_path):
    job = start(tmp_path, "bash", "-c", "echo out; echo err >&2; exit 3")
    assert job.wait() == 3
    assert output(tmp_path) == "out\nerr\n"
    assert status(tmp_path, alive=False) == Status("ended", 3)
    assert json.loads((tmp_path / "job.json").read_text())["pid"] == job.pid


def test_a_second_submission_appends_its_output_and_forgets_the_first_exit_status(tmp_path):
    start(tmp_path, "bash", "-c", "echo first; exit 85").wait()
    prepare(tmp_path)
    assert status(tmp_path, alive=True) == Status("waiting")
    assert status(tmp_path, alive=False) == Status("lost")
    start(tmp_path, "echo", "second").wait()
    assert output(tmp_path) == "first\nsecond\n"
    assert status(tmp_path, alive=False) == Status("ended", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_command(tmp_path, number, until):
    job = start(tmp_path, "bash", "-c", SAVES.replace("TERM", "TERM INT"))
    until(lambda: "ready" in output(tmp_path))
    assert status(tmp_path, alive=True) == Status("running")
    job.send_signal(number)
    assert job.wait(10) == 85
    assert "saved" in output(tmp_path)


def test_a_command_that_was_told_to_stop_before_it_listened_counts_as_preempted(tmp_path, until):
    job = start(tmp_path, "sleep", "60")
    until(lambda: (tmp_path / "output.log").exists())
    job.terminate()
    job.wait(10)
    assert status(tmp_path, alive=False) == Status("ended", 85)


def test_a_command_that_another_killed_has_a_negative_status(tmp_path):
    assert start(tmp_path, "bash", "-c", "kill -KILL $$").wait() == 128 + 9
    assert status(tmp_path, alive=False) == Status("ended", -9)


def test_a_command_that_is_not_there_ends_with_127_and_says_so(tmp_path):
    assert start(tmp_path, "no-such-command").wait() == 127
    assert "cannot start no-such-command" in output(tmp_path)
    assert status(tmp_path, alive=False) == Status("ended", 127)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_the_command_dies_with_a_job_that_was_killed(tmp_path, until):
    job = start(tmp_path, "bash", "-c", f"echo $$; {SAVES}")
    until(lambda: "ready" in output(tmp_path))
    pid = int(output(tmp_path).split()[0])
    assert process_start(pid)
    job.kill()
    until(lambda: process_start(pid) is None)
    assert "saved" not in output(tmp_path)
    assert status(tmp_path, alive=False) == Status("lost")


def test_a_process_has_one_start_and_none_once_it_has_ended():
    mine = process_start(os.getpid())
    assert mine
    assert mine == process_start(os.getpid())
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(process.pid) is None  # a zombie
    process.wait()
    assert process_start(process.pid) is None


def test_a_job_imports_nothing_heavy():
    heavy = "import sys, jaxvision.launch.job; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout.split()
    assert "jaxvision" in loaded
    assert not {"jax", "numpy", "ml_collections", "absl", "submitit", "ray"} & set(loaded)
