"""The books of a run that was stopped or killed anywhere are those of the unbroken run: lines, results, bad records."""

import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from jaxvision.data.bad import Bad, BadRecords
from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.train import loop
from jaxvision.train.checkpoint import Checkpoints, Saved
from jaxvision.train.exact import ExactSum
from jaxvision.train.feed import Feed
from jaxvision.train.journal import Journal, carried
from jaxvision.train.metrics import Records, read
from jaxvision.train.progress import Reporter
from jaxvision.train.state import TrainState
from jaxvision.train.throughput import Throughput
from jaxvision.train.watch import Preempted

SPEED = {"examples_per_second", "data_wait", "mfu"}
TOTAL, LOG, SAVE, EVALUATIONS = 12, 4, 3, {"a": 5, "b": 6, "end": 0}


class Killed(BaseException):
    """Takes the place of a kill in a process that goes on: nothing of the run catches it."""


@jax.jit
def steps_of(state, _, items):
    """Steps whose metrics are of many sizes, so that a sum in another order would be rounded otherwise."""

    def one(state, item):
        w = state.params["w"] * 0.9 + item
        metrics = {"loss": jnp.sum(w**2), "odd": 10.0 ** (item * 40 - 20) * jnp.sin(state.step * 1.0)}
        return TrainState(state.step + 1, {"w": w}, {}, (), None), metrics

    return jax.lax.scan(one, state, items)


class Numbered(Source):
    """A hundred examples; the batch of each step asks for one."""

    info = Info("numbered", "train", 100, (), 1)

    def __len__(self):
        return 100

    def __getitem__(self, index):
        return {}

    def describe(self, index):
        return f"file {index}"


class Run:
    """Runs in a folder, from its latest checkpoint.

    Every log line, evaluation and save is an event: before or after the event of a number the run is killed.
    """

    def __init__(self, folder, *, chunk=1, bad=(), fraction=0.1):
        self.folder, self.chunk, self.bad, self.fraction = folder, chunk, dict(bad), fraction
        self.events, self.evaluated, self.told = [], [], []

    def __call__(self, stop_after=None, kill=None, after=False, preempt=(), fail=None):
        self.events = []

        def event(name, step, do):
            number = len(self.events)
            self.events.append((name, int(step)))
            if (number, after) == (kill, False):
                raise Killed
            result = do()
            if (number, after) == (kill, True):
                raise Killed
            return result

        def evaluation(name):
            def run(state):
                step = int(state.step)
                if (name, step) in preempt:
                    preempt.remove((name, step))
                    raise Preempted("in the middle")
                if (name, step) == fail:
                    raise UserError("no picture")
                metrics = {"value": float(state.params["w"][0]), "odd": float("nan") if step == 5 else 0.5}
                self.evaluated.append((name, step))
                return event(name, step, lambda: metrics)

            return run

        account = BadRecords(Numbered(), self.fraction)

        def items(start, lengths):
            for length in lengths:
                steps = range(start, start + length)
                for at in steps:
                    account.note(at + 1, [Bad(i, "broken") for i in self.bad.get(at + 1, ())])
                yield jnp.asarray([np.random.default_rng(at).random() for at in steps], jnp.float32)
                start += length

        with Checkpoints(self.folder, keep=2) as checkpoints:
            place = SingleDeviceSharding(jax.devices()[0])
            state = TrainState(jnp.zeros((), jnp.int32), {"w": jnp.zeros(3)}, {}, (), None)
            progress = None
            if checkpoints.steps():
                target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state)
                saved = Saved(self.folder)
                state, progress = saved.restore(target), saved.meta()["progress"]
            first = int(state.step)
            journal = Journal(first, progress, account, self.folder)
            journal.recheck(lambda index: Bad(index, "") if any(index in of for of in self.bad.values()) else None)
            records = Records(self.folder, first, lines=progress and progress["lines"])
            write, save, wait = records.write, checkpoints.save, checkpoints.wait

            def save_durably(state, meta):
                event("save", state.step, lambda: (save(state, meta), wait()))

            checkpoints.save = save_durably
            records.write = lambda step, values: event("line", step, lambda: write(step, values))
            reporter = Reporter(first, TOTAL, quiet=True)
            reporter.note = self.told.append
            try:
                return loop.Loop(
                    state,
                    steps_of,
                    Feed({}, None, items, self.chunk, account),
                    loop.Schedule(TOTAL, LOG, SAVE),
                    evaluations=[loop.Evaluation(name, every, evaluation(name)) for name, every in EVALUATIONS.items()],
                    checkpoints=checkpoints,
                    meta={},
                    records=records,
                    reporter=reporter,
                    throughput=Throughput(1, None),
                    extra=lambda step: {"rate": 1 / step},
                    journal=journal,
                    stop_after=stop_after,
                ).run()
            finally:
                records.close()

    def lines(self):
        return [{k: v for k, v in line.items() if k not in SPEED} for line in read(self.folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("unbroken"), bad={2: [7], 8: [7, 8]})
    state, results = run()
    return run, jax.device_get(state), results


def assert_same(run, results, unbroken):
    whole, _, expected = unbroken
    assert run.lines() == whole.lines()
    assert {k: repr(v) for k, v in results.items()} == {k: repr(v) for k, v in expected.items()}  # nan, too


def test_the_lines_of_the_unbroken_run(unbroken):
    """Its means against a loop in NumPy."""
    lines = unbroken[0].lines()
    kinds = [(line["step"], next(iter(name for name in line if name != "step")).partition("/")[0]) for line in lines]
    assert kinds == [
        (4, "loss"),
        (5, "a"),
        (6, "b"),
        (8, "loss"),
        (10, "a"),
        *((12, n) for n in ("loss", *EVALUATIONS)),
    ]
    logs = [line for line in lines if "loss" in line]
    assert [line["bad_records"] for line in logs] == [1, 2, 2]
    assert ["first_loss" in line for line in logs] == [True, False, False]
    w, losses = np.zeros(3, np.float32), []
    for step in range(TOTAL):
        w = w * np.float32(0.9) + np.float32(np.random.default_rng(step).random())
        losses.append(float(np.sum(w**2)))
    for number, line in enumerate(logs):
        assert line["loss"] == pytest.approx(np.mean(losses[4 * number : 4 * number + 4]), rel=1e-5)
    assert logs[0]["first_loss"] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("stops", [*([n] for n in range(1, 12)), range(1, 12), [2, 5, 6, 10], [4, 4, 8]], ids=str)
def test_stopped_anywhere_equals_unbroken(unbroken, tmp_path, stops):
    run = Run(tmp_path, bad=unbroken[0].bad)
    for stop in stops:
        with pytest.raises(Preempted):
            run(stop_after=stop)
    _, results = run()
    assert_same(run, results, unbroken)
    assert sorted(run.evaluated) == sorted(unbroken[0].evaluated), "an evaluation ran twice, or never"


# What happens at a boundary, in order, and the first event of the run that goes on after a kill before or after it: the
# line of step 4 where nothing is saved yet, else what follows the latest save. All of it is as in the unbroken run.
ORDER = [
    *[("save", 3), ("line", 4), ("a", 5), ("line", 5)],
    *[("b", 6), ("line", 6), ("save", 6), ("line", 8), ("save", 9), ("a", 10), ("line", 10)],
    *[("line", 12), ("a", 12), ("line", 12), ("b", 12), ("line", 12), ("end", 12), ("line", 12), ("save", 12)],
]


def test_killed_before_and_after_every_event_equals_unbroken(unbroken, tmp_path):
    assert unbroken[0].events == ORDER
    for number, after in itertools.product(range(len(ORDER)), (False, True)):
        run = Run(tmp_path / f"{number}{after}", bad=unbroken[0].bad)
        with pytest.raises(Killed):
            run(kill=number, after=after)
        _, results = run()
        assert_same(run, results, unbroken)
        saves = [i for i, (name, _) in enumerate(ORDER[: number + after]) if name == "save"]
        assert run.events == ORDER[(saves[-1] + 1 if saves else 0) :]


def test_killed_while_it_catches_up_on_an_evaluation(unbroken, tmp_path):
    run = Run(tmp_path, bad=unbroken[0].bad)
    with pytest.raises(Preempted):
        run(preempt=[("b", 6)])
    for number, after in itertools.product(range(2), (False, True)):
        with pytest.raises(Killed):
            run(kill=number, after=after)
        assert run.events[0] == ("b", 6)
    _, results = run()
    assert_same(run, results, unbroken)


@pytest.mark.parametrize("at", [("a", 5), ("b", 6), ("a", 12), ("end", 12)], ids=str)
def test_an_evaluation_that_was_interrupted_runs_again(unbroken, tmp_path, at):
    run, preempt = Run(tmp_path, bad=unbroken[0].bad), [at]
    with pytest.raises(Preempted, match=f"after step {at[1]} of 12"):
        run(preempt=preempt)
    _, results = run()
    assert_same(run, results, unbroken)
    assert sorted(run.evaluated) == sorted(unbroken[0].evaluated)


def test_an_evaluation_that_fails_leaves_the_state_and_runs_again(unbroken, tmp_path):
    run = Run(tmp_path, bad=unbroken[0].bad)
    with pytest.raises(UserError, match="no picture. The state of step 5 is saved"):
        run(fail=("a", 5))
    with pytest.raises(UserError, match="no picture$"):
        run(fail=("a", 5))  # at once
    assert run.events == []
    _, results = run()
    assert_same(run, results, unbroken)


def test_bad_examples_stop_the_run_before_their_batch_and_go_on_when_mended(tmp_path):
    """Of 3 examples that may be bad, the fourth comes at step 8, where the reader has run ahead to step 12."""
    bad = {2: [7], 3: [7, 8], 5: [9], 8: [8, 20], 11: [21]}
    run = Run(tmp_path / "run", bad=bad, fraction=0.03)
    for _ in range(2):  # the same at the same place
        with pytest.raises(UserError) as error:
            run()
        text = str(error.value)
        assert "4 examples of numbered cannot be read, more than the 3" in text
        assert "file 7, file 8, file 9, file 20 (the last: broken)" in text
        assert "raise data.max_bad_fraction and add --resume" in text
        named = [json.loads(line) for line in (tmp_path / "run" / "bad_records.jsonl").read_text().splitlines()]
        assert [(one["step"], one["index"], one["name"]) for one in named] == [
            *[(2, 7, "file 7"), (3, 8, "file 8"), (5, 9, "file 9"), (8, 20, "file 20")]
        ]
    assert Checkpoints(run.folder).steps()[-1] == 7
    mended = {step: [i for i in of if i < 20] for step, of in bad.items()}
    run.bad = mended
    _, results = run()
    whole = Run(tmp_path / "whole", bad=mended, fraction=0.03)
    expected = whole()
    assert_same(run, results, (whole, *expected))
    raised = Run(tmp_path / "whole2", bad=bad, fraction=0.05)
    raised()
    assert [line["bad_records"] for line in raised.lines() if "loss" in line] == [2, 4, 5]


def test_an_account_with_too_many_is_looked_at_again(tmp_path):
    """As of a run of several processes, which see only at a log what the others met."""
    bad = BadRecords(Numbered(), 0.02)
    bad.note(1, [Bad(i, "broken") for i in range(5)])
    bad.advance(1)
    carried = {"bad": bad.state(), "interval": {}, "evaluated": {}}
    journal = Journal(4, carried, BadRecords(Numbered(), 0.02), tmp_path)
    with pytest.raises(
        UserError, match=r"4 examples of numbered .* more than the 2 .* \(the first are named in .*bad_rec"
    ):
        journal.recheck(lambda index: Bad(index, "still") if index else None)
    journal = Journal(4, carried, BadRecords(Numbered(), 0.02), tmp_path)
    journal.recheck(lambda index: Bad(index, "still") if index == 3 else None)
    assert journal.progress(4)["bad"]["indices"] == [3]


@pytest.mark.parametrize("seed", range(3))
def test_exact_sums_are_those_of_fsum_in_any_portions(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=1000) * 10.0 ** rng.integers(-30, 30, 1000)
    for array in (values.astype(np.float32), values, values[:1], np.float32([1e-45, 3e38, -3e38])):
        made = ExactSum()
        for portion in np.split(array, sorted(rng.integers(0, len(array) + 1, 4))):
            made.add(portion)
            made = ExactSum.read(json.loads(json.dumps(made.written())))
        assert made.mean() == math.fsum(array) / len(array)
        assert len(json.dumps(made.written())) < 200
    for odd in ([np.inf, 1.0], [-np.inf], [np.nan, np.inf], [np.inf, -np.inf]):
        made = ExactSum()
        made.add(np.float32(odd))
        with np.errstate(invalid="ignore"):
            np.testing.assert_equal(ExactSum.read(made.written()).mean(), float(np.sum(np.float32(odd))))


def test_carried_evaluations_are_those_of_the_same_section():
    of = lambda **evals: {"evals": evals}
    evaluated = {name: {f"{name}/top1": "0.5"} for name in ("val", "sets/a", "sets/b", "gone")}
    meta = {"progress": {"evaluated": evaluated}, "config": of(val={"k": [1, 2]}, sets={"x": 1}, gone={})}
    names = carried(meta, of(val={"k": (1, 2)}, sets={"x": 2}))
    assert list(names["evaluated"]) == ["val"]
    assert carried({"config": {}}, {}) is None  # a checkpoint of an earlier version
