"""Whole runs, of one and of several processes, that are signalled, killed or stuck at a chosen place."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxvision.train import checkpoint

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    c = ConfigDict()
    c.seed = 0
    sizes = dict(image_size=32, train=80, validation=48, test=8)
    c.data = dict(name="shapes", options=sizes, split="train", batch_size=16)
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="resnet", variant="8", width=0.25)
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1, momentum=0.9)
    c.train = dict(total="24 steps", log_every="6 steps", checkpoint_every="8 steps", keep=2, hang_timeout=20.0)
    c.evals = dict(val=dict(name="classify", split="validation", every="12 steps"))
    return c
"""
# Runs the command line; at the place AT it makes the file MARK-PROCESS, and waits there for HOLD seconds.
INJECTED = """
import os, time
at, hold, mark = os.environ.get("AT", ""), float(os.environ.get("HOLD", "0")), os.environ.get("MARK", "")
me, whom = os.environ.get("JAX_PROCESS_ID", "0"), os.environ.get("WHOM", "all")
ticks = int(os.environ.get("TICKS", "5"))

def arrive():
    if not os.path.exists(f"{mark}-{me}"):
        open(f"{mark}-{me}", "w").close()
        if whom in ("all", me):
            time.sleep(hold)

def inject():
    import importlib
    places = {
        "imports": ("jaxvision.cli.one_run", "start"),
        "building": ("jaxvision.experiment", "build"),
        "data": ("jaxvision.experiment", "Experiment.feed"),
        "init": ("jaxvision.experiment", "Experiment.initial_state"),
        "claim": ("jaxvision.workdir", "claim"),
        "restore": ("jaxvision.commands.train", "_restored"),
        "loop": ("jaxvision.train.loop", "Loop.run"),
        "save": ("jaxvision.train.checkpoint", "Checkpoints.save"),
        "close": ("jaxvision.train.checkpoint", "Checkpoints.close"),
        "results": ("jaxvision.commands.train", "_print_results"),
    }
    if at in places:
        module, name = places[at]
        owner = importlib.import_module(module)
        *parents, name = name.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        original = getattr(owner, name)
        def wrapped(*args, **kwargs):
            arrive()
            return original(*args, **kwargs)
        setattr(owner, name, wrapped)
    if at in ("compiling", "step", "evaluation") or os.environ.get("PACE"):
        from jaxvision.parallel.gate import Gate
        passes = Gate.tick
        def tick(self, compiles=False):
            inside = (self.doing or "").startswith("evaluation")
            if inside if at == "evaluation" else at == "step" and self.passed >= ticks:
                arrive()
            if os.environ.get("PACE"):
                time.sleep(float(os.environ["PACE"]))
            passed = passes(self, compiles)
            if at == "compiling":  # and is not waited for
                open(f"{mark}-{me}", "w").close()
            return passed
        Gate.tick = tick

from jaxvision import signals
with signals.listening(console=True):
    inject()
    from jaxvision.__main__ import main
    main()
"""
START = ("imports", "building", "data", "claim", "init", "loop")
END = ("close", "results")
OF_PROCESS_0 = ("claim", "results")  # the others do not come there


class Job:
    """A run of one or several processes, each a child of the test."""

    def __init__(self, folder, name="run", count=1, **environment):
        self.mark, self.count = folder / f"mark-{name}-{time.monotonic_ns()}", count
        (folder / "config.py").write_text(CONFIG)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        several = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
        words = ["train", f"--config={folder / 'config.py'}", f"--workdir={folder / name}"]
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", INJECTED, *words],
                env={
                    **os.environ,
                    "JAX_NUM_CPU_DEVICES": "1",
                    "JAXVISION_DATA": str(folder / "data"),
                    "MARK": str(self.mark),
                    **({**several, "JAX_PROCESS_ID": str(i)} if count > 1 else {}),
                    **{key: str(value) for key, value in environment.items()},
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(count)
        ]

    def arrived(self, process=0):
        path = self.mark.with_name(f"{self.mark.name}-{process}")
        deadline = time.monotonic() + 300
        while not path.exists() and self.processes[process].poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return path.exists()

    def end(self, seconds=240, but=None):
        """Exit statuses and standard errors; all processes are dead afterwards."""
        try:
            outputs = [p.communicate(timeout=seconds) for i, p in enumerate(self.processes) if i != but]
        finally:
            for p in self.processes:
                p.kill()
        statuses = [p.returncode for i, p in enumerate(self.processes) if i != but]
        return statuses, [err for _, err in outputs]


def words_of(err):
    """The lines on standard error but the libraries' own, of which JAX has one, and what tells how far it is."""
    return [line for line in err.splitlines() if line and not re.match(r"[WEI]\d{4} |WARNING|rendering ", line)]


def final(folder, name):
    reader = getattr(checkpoint, "Saved", checkpoint.Checkpoints)
    results = json.loads((folder / name / "results.json").read_text())["results"]
    return results, reader(folder / name).variables()


def same(one, other):
    return one[0] == other[0] and all(np.array_equal(one[1][key], other[1][key]) for key in one[1])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """`unbroken(count)`: the folder of a run of so many processes that nothing happened to, and its end."""
    runs = {}

    def of(count):
        if count not in runs:
            folder = tmp_path_factory.mktemp(f"unbroken{count}")
            statuses, errs = Job(folder, "whole", count).end()
            assert statuses == [0] * count, errs
            runs[count] = folder, final(folder, "whole")
        return runs[count]

    return of


PHASES = [
    (place, sent) for place in (*START, "compiling", "step", "evaluation", "save", *END) for sent in ("TERM", "INT")
]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_signal_in_any_phase_loses_nothing(unbroken, count, record_property):
    folder, whole = unbroken(count)
    rng, hung, wrong = random.Random(count), 0, 0
    phases = PHASES if count == 1 else rng.sample(PHASES, 10)
    failures = []
    for place, sent in phases:
        name = f"{count}-{place}-{sent}"
        job = Job(folder, name, count, AT=place, HOLD=1.5, PACE=0.02)
        whom = rng.randrange(count)
        job.arrived(0 if place in OF_PROCESS_0 else whom)
        time.sleep(rng.random())
        job.processes[whom].send_signal(getattr(signal, f"SIG{sent}"))
        try:
            # One that leaves before it has joined is not known to the others, who wait for it as long as JAX does.
            statuses, errs = job.end(400 if place == "imports" and count > 1 else 120)
        except subprocess.TimeoutExpired:
            hung, failures = hung + 1, [*failures, (name, "hung")]
            continue
        if place == "imports" and count > 1:
            right = sorted(statuses) == [85, 86]
        else:
            expected = {0} if place == "results" else {0, 85} if place in END else {85}
            right = set(statuses) <= expected and len(set(statuses)) == 1
        if not right:
            failures.append((name, statuses, errs))
        while {85, 86} & set(statuses):
            statuses, errs = Job(folder, name, count).end()
        if statuses != [0] * count or not same(final(folder, name), whole):
            wrong, failures = wrong + 1, [*failures, (name, "resumed", statuses, errs)]
    for key, value in dict(promise="signals", injections=len(phases), lost=0, hung=hung, wrong=wrong).items():
        record_property(key, value)
    assert not failures


@pytest.mark.slow
@pytest.mark.parametrize(("count", "dead"), [(2, 0), (2, 1), (4, 0), (4, 3)])
@pytest.mark.parametrize("place", ["data", "step", "evaluation"])
def test_a_dead_process_ends_the_others_with_one_line(tmp_path, count, dead, place, record_property):
    job = Job(tmp_path, "run", count, AT=place, HOLD=3, PACE=0.05)
    assert job.arrived(dead)
    job.processes[dead].kill()
    began = time.monotonic()
    statuses, errs = job.end(90, but=dead)
    took = time.monotonic() - began
    for key, value in dict(promise="dead processes", injections=1, lost=0, hung=int(took > 60), wrong=0).items():
        record_property(key, value)
    assert statuses == [85] * (count - 1), errs
    assert took < 60
    for err in errs:
        assert len(words_of(err)) == 1, err
        assert words_of(err)[0].startswith(f"jaxvision: process {dead} died")


@pytest.mark.slow
@pytest.mark.parametrize("stuck", [0, 1])
def test_a_process_that_sleeps_ends_the_job_with_its_stacks(tmp_path, stuck, record_property):
    job = Job(tmp_path, "run", 2, AT="step", HOLD=600, WHOM=stuck, TICKS=10)
    statuses, errs = job.end(200)
    record_property("promise", "hangs")
    record_property("injections", 1)
    assert statuses == [86, 86], errs
    for number, err in enumerate(errs):
        (line,) = words_of(err)
        assert re.match(rf"jaxvision: no progress for \d+ s .*\(process {stuck} is behind the others\)", line)
        assert "File " in (tmp_path / "run" / f"hang-{number}.txt").read_text()
    assert "in arrive" in (tmp_path / "run" / f"hang-{stuck}.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_process_that_is_stopped_by_the_system_ends_the_others(tmp_path, stopped, record_property):
    job = Job(tmp_path, "run", 2, AT="step", HOLD=1, PACE=0.05)
    assert job.arrived(stopped)
    job.processes[stopped].send_signal(signal.SIGSTOP)
    statuses, errs = job.end(90, but=stopped)
    record_property("promise", "hangs")
    record_property("injections", 1)
    assert statuses[0] in (85, 86), errs
    (line,) = words_of(errs[0])
    assert "jaxvision: " in line


ALONE = """
import functools, jax
from jaxvision import signals
jax.distributed.initialize = functools.partial(jax.distributed.initialize, initialization_timeout=3)
with signals.listening("train", console=True):
    from jaxvision.parallel import distributed
    distributed.initialize()
"""


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_a_process_whose_others_never_come_says_so(process, record_property):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(process)}
    done = subprocess.run([sys.executable, "-c", ALONE], env={**os.environ, **job}, capture_output=True, text=True)
    record_property("promise", "dead processes")
    record_property("injections", 1)
    assert done.returncode == 86, done.stderr
    (line,) = words_of(done.stderr)
    assert line.startswith(
        f"jaxvision: process {process} has waited too long for the 2 processes of the job: process 0"
    )
    assert address in line
