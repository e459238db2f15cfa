"""What loggers are told, and that nothing that they do reaches the run."""

import logging
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import loggers
from jaxvision.loggers.base import Run
from jaxvision.parallel.gate import Preempted
from jaxvision.sections import LoggerSection
from jaxvision.train import observers
from jaxvision.train.observers import Observers

RUN = Run("a", "0" * 32, Path("runs/a"), {"seed": 0})


@pytest.fixture
def observe():
    """`observe(log, background=False, **common)`: observers of one logger, which have begun."""

    def make(log, background=False, **common):
        section = LoggerSection(**{"name": "mine", **common})
        entry = loggers.Entry("mine", section, lambda *, run: lambda event: log(run, event), {}, background)
        return Observers([entry], RUN)

    return make


def test_a_logger_is_told_every_event_in_order(observe):
    told = []
    with observe(lambda run, event: told.append((event.kind, event.step, dict(event.metrics), event.status))) as all_of:
        all_of.begin(4, print)
        all_of("log", 5, {"loss": 1.0})
        all_of("evaluation", 6, {"val/top1": 0.5})
        all_of("checkpoint", 6, {})
        all_of.results = {"val/top1": 0.5}
    assert told == [
        ("start", 4, {}, ""),
        ("log", 5, {"loss": 1.0}, ""),
        ("evaluation", 6, {"val/top1": 0.5}, ""),
        ("checkpoint", 6, {}, ""),
        ("end", 6, {"val/top1": 0.5}, "finished"),
    ]


@pytest.mark.parametrize(("error", "status"), [(Preempted("SIGTERM"), "stopped"), (ValueError("no"), "failed")])
def test_a_logger_is_told_how_a_launch_ends(observe, error, status):
    told = []

    def launch():
        with observe(lambda run, event: told.append(event.status)) as all_of:
            all_of.begin(0, print)
            raise error

    with pytest.raises(type(error)):
        launch()
    assert told == ["", status]


def test_a_launch_that_did_not_begin_has_no_end(observe):
    told = []
    with pytest.raises(ValueError, match="no"), observe(lambda run, event: told.append(event)):
        raise ValueError("no")
    assert told == []


def test_the_name_of_the_run_and_a_line_of_the_logger(observe):
    printed = []
    with observe(lambda run, event: run.say(f"{run.name} {event.kind}"), run_name="b") as all_of:
        all_of.begin(0, printed.append)
    assert printed == ["b start", "b end"]


@pytest.mark.parametrize("background", [False, True])
def test_a_line_that_cannot_be_printed_is_no_failure_of_the_logger(observe, caplog, background):
    told = []

    def closed(line):
        raise ValueError("I/O operation on closed file")

    def log(run, event):
        run.say(f"a page for {event.kind}")
        told.append(event.kind)

    with observe(log, background) as all_of:
        all_of.begin(0, closed)
        all_of("log", 1, {})
    assert told == ["start", "log", "end"]
    assert caplog.messages[0].startswith("a line of a logger cannot be kept (ValueError: I/O operation on closed file")
    assert caplog.messages[0].endswith(": a page for start")


def test_a_logger_gets_copies(observe):
    state, metrics, seen = {"w": jnp.zeros(3)}, {"loss": 1.0}, []

    def spoil(run, event):
        if event.kind == "log":
            event.metrics["loss"] = 9.0
            seen.append(event.state()["w"])
            seen[0][:] = 9.0

    with observe(spoil) as all_of:
        all_of.begin(0, print)
        all_of("log", 1, metrics, state)
    assert metrics == {"loss": 1.0}
    np.testing.assert_array_equal(state["w"], np.zeros(3))
    assert isinstance(seen[0], np.ndarray)


@pytest.mark.parametrize("background", [False, True])
def test_a_logger_changes_nothing_for_the_next_one(background):
    told = []

    def make_spoiler(*, run):
        run.config["model"]["name"] = "spoilt"

        def spoil(event):
            event.metrics.clear()
            event.metrics["spoilt"] = 1.0

        return spoil

    def make_reader(*, run):
        return lambda event: told.append((event.kind, dict(event.metrics), run.config))

    made = {"spoiler": make_spoiler, "reader": make_reader}
    entries = [loggers.Entry(name, LoggerSection(name), make, {}, background) for name, make in made.items()]
    run = RUN._replace(config={"model": {"name": "vit"}})
    with Observers(entries, run) as all_of:
        all_of.begin(0, print)
        all_of("log", 1, {"loss": 1.0})
        all_of.results = {"val/top1": 0.5}
    config = {"model": {"name": "vit"}}
    assert told == [("start", {}, config), ("log", {"loss": 1.0}, config), ("end", {"val/top1": 0.5}, config)]
    assert run.config == config


def test_a_state_over_several_devices_is_whole_on_the_host(observe, mesh):
    sharding = jax.sharding.NamedSharding(mesh(8), jax.sharding.PartitionSpec("data"))
    state, seen = {"w": jax.device_put(jnp.arange(16), sharding)}, []
    with observe(lambda run, event: event.kind == "log" and seen.append(event.state()["w"])) as all_of:
        all_of.begin(0, print)
        all_of("log", 1, {}, state)
    np.testing.assert_array_equal(seen[0], np.arange(16))


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("error", [KeyError("los"), SystemExit(3)])
def test_a_failure_is_a_warning_and_the_next_event_comes(observe, caplog, background, error):
    told = []

    def fail(run, event):
        told.append(event.step)
        if event.kind == "log":
            raise error

    with caplog.at_level(logging.WARNING), observe(fail, background) as all_of:
        all_of.begin(0, print)
        for step in (1, 2):
            all_of("log", step, {})
    assert told == [0, 1, 2, 2]
    first, count = [record.message for record in caplog.records]
    assert first.startswith(f"the logger 'mine' failed at step 1 (log): {type(error).__name__}: ")
    assert first.endswith("It is called again, and training continues; metrics.jsonl has all numbers")
    assert count == "the logger 'mine' failed at 2 events; metrics.jsonl has all numbers"


def test_a_logger_that_cannot_start_is_not_called_again(observe, caplog):
    told = []

    def fail(run, event):
        told.append(event.kind)
        raise ConnectionError("no network")

    with observe(fail, background=True) as all_of:
        all_of.begin(0, print)
        all_of("log", 1, {})
    assert told == ["start"]
    assert "failed at step 0 (start): ConnectionError: no network. It is not called again" in caplog.text


def test_a_slow_logger_stops_nothing(observe, caplog, monkeypatch):
    monkeypatch.setattr(observers, "END_SECONDS", 0.05)
    monkeypatch.setattr(observers, "MOST_WAITING", 10)
    go_on = threading.Event()
    with observe(lambda run, event: go_on.wait(), background=True) as all_of:
        all_of.begin(0, print)
        for step in range(100):
            all_of("log", step, {})
    assert caplog.messages == ["the logger 'mine' has not finished and is left behind; metrics.jsonl has all numbers"]
    go_on.set()


def test_events_that_are_left_out_are_counted(observe, caplog, monkeypatch):
    monkeypatch.setattr(observers, "MOST_WAITING", 10)
    go_on, told = threading.Event(), []

    def wait(run, event):
        go_on.wait()
        told.append(event.kind)

    with observe(wait, background=True) as all_of:
        all_of.begin(0, print)
        for step in range(100):
            all_of("log", step, {})
        go_on.set()
    assert told[0] == "start"
    assert told[-1] == "end"
    left_out = 102 - len(told)
    assert caplog.messages == [f"the logger 'mine' was too slow for {left_out} events; metrics.jsonl has all numbers"]


def test_a_logger_in_the_background_gets_no_state(observe, caplog):
    with observe(lambda run, event: event.kind == "log" and event.state(), background=True) as all_of:
        all_of.begin(0, print)
        all_of("log", 1, {}, {"w": jnp.zeros(3)})
    assert "a logger in the background gets no state" in caplog.text
