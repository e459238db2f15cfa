"""On a real SLURM cluster: a sweep whose controller is killed, then one of its jobs, then one of the nodes; and a
training over two nodes of which a process is killed, or whose node is drained."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from jaxvision import launch
from jaxvision.sweep import Sweep, grid
from jaxvision.sweep.controller import Controller

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
step=$1/step
exec 9> $1/lock
flock -n 9 || touch $1/overlap
n=$(cat $step 2> /dev/null || echo 0)
echo from step $n
while [ $n -lt 30 ]; do sleep 0.2; n=$((n + 1)); echo $n > $step.new; mv $step.new $step; done
echo '{"steps": 30, "seconds": 6.0, "results": {"val/top1": '$2'}}' > $1/results.new
mv $1/results.new $1/results.json
"""
TRIALS = 6
ROOT = Path(__file__).parents[2]
SMALL = (
    "--config.data.examples=512", "--config.data.options.train=512", "--config.data.options.validation=64",
    "--config.data.options.test=64", "--config.train.total=80 steps",
)  # fmt: skip


def controller(folder, show=lambda _: None):
    sweep = Sweep(config=str(folder / "fake.py"), space={"x": grid(*range(TRIALS))}, search="grid")

    def command(config, values, workdir):
        return ["bash", str(folder / "run.sh"), str(workdir), str(values["x"])]

    launcher = launch.make_launcher("slurm(minutes=5)")
    return Controller(sweep, folder / "out", launcher, parallel=3, seconds=0.5, command=command, show=show)


@pytest.mark.slow
def test_each_trial_ends_once_though_the_controller_a_job_and_a_node_were_killed(slurm, tmp_path, until):
    (tmp_path / "fake.py").write_text(CONFIG)
    (tmp_path / "run.sh").write_text(RUN)
    first = subprocess.Popen([sys.executable, __file__, str(tmp_path)])
    until(lambda: len(list(tmp_path.glob("out/trials/*/seed0/step"))) == 3, 90)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()

    hit = {}

    def show(controller):
        running = [run for run in controller.alive if run.state == "running"]
        if not hit and len(running) == 3:  # all adopted from the first controller
            hit["job"] = running[0]
            subprocess.run(["scancel", "--signal=KILL", "--full", running[0].job], check=True)
        elif "job" in hit and "node" not in hit and len(running) == 3 and running[-1].attempts == 1:
            hit["node"] = running[-1]
            hit["name"] = slurm.job(running[-1].job)["NodeList"]
            slurm.kill_node(hit["name"])

    try:
        trials = controller(tmp_path, show).run()
    finally:
        if "name" in hit:
            slurm.revive_node(hit["name"])

    assert {"job", "node"} <= set(hit)
    assert [trial.state for trial in trials] == ["complete"] * TRIALS
    attempts = {trial.runs[0].workdir: trial.runs[0].attempts for trial in trials}
    assert sum(attempts.values()) == TRIALS + 2
    for run in (hit["job"], hit["node"]):
        assert attempts[run.workdir] == 2
        words = (run.launch / "output.log").read_text().split()
        starts = [int(word) for word in words if word.isdecimal()]
        assert starts[0] == 0 < starts[-1]  # it went on where it was
    assert not list(tmp_path.rglob("overlap"))
    log = [json.loads(line) for line in (tmp_path / "out" / "journal.log").read_text().splitlines()]
    trial_ids = [line["trial_id"] for line in log if line["op_code"] == 6 and line["state"] != 0]
    assert sorted(trial_ids) == list(range(TRIALS))


def submit(folder, name):
    """A training of two processes, each on its own "node"; returns SLURM's id of the job."""
    options = f"nodes=2, minutes=10, output='{folder}/{name}.log'"
    words = [sys.executable, "-m", "jaxvision", "launch", f"--slurm={options}", f"--name={name}", "--", "train"]
    words += [f"--config={ROOT}/configs/quickstart.py", f"--workdir={folder / name}", *SMALL]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True, cwd=folder)
    return re.search(r"submitted job (\d+)", done.stdout)[1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["process killed", "node drained"])
def test_a_training_that_was_hit_ends_as_the_unbroken_one(slurm, tmp_path, until, fault, record_property):
    def ended(name):
        path = tmp_path / name / "results.json"
        return json.loads(path.read_text())["results"] if path.exists() else None

    job = submit(tmp_path, "broken")
    saved = tmp_path / "broken" / "checkpoints"
    until(lambda: saved.is_dir() and any(place.name.isdecimal() for place in saved.iterdir()), 300)
    drained = None
    try:
        if fault == "process killed":
            words = f"--workdir={tmp_path / 'broken'}"
            ranks = [p for p in psutil.process_iter(["cmdline"]) if words in (p.info["cmdline"] or [])]
            processes = [p for p in ranks if "python" in p.name()]
            assert len(processes) == 2
            processes[1].kill()
        else:
            drained = slurm.job(job)["BatchHost"]
            subprocess.run(
                ["scontrol", "update", f"NodeName={drained}", "State=DRAIN", "Reason=maintenance"], check=True
            )
            subprocess.run(["scancel", "--signal=TERM", job], check=True)
        until(lambda: slurm.job(job).get("Restarts") == "1", 150)
        broken = until(lambda: ended("broken"), 300)
        until(lambda: slurm.job(job)["JobState"] == "COMPLETED")
        assert not drained or slurm.nodes()[drained].startswith("drain")
    finally:
        if drained:
            subprocess.run(["scontrol", "update", f"NodeName={drained}", "State=RESUME"], check=True)
    launches = json.loads((tmp_path / "broken" / "run.json").read_text())["launches"]
    assert 0 < launches[1]["start_step"] < 80
    submit(tmp_path, "unbroken")
    assert until(lambda: ended("unbroken"), 300) == broken
    for key, value in dict(promise="preemption on SLURM", injections=1, lost=0, hung=0, wrong=0).items():
        record_property(key, value)


if __name__ == "__main__":
    controller(Path(sys.argv[1])).run()
