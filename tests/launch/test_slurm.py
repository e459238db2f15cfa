"""SLURM for real, on this host: trials, and one run over two nodes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxvision import launch
from jaxvision.errors import UserError
from jaxvision.launch import slurm as slurms
from jaxvision.launch.slurm import SlurmLauncher

ROOT = Path(__file__).parents[2]
# Leaves with 85 on SIGTERM, but takes longer than the cluster's KillWait to save.
SAVES = ["bash", "-c", "trap 'sleep 7; echo saved; exit 85' TERM; echo ready; while :; do sleep 0.1; done"]


def output(folder):
    path = folder / "output.log"
    return path.read_text() if path.exists() else ""


def state(launcher, job, folder):
    return launcher.poll({job: folder})[job].state


@pytest.fixture
def launcher(slurm, monkeypatch):
    monkeypatch.setattr(slurms, "SETTLE_SECONDS", 3)
    return launch.make_launcher("slurm(minutes=5)")


def test_the_script_takes_the_signal_before_the_limit_and_requeues_what_was_preempted():
    command = ["jaxvision", "train", "--config.a='b c'"]
    text = slurms.script(command, "vit", nodes=2, cpus=4, sbatch={"mail_type": "END"})
    lines = text.splitlines()
    assert {"#SBATCH --signal=TERM@120", "#SBATCH --requeue", "#SBATCH --mail-type=END"} <= set(lines)
    (run,) = [line for line in lines if line.startswith("srun")]
    # The first process that leaves must not end those that still save; srun forgets --cpus-per-task.
    assert run.startswith("srun --kill-on-bad-exit=0 --wait=120 --cpus-per-task=4 jaxvision train ")
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_without_submitit_or_slurm_the_error_says_what_is_missing(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "submitit", None)
        with pytest.raises(UserError, match=r"pip install 'jaxvision\[slurm\]'"):
            SlurmLauncher()
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="squeue is not installed"):
        SlurmLauncher()


@pytest.mark.slow
def test_jobs_end_with_their_exit_status(launcher, tmp_path, until):
    folders = {code: tmp_path / str(code) for code in (0, 2, 85)}
    jobs = {launcher.submit(["bash", "-c", f"echo hello; exit {c}"], f, "trial"): f for c, f in folders.items()}
    until(lambda: [s.code for s in launcher.poll(jobs).values()] == [0, 2, 85], 60)
    assert "hello" in output(folders[2])


@pytest.mark.slow
def test_a_cancelled_run_has_the_time_to_save_and_a_waiting_one_never_starts(launcher, slurm, tmp_path, until):
    folders = [tmp_path / str(n) for n in range(4)]  # one more than nodes
    jobs = [launcher.submit(SAVES, folder, f"trial-{n}") for n, folder in enumerate(folders)]
    assert [launcher.find(folder, f"trial-{n}") for n, folder in enumerate(folders)] == jobs
    until(lambda: all("ready" in output(folder) for folder in folders[:3]), 60)
    named = dict(zip(jobs, folders, strict=True))
    assert [s.state for s in launcher.poll(named).values()] == ["running"] * 3 + ["waiting"]
    for n in (3, 0, 1, 2):
        launcher.cancel(jobs[n], folders[n])
    until(lambda: [s.code for s in launcher.poll(named).values()] == [85, 85, 85, None], 60)
    until(lambda: state(launcher, jobs[3], folders[3]) == "lost")
    assert all("saved" in output(folder) for folder in folders[:3])
    assert not output(folders[3])
    until(lambda: launcher.find(folders[0], "trial-0") is None)
    assert slurm.job(jobs[0])["Requeue"] == "0"  # the controller submits it again, and SLURM must not


@pytest.mark.slow
def test_a_killed_job_is_lost(launcher, tmp_path, until):
    job = launcher.submit(SAVES, tmp_path, "trial")
    until(lambda: "ready" in output(tmp_path), 60)
    subprocess.run(["scancel", "--signal=KILL", "--full", job], check=True)
    until(lambda: state(launcher, job, tmp_path) == "lost", 60)


@pytest.mark.slow
def test_a_job_is_lost_with_its_node_and_goes_on_where_it_is_submitted_again(launcher, slurm, tmp_path, until):
    job = launcher.submit(["bash", "-c", "echo ready $$; sleep 100"], tmp_path, "trial")
    until(lambda: "ready" in output(tmp_path), 60)
    node = slurm.job(job)["NodeList"]
    slurm.kill_node(node)
    try:
        until(lambda: not Path(f"/proc/{output(tmp_path).split()[1]}").exists(), 5)
        until(lambda: state(launcher, job, tmp_path) == "lost", 120)
        again = launcher.submit(["echo", "again"], tmp_path, "trial")
        until(lambda: launcher.poll({again: tmp_path})[again] == ("ended", 0), 60)
        assert output(tmp_path).endswith("again\n")
    finally:
        slurm.revive_node(node)


@pytest.mark.slow
def test_jobs_go_on_while_the_controller_of_slurm_is_away(launcher, slurm, tmp_path, until):
    job = launcher.submit(SAVES, tmp_path, "trial")
    until(lambda: "ready" in output(tmp_path), 60)
    os.killpg(slurm.daemons["controller"].pid, signal.SIGSTOP)
    try:
        assert slurms._queue("%i") is None
        assert state(launcher, job, tmp_path) == "running"
    finally:
        os.killpg(slurm.daemons["controller"].pid, signal.SIGCONT)
    launcher.cancel(job, tmp_path)
    until(lambda: launcher.poll({job: tmp_path})[job] == ("ended", 85), 60)


@pytest.mark.slow
def test_a_run_saves_itself_before_its_time_is_over(slurm, tmp_path, until):
    launcher = launch.make_launcher("slurm(minutes=1, save_seconds=40)")
    job = launcher.submit(SAVES, tmp_path, "trial")
    until(lambda: launcher.poll({job: tmp_path})[job] == ("ended", 85), 90)


@pytest.mark.slow
def test_a_run_over_two_nodes_is_requeued_when_one_of_them_is_lost(slurm, tmp_path, until):
    seen = tmp_path / "seen"
    command = ["bash", "-c", f"echo $SLURM_RESTART_COUNT on $SLURMD_NODENAME >> {seen}; sleep 100"]
    job = slurms.submit(slurms.script(command, "two", nodes=2, minutes=5, output=f"{tmp_path}/%x.log"))
    until(lambda: seen.exists() and seen.read_text().count("on") == 2, 60)
    node = seen.read_text().split()[-1]
    slurm.kill_node(node)
    try:
        until(lambda: slurm.job(job).get("Restarts") == "1", 120)
        until(lambda: seen.read_text().count("1 on") == 2, 60)
        assert f"1 on {node}" not in seen.read_text()  # it goes on with the third
    finally:
        slurm.output("scancel", job)
        slurm.revive_node(node)


@pytest.mark.slow
def test_a_refused_job_says_why(slurm, tmp_path):
    with pytest.raises(UserError, match="invalid partition"):
        launch.make_launcher("slurm(partition='gpu')").submit(["true"], tmp_path, "trial")


@pytest.mark.slow
def test_a_run_over_two_nodes_that_is_told_to_stop_is_requeued_and_ends_as_if_unbroken(slurm, tmp_path, until):
    """Two processes through jax.distributed, each on its own "node"."""

    def train(workdir):
        return [
            "train",
            f"--config={ROOT}/configs/quickstart.py",
            f"--workdir={workdir}",
            "--config.data.examples=512",
            "--config.data.options.train=512",
            "--config.data.options.validation=64",
            "--config.data.options.test=64",
            "--config.train.total=60 steps",
        ]

    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}

    def submit(name):
        options = f"nodes=2, minutes=10, output='{tmp_path}/{name}.log'"
        words = [sys.executable, "-m", "jaxvision.cli", "launch", f"--slurm={options}", f"--name={name}", "--"]
        done = subprocess.run(
            [*words, *train(tmp_path / name)], capture_output=True, text=True, env=environment, check=True
        )
        return re.search(r"submitted job (\d+)", done.stdout)[1]

    def ended(name):
        path = tmp_path / name / "results.json"
        return json.loads(path.read_text())["results"] if path.exists() else None

    job = submit("broken")
    metrics = tmp_path / "broken" / "metrics.jsonl"
    until(lambda: metrics.exists() and metrics.read_text().count("\n") > 2, 200)
    subprocess.run(["scancel", "--signal=TERM", job], check=True)
    until(lambda: slurm.job(job).get("Restarts") == "1", 100)
    broken = until(lambda: ended("broken"), 200)
    until(lambda: slurm.job(job)["JobState"] == "COMPLETED")

    launches = json.loads((tmp_path / "broken" / "run.json").read_text())["launches"]
    assert [one["processes"] for one in launches] == [2, 2]
    assert 0 < launches[1]["start_step"] < 60
    submit("unbroken")
    assert until(lambda: ended("unbroken"), 200) == broken
