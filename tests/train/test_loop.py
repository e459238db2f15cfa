"""The loop with a task that has no labels: boundaries, resuming, signals, losses that are not finite."""

import os
import signal

import jax
import numpy as np
import pytest

from jaxvision.data.order import indices
from jaxvision.train import divergence, loop
from jaxvision.train.checkpoint import Checkpoints, Saved
from jaxvision.train.progress import Reporter
from jaxvision.train.skips import TooManySkipped
from jaxvision.train.watch import Preempted, StopSignal


@pytest.mark.parametrize("chunk", [1, 4])
def test_everything_happens_at_its_step(train, chunk):
    state, results, lines, saved = train("a", chunk=chunk)
    assert state.step == 12
    assert results == {"val/step": 12.0}
    assert saved == [6, 12]
    assert [line["step"] for line in lines if "loss" in line] == [4, 8, 12]  # a checkpoint writes no line
    assert [line["step"] for line in lines if "val/step" in line] == [5, 10, 12]
    assert all(line["step_squared"] == line["step"] ** 2 for line in lines if "loss" in line)


def test_evaluations_that_are_due_are_announced_before_the_first_of_them(train):
    told = []

    def evaluation(name, every):
        def run(state):
            told.append((int(state.step), "run", name))
            return {"step": float(state.step)}

        return loop.Evaluation(name, every, run, expect=lambda state: told.append((int(state.step), "expect", name)))

    train("a", evaluations=[evaluation("often", 4), evaluation("last", 0)])
    assert told == [
        *[(step, what, "often") for step in (4, 8) for what in ("expect", "run")],
        *[(12, what, name) for what in ("expect", "run") for name in ("often", "last")],
    ]


def test_a_run_without_steps_evaluates_its_initial_state(train):
    state, results, lines, _ = train("none", schedule=(0, 0, 0))
    assert state.step == 0
    assert results == {"val/step": 0.0}
    assert [line["step"] for line in lines if "val/step" in line] == [0]


def test_a_stop_behind_the_end_is_none(train):
    whole, results, lines, saved = train("whole")
    beyond, *stopped = train("beyond", stop_after=15)
    jax.tree.map(np.testing.assert_array_equal, whole, beyond)
    assert stopped[0] == results
    assert [line["step"] for line in stopped[1]] == [line["step"] for line in lines]
    assert stopped[2] == saved


def test_resumed_equals_unbroken(train):
    whole, *_ = train("whole")
    with pytest.raises(Preempted, match="after step 7 of 12"):
        train("broken", stop_after=7)
    broken, _, lines, _ = train("broken")
    jax.tree.map(np.testing.assert_array_equal, whole, broken)
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == [4, 8, 12]


def test_a_signal_saves_and_leaves(train):
    def kill(step):
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted, match="SIGTERM after step 9"):
        train("killed", on_step=kill)
    assert train("killed")[0].step == 12
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def poisoned(images, bad):
    """The images with one of the batch of step 4 not finite, and its index."""
    chosen = int(indices(0, 37, 0, 32)[8 * 3])
    pixels = images["image"].astype(np.float32)
    pixels[chosen] = bad
    return {"image": pixels}, chosen


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_step_that_is_not_finite_is_skipped_and_counted(train, images, chunk):
    arrays, _ = poisoned(images, np.inf)
    reporter, printed = Reporter(0, 12, quiet=True), []
    reporter.note = printed.append
    state, _, lines, _ = train("nan", arrays=arrays, reporter=reporter, chunk=chunk)
    logs = [line for line in lines if "loss" in line]
    assert logs[0]["skipped_steps"] == 1  # the image comes again in later epochs
    assert all(np.isfinite(line["loss"]) for line in logs)
    assert logs[0]["step_squared"] == 9.0  # of three updates in four steps: so is the learning rate
    assert printed[0] == "warning: 1 of the last 4 steps were skipped; means are over the others"
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_too_many_skipped_steps_end_a_run_with_its_state_saved(train, images, tmp_path):
    arrays, bad = poisoned(images, np.nan)
    rate = lambda update: {"learning_rate": float(update)}  # of the first update, 1
    with pytest.raises(TooManySkipped, match="the loss of step 4 is nan, and so it was skipped") as caught:
        train("nan", arrays=arrays, schedule=(12, 6, 3), max_skipped=0, extra=rate)
    assert caught.value.report["learning_rate"] == 4.0
    assert caught.value.report["examples"] == indices(0, 37, 24, 32).tolist()
    assert f"Its batch: {bad}, " in str(caught.value)
    assert "saved as step 4" in str(caught.value)
    assert divergence.tells(str(caught.value))
    with Checkpoints(tmp_path / "nan") as checkpoints:
        assert checkpoints.steps() == [3, 4]
    assert train("nan", arrays=arrays, schedule=(5, 6, 3), max_skipped=0)[0].step == 5  # goes on behind that batch


def test_how_many_were_skipped_is_carried_through_a_stop(train, images, tmp_path):
    arrays, _ = poisoned(images, np.nan)
    whole, *_ = train("whole", arrays=arrays)
    with pytest.raises(Preempted):
        train("broken", arrays=arrays, stop_after=4)
    guard = Saved(tmp_path / "broken").meta()["progress"]["guard"]
    assert (guard["in_a_row"], guard["skipped"], guard["count"]) == (1, 1, 3)
    broken, *_ = train("broken", arrays=arrays)
    jax.tree.map(np.testing.assert_array_equal, whole, broken)


def notes(train, name, schedule, ratio):
    reporter, lines = Reporter(0, 12, quiet=True), []
    reporter.note = lines.append
    train(name, schedule=schedule, reporter=reporter, extra=lambda step: {"loss_over_chance": ratio})
    return sum("the loss was that of guessing" in note for note in lines)


def test_a_loss_that_stays_at_guessing_is_told_once_but_not_in_warmup_or_at_once(train):
    assert notes(train, "collapsed", (250, 1, 0), 1.01) == 1
    assert notes(train, "warmup", (250, 1, 0, 100), 1.01) == 0
    assert notes(train, "short", (15, 1, 0), 1.01) == 0
    assert notes(train, "healthy", (250, 1, 0), 0.9) == 0


def test_the_time_left_of_a_resumed_run_is_that_of_its_own_steps(train, monkeypatch):
    """Under a clock that only steps (2 s) and evaluations (10 s, every 5 and at the end) turn."""
    with pytest.raises(Preempted):
        train("broken", stop_after=3, schedule=(12, 1, 6))
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    reporter, printed = Reporter(3, 12, quiet=True), {}
    reporter.step = lambda step, values, left, at_least: printed.update({step: left})

    def evaluate(state):
        now[0] += 10
        return {}

    def on_step(step):
        now[0] += 102 if step == 3 else 2  # the first compiles

    train("broken", schedule=(12, 1, 6), reporter=reporter, on_step=on_step, evaluate=evaluate)
    assert printed == {4: None, 5: 14, 6: 32, 7: 30, 8: 28, 9: 26, 10: 24, 11: 12, 12: 10}


def test_results_of_a_run_without_intervals(train):
    _, results, lines, saved = train("ends", schedule=(3, 0, 0))
    assert saved == [3]
    assert [line["step"] for line in lines] == [3, 3]
    assert results == {"val/step": 3.0}


def test_a_run_that_died_after_its_last_checkpoint_has_its_results(train):
    _, results, before, _ = train("whole")
    _, again, lines, _ = train("whole")
    assert again == results
    assert lines == before  # nothing is evaluated again


def test_a_late_signal_reaches_what_is_around(train):
    def kill(state):
        if state.step == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"step": float(state.step)}

    with StopSignal() as outer:
        assert train("late", evaluate=kill)[0].step == 12
    assert outer.received == "SIGTERM"
