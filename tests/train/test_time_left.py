"""The time left is that of the steps and pauses ahead, by what they took in this launch. The clock is a fake one."""

from types import SimpleNamespace

import pytest

from jaxvision.train import time_left
from jaxvision.train.time_left import TimeLeft


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(time=1000.0)
    monkeypatch.setattr(time_left.time, "perf_counter", lambda: now.time)
    return now


def run(clock, left, steps, *, seconds, compiling=0.0, log_every=1, pauses=()):
    """Takes steps, the first `compiling` longer, and `pauses` (name, interval, seconds). Returns what logs say."""
    left_by_step = {}
    for step in steps:
        took = seconds + (compiling if step == steps[0] else 0)
        clock.time += took
        left.dispatched(1, took)
        if step % log_every == 0:
            left.logged(step)
            left_by_step[step] = left.seconds(step)
        for name, every, cost in pauses:
            if step % every == 0:
                clock.time += cost
                left.paused(name, cost)
    return left_by_step


def test_of_a_resumed_run_only_its_own_steps_count_and_compiling_does_not(clock):
    left_by_step = run(clock, TimeLeft(900, 1000, {}), range(901, 1001), seconds=2.0, compiling=300.0)
    assert left_by_step[901] is None
    assert left_by_step[902] == pytest.approx(196.0)
    assert left_by_step[1000] == 0.0


@pytest.mark.parametrize("start", [0, 900])
def test_what_is_told_is_what_it_takes(clock, start):
    """Logs every 10 steps, an evaluation of 40 s every 25, a checkpoint of 5 s every 50, both at the end too."""
    pauses = [("val", 25, 40.0), ("checkpoint", 50, 5.0)]
    left, at = TimeLeft(start, 1000, {name: every for name, every, _ in pauses}), {}
    left_by_step = run(clock, left, range(start + 1, 1001), seconds=2.0, compiling=300.0, log_every=10, pauses=pauses)
    assert left_by_step[start + 20] == pytest.approx(2.0 * (1000 - start - 20))  # no pause was seen yet
    for step in (start + 60, 990):
        pauses_ahead = 40 * (40 - -(-step // 25) + 1) + 5 * (20 - -(-step // 50) + 1)
        at[step] = 2.0 * (1000 - step) + pauses_ahead
        assert left_by_step[step] == pytest.approx(at[step])
    assert left_by_step[1000] == 45.0  # the last evaluation and checkpoint are ahead


def test_a_pause_that_did_not_happen_yet_counts_as_the_work_that_it_is_at_least(clock):
    left = TimeLeft(0, 100, {"val": 25, "checkpoint": 50}, {"val": 4.0})
    left_by_step = run(clock, left, range(1, 21), seconds=2.0, compiling=300.0)
    assert left_by_step[20] == pytest.approx(2.0 * 80 + 4 * (4 * 2.0))  # evaluations at 25, 50, 75 and 100
    assert left.is_bound()
    left.paused("val", 40.0, once=10.0)
    assert left.seconds(25) == pytest.approx(2.0 * 75 + 4 * 30.0)  # without what compiling took
    assert left.is_bound()  # there was no checkpoint yet
    left.paused("checkpoint", 5.0)
    assert not left.is_bound()


def test_a_pause_at_the_end_only_is_expected_once(clock):
    left = TimeLeft(0, 100, {"val": 0})
    run(clock, left, range(1, 4), seconds=1.0)
    left.paused("val", 7.0)
    assert left.seconds(3) == pytest.approx(97 + 7)


def test_the_speed_is_the_latest(clock):
    left = TimeLeft(0, 10_000, {})
    run(clock, left, range(1, 1001), seconds=1.0, log_every=10)
    left_by_step = run(clock, left, range(1001, 2001), seconds=4.0, log_every=10)
    assert left_by_step[2000] == pytest.approx(4.0 * 8000, rel=0.01)


def test_dispatches_of_two_lengths_compile_twice(clock):
    left = TimeLeft(0, 320, {})
    for length, took in ((32, 50.0), (32, 3.2), (1, 40.0), (1, 0.1)):
        clock.time += took
        left.dispatched(length, took)
    left.logged(66)
    assert left.seconds(66) == pytest.approx(0.1 * (320 - 66))
