"""A real Ray cluster of two nodes on this host, one CPU each."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jaxvision.errors import UserError
from jaxvision.launch.ray import RayLauncher

ray = pytest.importorskip("ray")
# Leaves with 85 on SIGTERM, as a run does that has saved its state.
SAVES = ["bash", "-c", "trap 'echo saved; exit 85' TERM; echo ready; while :; do sleep 0.1; done"]


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    small = dict(num_cpus=1, object_store_memory=80 * 2**20)
    cluster = Cluster(initialize_head=True, head_node_args=dict(small, include_dashboard=False))
    cluster.second = cluster.add_node(resources={"second": 1}, **small)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return value


def state(launcher, job, folder):
    return launcher.poll({job: folder})[job].state


def reached(launcher, job, folder, wanted):
    return until(lambda: state(launcher, job, folder) == wanted)


def cleared(launcher):
    """Both CPUs are free again."""
    return until(lambda: ray.available_resources().get("CPU") == 2)


def test_without_a_cluster_the_error_says_how_to_start_one(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="ray start --head"):
        RayLauncher()


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'jaxvision\[ray\]'"):
        RayLauncher()


@pytest.mark.slow
def test_a_job_ends_with_its_exit_status_and_its_output_is_kept(cluster, tmp_path):
    launcher = RayLauncher(cluster.address)
    folders = {code: tmp_path / str(code) for code in (0, 3)}
    jobs = {launcher.submit(["bash", "-c", f"echo hello; exit {c}"], f, "trial"): f for c, f in folders.items()}
    until(lambda: {s.state for s in launcher.poll(jobs).values()} == {"ended"})
    assert [s.code for s in launcher.poll(jobs).values()] == [0, 3]
    assert "hello" in (folders[3] / "output.log").read_text()
    cleared(launcher)


@pytest.mark.slow
def test_a_job_starts_after_the_controller_that_asked_for_it_has_gone(cluster, tmp_path):
    folders = [tmp_path / str(n) for n in range(3)]
    wait = f"until [ -e {tmp_path}/go ]; do sleep 0.1; done"
    controller = (
        "import sys; from pathlib import Path; from jaxvision.launch.ray import RayLauncher\n"
        f"launcher = RayLauncher({cluster.address!r})\n"
        f"for f in sys.argv[1:]: print(launcher.submit(['bash', '-c', {wait!r}], Path(f), 'trial'))"
    )
    ids = subprocess.run(
        [sys.executable, "-c", controller, *map(str, folders)], check=True, capture_output=True, text=True
    ).stdout.split()
    launcher, jobs = RayLauncher(cluster.address), dict(zip(ids, folders, strict=True))
    until(lambda: sorted(s.state for s in launcher.poll(jobs).values()) == ["running", "running", "waiting"])
    assert [launcher.find(f, "trial") for f in folders] == ids
    (tmp_path / "go").touch()
    until(lambda: all(s == ("ended", 0) for s in launcher.poll(jobs).values()))
    until(lambda: launcher.find(folders[0], "trial") is None)
    cleared(launcher)


@pytest.mark.slow
def test_cancelling_lets_a_run_save_itself_and_a_waiting_job_never_starts(cluster, tmp_path):
    launcher = RayLauncher(cluster.address, cpus=1)
    folders = [tmp_path / str(n) for n in range(3)]
    jobs = [launcher.submit(SAVES, f, "trial") for f in folders]
    until(
        lambda: [s.state for s in launcher.poll(dict(zip(jobs, folders, strict=True))).values()].count("running") == 2
    )
    (waits,) = [n for n in range(3) if state(launcher, jobs[n], folders[n]) == "waiting"]
    launcher.cancel(jobs[waits], folders[waits])
    reached(launcher, jobs[waits], folders[waits], "lost")
    assert not (folders[waits] / "output.log").exists()
    for n in {0, 1, 2} - {waits}:
        until(lambda log=folders[n] / "output.log": log.exists() and "ready" in log.read_text())
        launcher.cancel(jobs[n], folders[n])
        reached(launcher, jobs[n], folders[n], "ended")
        assert launcher.poll({jobs[n]: folders[n]})[jobs[n]].code == 85
    launcher.cancel(jobs[0], folders[0])  # once more does no harm
    cleared(launcher)


@pytest.mark.slow
def test_a_run_does_not_outlive_a_ray_that_was_killed(cluster, tmp_path):
    launcher = RayLauncher(cluster.address)
    job = launcher.submit(["bash", "-c", "echo $$ $PPID; exec sleep 60"], tmp_path, "trial")
    pid, wrapper = until(lambda: (log := tmp_path / "output.log").exists() and log.read_text().split())
    os.kill(psutil.Process(int(wrapper)).ppid(), signal.SIGKILL)  # the actor: Ray cannot stop its children any more
    until(lambda: state(launcher, job, tmp_path) in ("lost", "ended"))
    until(lambda: not Path(f"/proc/{pid}").exists())
    cleared(launcher)


@pytest.mark.slow  # Ray takes some 15 s to miss a node
def test_a_job_is_lost_with_its_node_and_its_process_is_gone(cluster, tmp_path):
    launcher = RayLauncher(cluster.address, resources={"second": 1})
    job = launcher.submit(["bash", "-c", "echo $$; exec sleep 60"], tmp_path, "trial")
    pid = until(lambda: (log := tmp_path / "output.log").exists() and log.read_text().split()[:1])[0]
    assert state(launcher, job, tmp_path) == "running"
    cluster.remove_node(cluster.second, allow_graceful=False)
    reached(launcher, job, tmp_path, "lost")
    until(lambda: not Path(f"/proc/{pid}").exists())
