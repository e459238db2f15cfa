"""Kinds of time add up to the whole, under a clock that the test turns."""

import contextlib
import json

import pytest

from jaxvision import launches
from jaxvision.errors import UserError
from jaxvision.train import goodput as goodputs
from jaxvision.train.goodput import Goodput
from jaxvision.train.watch import Preempted


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def turn(seconds):
        now[0] += seconds

    return turn


def spent(goodput):
    record = goodput.record()
    assert sum(record["seconds"].values()) == pytest.approx(record["wall"])
    return {kind: seconds for kind, seconds in record["seconds"].items() if seconds}


def test_kinds_of_time_add_up(clock):
    goodput = Goodput(began=90.0)
    clock(5)
    goodput.turn("productive")
    for length in (32, 1, 32):
        with goodput.dispatch(length):
            clock(2)
    with goodput.spent("checkpoint") as outer:
        clock(1)
        with goodput.spent("data_wait") as inner:
            clock(3)
    clock(4)
    assert (outer.seconds, inner.seconds) == (4, 3)
    expected = {"start_up": 15, "compile": 4, "productive": 6, "checkpoint": 1, "data_wait": 3}
    assert spent(goodput) == expected
    with contextlib.suppress(KeyError), goodput.spent("evaluation"):
        clock(7)
        raise KeyError
    clock(1)
    assert spent(goodput) == expected | {"evaluation": 7, "productive": 7}


def launch(workdir, clock, start, steps, saves=(), silent=0.0, error=None):
    """A launch of steps of a second each; a kill leaves no word."""
    path = workdir / "run.json"
    before = json.loads(path.read_text())["launches"] if path.exists() else []
    path.write_text(json.dumps({"launches": [*before, {"start_step": start}]}))
    goodput = Goodput()

    def work(account):
        clock(10)
        account.begin(start)
        goodput.turn("productive")
        for step in range(start + 1, start + steps + 1):
            clock(1)
            if step in saves:
                goodput.saved(step)
        clock(silent)
        if error:
            raise error

    try:
        if error is None:  # killed
            work(launches.Account(workdir, goodput))
        else:
            with launches.account(workdir, goodput) as account:
                work(account)
    except (Preempted, ValueError):
        pass
    return json.loads(path.read_text())


def test_steps_that_are_done_again_are_lost(tmp_path, clock):
    killed = launch(tmp_path, clock, 0, 25, saves=(10, 20))
    assert (killed["launches"][0]["goodput"]["end"], killed["goodput"]["wall"]) == ("running", 30)
    stopped = launch(tmp_path, clock, 10, 7, saves=(17,), error=Preempted())  # the save of 20 was not finished
    first, second = (one["goodput"] for one in stopped["launches"])
    assert (first["end"], first["step"], second["end"]) == ("killed", 10, "stopped")
    assert (first["seconds"]["productive"], first["seconds"]["lost"], second["seconds"]["lost"]) == (10, 10, 0)
    failed = launch(tmp_path, clock, 17, 3, error=ValueError())
    assert failed["launches"][2]["goodput"]["end"] == "failed"
    again = launch(tmp_path, clock, 17, 1)["goodput"]
    assert again["launches"] == 4
    assert sum(again["seconds"].values()) == pytest.approx(again["wall"])
    assert again["seconds"]["productive"] == 10 + 7  # the third had not saved its steps, nor has the last
    assert again["seconds"]["lost"] == 10 + 3


def test_what_a_killed_launch_wrote_after_its_last_save_is_lost(tmp_path, clock, monkeypatch):
    record = {"end": "running", "step": 5, "wall": 20.0, "updated": 1000.0, "marks": []}
    record["seconds"] = dict.fromkeys(goodputs.KINDS, 0.0) | {"start_up": 20.0}
    assert launches._ended(record, 5, seen=1007.5)["seconds"]["lost"] == 7.5
    assert launches._ended(record, 5, seen=0.0)["wall"] == 20.0


def test_the_start_of_this_process_is_not_in_the_future():
    import time

    assert 0 <= time.perf_counter() - goodputs.process_began() < 24 * 3600


@pytest.mark.parametrize("damaged", [7, {"end": "running"}, {"end": 1, "seconds": {}, "marks": []}])
def test_a_damaged_account_is_left_out(tmp_path, clock, damaged):
    first = launch(tmp_path, clock, 0, 5, saves=(5,), error=Preempted())
    first["launches"][0]["goodput"] = damaged
    (tmp_path / "run.json").write_text(json.dumps(first))
    assert launch(tmp_path, clock, 5, 5, error=Preempted())["goodput"]["launches"] == 1


def test_a_writer_no_more_leaves_the_account_of_the_next_alone(tmp_path, clock):
    def taken_over():
        raise UserError("another process writes there")

    launch(tmp_path, clock, 0, 5, saves=(5,), error=Preempted())
    account = launches.Account(tmp_path, Goodput(), taken_over)
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(UserError):
        account.begin(5)
    account.end("failed")
    assert (tmp_path / "run.json").read_text() == before
