"""Signals, hangs and dead processes: what stops a run, where, and with which status and words."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from jaxvision import signals
from jaxvision.parallel.gate import Gate, Stopped
from jaxvision.parallel.peers import Peers
from jaxvision.train import checkpoint, watchdog
from jaxvision.train.watch import StopSignal

# What a command is for a signal, without anything that takes long to import.
COMMAND = """
import hashlib, os, sys, time
from jaxvision import signals
with signals.listening(sys.argv[1], console=True):
    if "held" in sys.argv:
        signals.hold()
    print("ready", flush=True)
    if "blocked" in sys.argv:  # runs for hours without a bytecode of the main thread
        hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2**31 - 1)
    if "swallowing" in sys.argv:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
    until = time.monotonic() + 60
    while time.monotonic() < until and not ("held" in sys.argv and signals.requested() and "ends" in sys.argv):
        time.sleep(0.05)
print("end", flush=True)
"""


def command(*words):
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("words", "sent", "status", "line"),
    [
        (["train"], signal.SIGTERM, 85, "stopped by SIGTERM; there was nothing to save yet. Run the same command"),
        (["train"], signal.SIGINT, 85, "stopped by SIGINT; there was nothing to save yet. Run the same command"),
        (["study", "blocked"], signal.SIGTERM, 85, "stopped by SIGTERM"),
        (["train", "swallowing"], signal.SIGINT, 85, "stopped by SIGINT"),
        (["evaluate"], signal.SIGINT, 130, "stopped by SIGINT; evaluate is not done."),
        (["evaluate", "blocked"], signal.SIGTERM, 85, "stopped by SIGTERM; evaluate is not done."),
    ],
)
def test_where_nothing_is_to_save_a_signal_leaves_with_one_line(words, sent, status, line):
    process = command(*words)
    process.send_signal(sent)
    _, err = process.communicate(timeout=20)
    assert process.returncode == status, err
    assert err.startswith(f"jaxvision: {line}")
    assert err.count("\n") == 1


def test_where_it_is_held_the_command_goes_on_and_a_second_ctrl_c_ends_it():
    process = command("train", "held", "ends")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "end\n", "")

    process = command("train", "held", "blocked")
    process.send_signal(signal.SIGINT)
    time.sleep(signals.SAME_SIGNAL_SECONDS + 0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    first, second = err.strip().splitlines()
    assert "saving, then leaving" in first
    assert "left at once, what was not saved yet is lost" in second


def test_one_ctrl_c_that_comes_twice_is_one():
    process = command("train", "held", "ends")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "end\n")


def test_a_forked_child_keeps_its_signals_to_itself():
    with StopSignal() as stop:
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        time.sleep(0.1)
        assert stop.received is None


def test_what_began_unarmed_holds_signals_once_its_inside_does():
    with StopSignal(armed=False) as outer:
        assert not signals.held()
        with StopSignal():
            assert signals.held()
        assert signals.held()
        os.kill(os.getpid(), signal.SIGTERM)
        assert outer.received == "SIGTERM"
    assert not signals.held()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


class Memory:
    """The store of processes that are threads."""

    def __init__(self):
        self.values, self.lock = {}, threading.Lock()

    def set(self, key, value):
        with self.lock:
            self.values[key] = value

    def read(self, folder):
        with self.lock:
            return {k.rpartition("/")[2]: v for k, v in self.values.items() if k.startswith(f"{folder}/")}


class Process:
    """A process of a simulated job: its gate, its peers, and the ticks at which it dispatched work."""

    def __init__(self, store, number, count, held=True, **options):
        self.gate, self.left, self.name = Gate(), [], None
        self.gate.alone = False
        self.heard = SimpleNamespace(
            requested=lambda: self.name,
            request=lambda name: setattr(self, "name", self.name or name),
            held=lambda: held,
            stopped_early=lambda: "early",
            status_when_stopped=lambda: 85,
        )
        options = dict(beat=0.02, silence=0.5, grace=0.2) | options
        leave = lambda status, line: (self.left.append((status, line)), self.peers._ended.set())
        self.peers = Peers(store, number, count, self.gate, heard=self.heard, leave=leave, **options)
        self.stopped_after = None

    def work(self, steps, collective, rng):
        """Dispatches `steps` pieces of work, each of which ends when all processes have come to it."""
        try:
            for _ in range(steps):
                time.sleep(rng.random() * 0.004)  # reads data
                self.gate.tick()
                collective.wait(10)  # broken: some process never came
        except Stopped:
            self.stopped_after = self.gate.passed


@pytest.mark.parametrize("seed", range(6))
def test_all_processes_stop_at_the_same_tick_wherever_the_signal_comes(seed):
    rng = random.Random(seed)
    count = rng.choice([2, 3, 5])
    store, collective = Memory(), threading.Barrier(count)
    job = [Process(store, number, count) for number in range(count)]
    threads = [
        threading.Thread(target=p.work, args=(400, collective, random.Random(seed + i))) for i, p in enumerate(job)
    ]
    for process in job:
        process.peers.start()
    for thread in threads:
        thread.start()
    time.sleep(rng.random() * 0.2)
    for process in rng.sample(job, rng.choice([1, count])):
        process.name = "SIGTERM"
        process.peers.wake()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert len({process.stopped_after for process in job}) == 1
    assert 0 < job[0].stopped_after < 400
    assert not any(process.left for process in job)
    for process in job:
        process.peers.stop()


def run_until(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_where_one_process_has_done_nothing_yet_all_leave_at_once():
    job = [Process(store, number, 3, held=number > 0) for store in [Memory()] for number in range(3)]
    job[1].gate.tick()
    for process in job:
        process.peers.start()
    job[2].name = "SIGINT"
    run_until(lambda: all(process.left for process in job))
    assert [process.left[0] for process in job] == [(85, "early"), (85, ""), (85, "")]


@pytest.mark.parametrize("dead", [0, 1])
def test_a_silent_process_is_named_by_the_others(dead):
    store = Memory()
    job = [Process(store, number, 3) for number in range(3)]
    for process in job:
        process.peers.start()
    run_until(lambda: len(store.read("alive")) == 3)
    job[dead].peers._ended.set()  # as by SIGKILL: it does not say that it ends
    alive = [process for process in job if process is not job[dead]]
    run_until(lambda: all(process.left for process in alive))
    for process in alive:
        status, line = process.left[0]
        assert status == 85
        assert line.startswith(f"process {dead} died")


def test_a_process_that_ends_is_not_missed_and_one_that_fails_ends_the_others():
    store = Memory()
    job = [Process(store, number, 3) for number in range(3)]
    for process in job:
        process.peers.start()
    run_until(lambda: len(store.read("alive")) == 3)
    job[1].peers.stop()
    time.sleep(0.8)  # more than the silence of the dead
    assert not job[0].left
    assert not job[2].left
    job[2].peers.failed(2)
    run_until(lambda: job[0].left)
    assert job[0].left[0] == (2, "process 2 failed (exit status 2); its own message says why.")


def test_a_hang_that_one_process_notices_ends_all_and_names_who_is_behind():
    store = Memory()
    job = [Process(store, number, 2) for number in range(2)]
    for process in job:
        process.peers.start()
    job[0].gate.tick()
    run_until(lambda: store.read("alive").get("0", "").split()[1:2] == ["1"] and "1" in store.read("alive"))
    job[0].peers.tell("hang", json.dumps({"line": "no progress for 9 s"}))
    run_until(lambda: job[0].left and job[1].left)
    for process in job:
        assert process.left[0][0] == 86
        assert process.left[0][1].startswith("no progress for 9 s (process 1 is behind the others)")


def test_the_watchdog_writes_the_stacks_and_leaves(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(signals, "leave", lambda status, line: (told.append((status, line)), time.sleep(60)))
    gate = Gate()
    with watchdog.Watchdog(tmp_path, 0.05, watched=gate, wake=0.01), gate.busy(None):
        for _ in range(30):
            gate.tick()
            time.sleep(0.01)
        assert not told
        began = time.monotonic()

        def waits_for_ever():
            run_until(lambda: told)

        waits_for_ever()
        assert time.monotonic() - began < 5
    status, line = told[0]
    assert status == 86
    assert re.match(r"no progress for \d+ s in the training steps: the stacks of its threads are in .*hang-0.txt", line)
    assert "waits_for_ever" in (tmp_path / "hang-0.txt").read_text()


def test_the_watchdog_learns_how_long_a_step_takes():
    gate = Gate()
    watch = watchdog.Watchdog(None, 10.0, watched=gate)
    assert watch.limit() == 60  # starting
    with gate.busy(None):
        gate.tick(compiles=True)
        watch._recent.extend([0.1, 2.0])
        assert watch.limit() == 60
        gate.tick()
        assert watch.limit() == 40
        with gate.busy("evaluation val"):
            assert watch.limit() == 60
    assert watchdog.Watchdog(None, 10.0, watched=gate)._recent.maxlen == 100


def test_the_host_runs_ahead_for_some_seconds_only(monkeypatch):
    now, waited = [0.0], []
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(watchdog.jax, "block_until_ready", waited.append)
    ahead = watchdog.Ahead(seconds=5.0)
    for step in range(10):
        ahead.dispatched(step)
        now[0] += 2.0
    assert waited == [0, 1, 2, 3, 4, 5, 6]  # at 18 s what is older than 5 s, but for the latest two


# ----------------------------------------------------------------------------------------------- whole runs, injected

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
        "loop": ("jaxvision.train.loop", "train"),
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
        run_until(lambda: path.exists() or self.processes[process].poll() is not None, 300)
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
    found = {}

    def of(count):
        if count not in found:
            folder = tmp_path_factory.mktemp(f"unbroken{count}")
            statuses, errs = Job(folder, "whole", count).end()
            assert statuses == [0] * count, errs
            found[count] = folder, final(folder, "whole")
        return found[count]

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
        job.arrived(whom)
        time.sleep(rng.random())
        job.processes[whom].send_signal(getattr(signal, f"SIG{sent}"))
        try:
            statuses, errs = job.end(120)
        except subprocess.TimeoutExpired:
            hung, failures = hung + 1, [*failures, (name, "hung")]
            continue
        expected = {0} if place == "results" else {0, 85} if place in END else {85}
        if not set(statuses) <= expected or len(set(statuses)) > 1:
            failures.append((name, statuses, errs))
        while 85 in statuses:
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


def test_a_tick_costs_little():
    gate, steps = Gate(), 10_000
    began = time.perf_counter()
    for _ in range(steps):
        gate.tick()
    assert (time.perf_counter() - began) / steps < 1e-4
