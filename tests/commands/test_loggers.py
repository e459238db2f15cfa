"""Loggers in a whole run: what they are told, also when it is resumed, and that they change nothing."""

import contextlib
import json
import sys

import pytest

from jaxvision.commands import train
from jaxvision.errors import UserError
from jaxvision.train import observers
from jaxvision.train.metrics import read
from jaxvision.train.watch import Preempted

HOOK = """
import jax

def hook(*, run, file: str, fails: bool = False):
    def log(event):
        with open(file, "a") as f:
            print(event.kind, event.step, run.id, event.status, sorted(event.metrics)[:1], file=f)
        if event.kind in ("log", "evaluation", "checkpoint"):
            assert int(event.state().step) == event.step
        if fails and event.kind != 'start':
            raise KeyError(event.kind)
    return log
"""
TIMES = ("examples_per_second", "data_wait", "mfu")


@pytest.fixture
def hooked(config, own_folder):
    """The config with a hook, and a function that returns what the hook was told."""
    (own_folder / "my_hooks.py").write_text(HOOK)
    config.loggers = dict(mine=dict(name="my_hooks:hook", file=str(own_folder / "told.txt")))
    return config, lambda: [line.split(" ", 4) for line in (own_folder / "told.txt").read_text().splitlines()]


def numbers(workdir):
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read(workdir / "metrics.jsonl")]


def test_a_resumed_run_is_one_run_and_equals_that_without_loggers(hooked, own_folder, trained):
    config, told = hooked
    workdir = own_folder / "runs" / "a"
    with pytest.raises(Preempted):
        train.run_train(config, workdir, quiet=True, stop_after=5)
    results = train.run_train(config, workdir, quiet=True)
    assert numbers(workdir) == numbers(trained[0])  # bit for bit
    assert results == trained[1]
    events = told()
    assert [(kind, int(step)) for kind, step, *_ in events] == [
        ("start", 0), ("log", 2), ("checkpoint", 3), ("log", 4), ("evaluation", 4), ("checkpoint", 5), ("end", 5),
        ("start", 5), ("log", 6), ("evaluation", 6), ("checkpoint", 6), ("end", 6),
    ]  # fmt: skip
    assert [event[3] for event in events if event[0] == "end"] == ["stopped", "finished"]
    assert events[-1][4] == f"{sorted(results)[:1]}"
    launches = json.loads((workdir / "run.json").read_text())["launches"]
    assert {event[2] for event in events} == {launch["id"] for launch in launches}
    assert len({launch["id"] for launch in launches}) == 1


def test_a_hook_that_fails_changes_nothing(hooked, own_folder, trained, caplog):
    config, _ = hooked
    config.loggers.mine.fails = True
    train.run_train(config, own_folder / "b", quiet=True)
    assert numbers(own_folder / "b") == numbers(trained[0])
    assert f"KeyError: 'log', in {own_folder}/my_hooks.py:11 (raise KeyError(event.kind))" in caplog.text


def test_fresh_gives_a_new_id(hooked, own_folder):
    config, told = hooked
    config.train.total = "2 steps"
    for fresh in (False, True):
        train.run_train(config, own_folder / "c", quiet=True, fresh=fresh)
    ids = list(dict.fromkeys(event[2] for event in told()))
    assert len(ids) == 2
    assert json.loads((own_folder / "c" / "run.json").read_text())["launches"][0]["id"] == ids[1]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"mine": {"name": "my_hooks:hoook"}}, "did you mean 'hook'"),
        ({"mine": {"name": "my_hooks:hook"}}, "the config has no 'loggers.mine.file', which is required"),
        ({"mine": {"name": "nobodys:hook"}}, "there is no module 'nobodys'"),
    ],
)
def test_a_mistake_is_found_before_anything_is_written(hooked, own_folder, section, message):
    config, _ = hooked
    config.loggers = section
    with pytest.raises(UserError, match=message):
        train.run_train(config, own_folder / "d", quiet=True)
    assert not (own_folder / "d").exists()


SLOW = """
import threading

from jaxvision.registry import part

told, go_on = [], threading.Event()

@part("logger", background=True)
def slow(*, run):
    def log(event):
        if event.kind == "start":
            assert go_on.wait(60)
            run.say("slow: the page of this run")
        told.append((event.kind, event.status))
    return log
"""


@pytest.mark.parametrize("stop_after", [None, 5])
def test_a_logger_that_starts_more_slowly_than_the_run_is_told_everything(
    config, own_folder, monkeypatch, caplog, stop_after
):
    (own_folder / "my_slow_logger.py").write_text(SLOW)
    config.loggers = dict(slow=dict(name="my_slow_logger:slow"))
    leave = observers.Observers.__exit__

    def left(self, *error):  # the training has ended, and what it opened is closed
        sys.modules["my_slow_logger"].go_on.set()
        leave(self, *error)

    monkeypatch.setattr(observers.Observers, "__exit__", left)
    with pytest.raises(Preempted) if stop_after else contextlib.nullcontext():
        train.run_train(config, own_folder / "runs" / "slow", stop_after=stop_after)
    told = sys.modules["my_slow_logger"].told
    assert [kind for kind, _ in told[:2]] == ["start", "log"]
    assert told[-1] == ("end", "stopped" if stop_after else "finished")
    assert "logger" not in " ".join(caplog.messages)
    assert "slow: the page of this run" in (own_folder / "runs" / "slow" / "console.txt").read_text().splitlines()
