"""Jobs as processes of this machine."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxvision import launch
from jaxvision.errors import UserError
from jaxvision.launch import local
from jaxvision.launch.local import LocalLauncher

SAVES = ["bash", "-c", "trap 'echo saved; exit 85' TERM; echo ready; while :; do sleep 0.05; done"]
AFFINITY = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0)); import time; time.sleep(60)"]
needs_two_cpus = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs and affinity"
)


def output(folder):
    path = folder / "output.log"
    return path.read_text() if path.exists() else ""


def end(launcher, jobs, until):
    for job, folder in jobs.items():
        launcher.cancel(job, folder)
    until(lambda: all(s.state in ("ended", "lost") for s in launcher.poll(jobs).values()))


def test_a_job_outlives_the_controller_that_started_it(tmp_path, until):
    controller = (
        "import sys; from pathlib import Path; from jaxvision import launch\n"
        "print(launch.make_launcher('local').submit(sys.argv[2:], Path(sys.argv[1]), 'trial'))"
    )
    job = subprocess.run(
        [sys.executable, "-c", controller, str(tmp_path), *SAVES], capture_output=True, text=True, check=True
    ).stdout.strip()
    launcher = LocalLauncher()
    until(lambda: "ready" in output(tmp_path))
    assert launcher.poll({job: tmp_path}) == {job: ("running", None)}
    launcher.cancel(job, tmp_path)
    until(lambda: launcher.poll({job: tmp_path})[job] == ("ended", 85))
    assert "saved" in output(tmp_path)
    launcher.cancel(job, tmp_path)  # once more does no harm


def test_a_killed_job_is_lost_and_can_be_submitted_again(tmp_path, until):
    launcher = LocalLauncher()
    job = launcher.submit(SAVES, tmp_path, "trial")
    until(lambda: "ready" in output(tmp_path))
    os.kill(int(job.partition("-")[0]), signal.SIGKILL)
    until(lambda: launcher.poll({job: tmp_path})[job].state == "lost")
    again = launcher.submit(["true"], tmp_path, "trial")
    until(lambda: launcher.poll({again: tmp_path})[again] == ("ended", 0))


def test_a_process_id_that_was_given_out_again_is_not_the_job(tmp_path):
    launcher = LocalLauncher()
    other = f"{os.getpid()}-1@{local.socket.gethostname()}"
    assert launcher.poll({other: tmp_path})[other].state == "lost"
    launcher.cancel(other, tmp_path)  # would end this test


def test_a_job_whose_id_was_never_written_down_is_found(tmp_path, until):
    launcher = LocalLauncher()
    assert launcher.find(tmp_path, "trial") is None
    job = launcher.submit(SAVES, tmp_path, "trial")
    assert launcher.find(tmp_path, "trial") == job  # from the table of processes, as a rule: it is just starting
    until(lambda: "ready" in output(tmp_path))
    assert LocalLauncher().find(tmp_path, "trial") == job
    end(launcher, {job: tmp_path}, until)
    until(lambda: launcher.find(tmp_path, "trial") is None)


def test_jobs_of_another_host_are_not_taken_for_lost(tmp_path):
    with pytest.raises(UserError, match="runs on elsewhere"):
        LocalLauncher().poll({"1-1@elsewhere": tmp_path})


@needs_two_cpus
def test_slots_share_the_cpus_also_after_the_controller_has_changed(tmp_path, until):
    cpus = os.sched_getaffinity(0)
    launcher, jobs = LocalLauncher(slots=2, gpus=0), {}
    for name in "ab":
        jobs[launcher.submit(AFFINITY, tmp_path / name, name)] = tmp_path / name
    until(lambda: all(output(tmp_path / name) for name in "ab"))
    first, second = ({int(word) for word in output(tmp_path / name).split()} for name in "ab")
    assert first | second == cpus
    assert not first & second

    launcher.cancel(next(iter(jobs)), tmp_path / "a")
    until(lambda: launcher.poll(jobs)[next(iter(jobs))].state == "ended")
    launcher = LocalLauncher(slots=2, gpus=0)
    launcher.poll(jobs)
    jobs[launcher.submit(AFFINITY, tmp_path / "c", "c")] = tmp_path / "c"
    until(lambda: output(tmp_path / "c"))
    assert {int(word) for word in output(tmp_path / "c").split()} == first  # the slot that is free
    end(launcher, jobs, until)


@needs_two_cpus
def test_slots_beyond_the_cpus_share_one(tmp_path, until):
    launcher = LocalLauncher(slots=2 * len(os.sched_getaffinity(0)) + 1, gpus=0)
    jobs = {launcher.submit(AFFINITY, tmp_path / name, name): tmp_path / name for name in "ab"}
    until(lambda: all(output(tmp_path / name) for name in "ab"))
    assert [len(output(tmp_path / name).split()) for name in "ab"] == [1, 1]
    end(launcher, jobs, until)


def test_each_job_gets_its_own_gpus(tmp_path, monkeypatch, until):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    launcher = LocalLauncher(gpus=2)
    show = ["bash", "-c", "echo $CUDA_VISIBLE_DEVICES; sleep 60"]
    jobs = {launcher.submit(show, tmp_path / name, name): tmp_path / name for name in "ab"}
    until(lambda: [output(tmp_path / name).strip() for name in "ab"] == ["4,5", "6,7"])
    end(launcher, jobs, until)


def test_gpus_are_found_without_jax(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/bash\nprintf '0\\n1\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.visible_gpus() == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("locl", "did you mean 'local'"),
        ("local(slot=2)", "Usage: local"),
        ("local(slots=0)", "slots=0"),
        ("local(slots=2, gpus=99)", "GPUs"),
        ("local(gpus=99)", "GPUs"),
        ("local|local", "must name one launcher"),
    ],
)
def test_a_wrong_launcher_is_refused(spec, words):
    with pytest.raises(UserError, match=words):
        launch.make_launcher(spec)


def test_ctrl_c_in_the_controllers_terminal_does_not_reach_a_job(tmp_path, until):
    launcher = LocalLauncher()
    job = launcher.submit(["sleep", "60"], tmp_path, "trial")
    until(lambda: (tmp_path / "output.log").exists())
    assert os.getsid(int(job.partition("-")[0])) != os.getsid(0)
    end(launcher, {job: Path(tmp_path)}, until)
