"""Signals, hangs and dead processes: what stops a run, where, and with which status and words."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from jaxvision import signals
from jaxvision.parallel.gate import Gate, Stopped
from jaxvision.parallel.peers import Peers
from jaxvision.train import watchdog
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
    time.sleep(0.5)  # a second signal that was sent with the first is heard in here, however busy the machine is
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
        (["evaluate"], signal.SIGINT, 130, "stopped by SIGINT; evaluate is not finished."),
        (["evaluate", "blocked"], signal.SIGTERM, 85, "stopped by SIGTERM; evaluate is not finished."),
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
    assert "saving the state, then stopping" in first
    assert "stopped at once by a second SIGINT; work since the last checkpoint is lost" in second


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
    calls = []
    monkeypatch.setattr(signals, "leave", lambda status, line: (calls.append((status, line)), time.sleep(60)))
    gate = Gate()
    with watchdog.Watchdog(tmp_path, 0.05, watched=gate, wake=0.01), gate.busy(None):
        for _ in range(30):
            gate.tick()
            time.sleep(0.01)
        assert not calls
        began = time.monotonic()

        def waits_for_ever():
            run_until(lambda: calls)

        waits_for_ever()
        assert time.monotonic() - began < 5
    status, line = calls[0]
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
