"""The best checkpoint stays, patience ends a run early, and neither depends on where the run was stopped."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.sections import TrainSection
from jaxvision.train import loop
from jaxvision.train.best import Best, make_best
from jaxvision.train.checkpoint import Saved
from jaxvision.train.watch import Preempted

CURVE = [0.5, 0.6, 0.7, 0.69, 0.68]
nan = float("nan")


@pytest.mark.parametrize(
    ("curve", "lowest", "best"),
    [
        (CURVE, False, 2),  # the example of early stopping: the snapshot of index 2
        ([0.5, 0.7, 0.7, 0.6], False, 1),  # of equal values the earliest
        ([2.0, 1.0, 1.5, 0.9], True, 3),
        ([nan, 0.1, nan, 0.2, nan], False, 3),
        ([nan, nan], True, 0),
    ],
)
def test_the_best_of_a_curve(curve, lowest, best):
    record = Best("val", "val/x", lowest=lowest)
    for step, value in enumerate(curve):
        record.judge(step, value)
    assert record.step == best
    again = Best("val", "val/x", lowest=lowest)
    again.load(record.state())
    assert again.state() == record.state()
    other = Best("val", "val/y", lowest=lowest)
    other.load(record.state())  # of another metric
    assert other.step is None


def evaluations(every=2):
    return [
        SimpleNamespace(name="val", every=every, metrics=("top1", "loss", "gap")),
        SimpleNamespace(name="val/r", every=every, metrics=()),
    ]


def made(every=2, **options):
    section = TrainSection(total="9 steps", **options)
    return make_best(section, evaluations(every), lambda duration: int(str(duration).split()[0]))


def test_the_direction_comes_from_the_name_of_the_metric():
    assert made() is None
    assert not made(keep_best="val/top1").lowest
    assert made(keep_best="val/loss").lowest
    assert made(keep_best="val/gap", best_is="lowest").lowest
    assert made(keep_best="val/r/top1").evaluation == "val/r"
    assert made(keep_best="val/top1", patience="3 evaluations").patience == 6
    assert made(keep_best="val/top1", patience="5 steps").patience == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(keep_best="val/top5"), r"'val/top5' is no metric of the evaluation 'val': val/top1, val/gap, val/loss"),
        (dict(keep_best="test/top1"), r"evaluation of train.keep_best.*'test/top1'.*val/top1"),
        (dict(keep_best="val/gap"), "set train.best_is to 'highest' or 'lowest'"),
        (dict(keep_best="val/gap", best_is="smallest"), "'smallest'.*highest"),
        (dict(patience="3 evaluations"), "train.patience has no effect without train.keep_best"),
        (dict(keep_best="val/top1", patience="0 evaluations"), "whole number above 0"),
        (dict(keep_best="val/top1", patience="3 evaluations", every=0), "runs at the end only: set evals.val.every"),
    ],
)
def test_mistakes_are_named_at_the_start(options, message):
    with pytest.raises(UserError, match=message):
        made(**options)


def best_of(curve, every, patience=None):
    """`train` options: an evaluation that returns the values of a curve in turn, judged by its place in the run."""
    run = lambda state: {"top1": curve[int(state.step) // every - 1]}
    at_end = loop.Evaluation("end", 0, lambda state: {"steps": float(state.step)})
    return dict(
        evaluations=[loop.Evaluation("val", every, run), at_end], best=Best("val", "val/top1", patience=patience)
    )


def test_the_best_checkpoint_outlives_the_latest(train, tmp_path):
    options = best_of([0.5, 0.7, 0.6, 0.65, 0.4, 0.3], 2)
    train("a", schedule=(12, 4, 3), **options)
    assert options["best"].record() == {"metric": "val/top1", "step": 4, "value": 0.7}
    assert Saved(tmp_path / "a").steps() == [4, 9, 12]  # the best, and the two latest
    assert Saved(tmp_path / "a").meta(12)["progress"]["best"]["step"] == 4


def test_a_run_ends_when_its_patience_does(train, tmp_path):
    options = best_of([*CURVE, 0.9], 2, patience=4)
    state, results, lines, _ = train("a", schedule=(12, 4, 6), **options)
    assert state.step == 10  # two evaluations after the best one, at step 6
    assert results == {"val/top1": 0.68, "end/steps": 10.0}  # with what is due at the end
    assert Saved(tmp_path / "a").steps() == [6, 10]
    assert [line["step"] for line in lines if "loss" in line] == [4, 8, 10]
    assert "val/top1 was not higher than 70.00% (step 6) up to step 10" in options["best"].reason


@pytest.mark.parametrize("stops", [(5,), (8, 9), (10,)])
def test_a_resumed_run_stops_at_the_same_step(train, stops):
    whole = train("whole", schedule=(12, 4, 6), **best_of([*CURVE, 0.9], 2, patience=4))
    for stop in stops:
        with contextlib.suppress(Preempted):
            train("parts", schedule=(12, 4, 6), stop_after=stop, **best_of([*CURVE, 0.9], 2, patience=4))
    state, results, lines, saved = train("parts", schedule=(12, 4, 6), **best_of([*CURVE, 0.9], 2, patience=4))
    np.testing.assert_array_equal(state.params["w"], whole[0].params["w"])
    assert (int(state.step), results, saved[-1]) == (10, whole[1], 10)
    assert 6 in saved
    known = lambda lines: [{k: v for k, v in line.items() if "per_second" not in k} for line in lines]
    assert [line.keys() for line in known(lines)] == [line.keys() for line in known(whole[2])]


def test_a_stop_during_the_deciding_evaluation_changes_nothing(train, tmp_path):
    first = best_of([*CURVE, 0.9], 2, patience=4)
    judge = first["evaluations"][0].run

    def interrupted(state):
        if int(state.step) == 10:
            raise Preempted("SIGTERM")
        return judge(state)

    first["evaluations"][0] = first["evaluations"][0]._replace(run=interrupted)
    with pytest.raises(Preempted):
        train("a", schedule=(12, 4, 6), **first)
    state, results, _, _ = train("a", schedule=(12, 4, 6), **best_of([*CURVE, 0.9], 2, patience=4))
    assert (int(state.step), results) == (10, {"val/top1": 0.68, "end/steps": 10.0})
    assert Saved(tmp_path / "a").steps() == [6, 10]


def test_an_evaluation_without_the_metric_names_those_that_it_has(train):
    options = best_of(CURVE, 4) | {"best": Best("val", "val/recall")}
    with pytest.raises(UserError, match=r"'val/recall' is no metric of the evaluation 'val': val/top1"):
        train("a", **options)
