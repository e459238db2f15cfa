"""The loop: steps, logs, evaluations, checkpoints. It knows neither data sets, nor models, nor labels."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

from jaxvision.errors import UserError
from jaxvision.parallel.gate import Stopped, gate
from jaxvision.tasks.task import Metrics
from jaxvision.train import finite, skips
from jaxvision.train.checkpoint import Checkpoints
from jaxvision.train.feed import Feed
from jaxvision.train.goodput import Goodput
from jaxvision.train.journal import PROGRESS, Journal
from jaxvision.train.metrics import Records
from jaxvision.train.progress import Guessing, Reporter, words
from jaxvision.train.state import TrainState
from jaxvision.train.throughput import Throughput
from jaxvision.train.time_left import TimeLeft
from jaxvision.train.watch import Preempted, StopSignal
from jaxvision.train.watchdog import Ahead


class Evaluation(NamedTuple):
    """An evaluator, its name in the config, and how often it runs (0: at the end only).

    `cautions` are lines about its data that a person should read before it runs.
    """

    name: str
    every: int
    run: Callable[[TrainState], dict[str, float]]
    cautions: tuple[str, ...] = ()


class Schedule(NamedTuple):
    """Lengths in steps; an interval of 0 means at the end only.

    Attributes:
      total: of the run.
      log_every, checkpoint_every: intervals.
      warmup: of the learning rate.
    """

    total: int
    log_every: int
    checkpoint_every: int
    warmup: int = 0


class Loop:
    """Training from `state.step` to the end, with logs, evaluations and checkpoints on the way and there.

    Between two dispatches `state` is the state after `step` steps.

    Args:
      state: State to start from; donated.
      run: Runner from `step.make_runner`.
      feed: Source of the items that `run` takes.
      schedule: Total steps, and the intervals of logs and checkpoints.
      evaluations: Evaluations, run at their intervals.
      checkpoints: Writer of the state.
      meta: JSON that is saved with each checkpoint.
      records: Writer of the numbers.
      reporter: Display for a person.
      throughput: Meter of the speed.
      extra: Function from the number of updates (the steps without the skipped ones) to more numbers for a log, such as
        the learning rate of the latest update.
      journal: Journal that the checkpoint of `state.step` carries; None for a new run.
      goodput: Meter of where the time goes; None for a new one.
      stop_after: Step after which to stop, as a signal would; a step after the end has no effect.
    """

    def __init__(
        self,
        state: TrainState,
        run: Callable,
        feed: Feed,
        schedule: Schedule,
        *,
        evaluations: list[Evaluation],
        checkpoints: Checkpoints,
        meta: dict[str, Any],
        records: Records,
        reporter: Reporter,
        throughput: Throughput,
        extra: Callable[[int], dict[str, float]],
        journal: Journal | None = None,
        goodput: Goodput | None = None,
        stop_after: int | None = None,
    ):
        self.state, self.step = state, int(state.step)
        self._first, self._total, self._schedule = self.step, schedule.total, schedule
        self._run, self._feed, self._evaluations = run, feed, evaluations
        self._checkpoints, self._meta, self._records = checkpoints, meta, records
        self._reporter, self._throughput, self._extra = reporter, throughput, extra
        self._journal = journal or Journal(self.step, bad=feed.bad)
        self._goodput, self._stop_after = goodput or Goodput(), stop_after

    def run(self) -> tuple[TrainState, dict[str, float]]:
        """Trains to the end; to be called once.

        Returns:
          The final state and the results of the last evaluations, `{"NAME/metric": value}`.

        Raises:
          TooManySkipped: More steps in a row were skipped than the config allows; the state before them is saved.
          UserError: More examples cannot be read than the config allows; the state before them is saved.
          Preempted: SIGTERM or SIGINT arrived; the state is saved.
        """
        if self._stop_after is not None and self._stop_after <= self.step < self._total:
            what = f"already at step {self.step} of {self._total}"
            raise Preempted(f"{what}, after step {self._stop_after} where to stop")
        self._plan()
        self._throughput.reset()
        self._goodput.turn("productive")
        try:
            with StopSignal(armed=False) as signal, gate.busy(None):
                try:
                    self._take_steps(signal)
                except Preempted as reason:
                    # From `gate.tick`, before a step or in an evaluation: `state` is whole, and that of `step`.
                    self._save_now()
                    why = f"stopped by {reason} after step {self.step} of {self._total}; the state is saved"
                    raise Preempted(why) from None
        finally:
            self._goodput.turn("other")
            self._items.close()
            self._reporter.close()
        numbers = self._journal.results(self.step).values()
        return self.state, {name: value for one in numbers for name, value in one.items()}

    def _plan(self) -> None:
        """Splits the way to the end into dispatches, and opens the data of all of them."""
        intervals = {f"evals.{e.name}": e.every for e in self._evaluations}
        intervals["checkpoint"] = self._schedule.checkpoint_every
        stops = _stops(self.step, self._total, [self._schedule.log_every, *intervals.values()])
        if self._stop_after is not None and self._stop_after < self._total:
            stops = sorted({stop for stop in stops if stop < self._stop_after} | {self._stop_after})
        self._boundaries = set(stops)
        self._lengths = list(_lengths(self.step, stops, self._feed.max_steps))
        self._items = self._feed.items(self.step, self._lengths)
        self._time_left = TimeLeft(self.step, self._total, intervals)
        self._guessing = Guessing(self._total, self._schedule.warmup)
        if "guessing" in self._journal.carried:
            self._guessing.load(self._journal.carried["guessing"])

    def _take_steps(self, signal: StopSignal) -> None:
        """Takes the steps that are left, with all that is due between them."""
        ahead = Ahead()
        if self.step == self._total:
            signal.arm()
        self._catch_up()
        for length in self._lengths:
            metrics = self._dispatch(length)
            signal.arm()  # while the first step was compiled there was nothing to save
            ahead.dispatched(metrics)
            if self.step in self._boundaries:
                self._boundary()
            if self.step == self._stop_after and self.step < self._total:
                raise Stopped("request")

    def _dispatch(self, length: int) -> Metrics:
        """Waits for the data of the next `length` steps and takes them; the devices may still be at it on return."""
        with self._goodput.spent("data_wait") as waited, self._saving():
            item = next(self._items)
            self._journal.check(self.step + length)
        self._throughput.waited(waited.seconds)
        gate.tick(compiles=self._goodput.compiles(length))
        with self._goodput.dispatch(length) as dispatched:
            self.state, metrics = self._run(self.state, self._feed.constants, item)
        self._time_left.dispatched(length, waited.seconds + dispatched.seconds)
        self.step += length
        self._journal.stepped(metrics)
        self._throughput.stepped(length)
        return metrics

    def _boundary(self) -> None:
        """Logs, evaluates and saves, as far as that is due."""
        to_log, to_save = self._due(self._schedule.log_every), self._due(self._schedule.checkpoint_every)
        if to_save:  # else a kill would lose two intervals, where a step takes longer to write than one
            with self._pause("checkpoint", "checkpoint"), gate.busy("saving"):
                self._checkpoints.wait()
        too_many_bad = (to_log or to_save) and self._journal.settle(self.step)
        if to_log:
            self._log()
        if self._journal.stop:
            raise self._too_many_skipped()
        for evaluation in () if too_many_bad else self._owed():
            with self._saving():
                self._evaluate(evaluation)
        if to_save or too_many_bad:
            self._save()
        if too_many_bad:
            self._checkpoints.wait()
            raise UserError(f"{self._journal.too_many(self.step)}. The state of step {self.step} is saved")

    def _due(self, every: int) -> bool:
        return self.step == self._total or (every > 0 and self.step % every == 0)

    def _owed(self) -> list[Evaluation]:
        """The evaluations that are due at this step and have no results yet."""
        return [e for e in self._evaluations if self._due(e.every) and e.name not in self._journal.results(self.step)]

    def _catch_up(self) -> None:
        """Evaluates what a stop left out, or a run that ended between its last checkpoint and its results."""
        if self.step and (self._journal.carried or self.step == self._total):
            for evaluation in self._owed():
                self._evaluate(evaluation)

    def _log(self) -> None:
        journal, step = self._journal, self.step
        taken = (journal.stop.step if journal.stop else step) - int(journal.guard.get("skipped", 0))
        length, values = step - journal.since, journal.line(step)
        values |= self._throughput.read() | self._extra(max(taken, 1))
        with self._goodput.spent("other"):
            self._records.write(step, values)
            if note := skips.note(values, length):
                self._reporter.note(note)
            self._time_left.logged(step)
            self._reporter.step(step, values, self._time_left.seconds(step))
            if warning := self._guessing.warning(step, values):
                self._reporter.note(warning)

    def _evaluate(self, evaluation: Evaluation) -> None:
        jax.block_until_ready(self._journal.pending)  # the steps before it are not its time
        with self._pause("evaluation", f"evals.{evaluation.name}"), gate.busy(f"evaluation {evaluation.name}"):
            numbers = evaluation.run(self.state)
        numbers = {f"{evaluation.name}/{name}": value for name, value in numbers.items()}
        self._journal.evaluated(self.step, evaluation.name, numbers)
        self._records.write(self.step, numbers)
        self._reporter.note(f"step {self.step}/{self._total}  {words(numbers)}")

    def _save(self) -> None:
        """Begins to save the state, once the metrics of the steps before it are known."""
        if self._journal.pending:
            self._journal.settle(self.step)
        self._records.flush()
        at = int(self.state.step) if self._journal.stop else self.step  # the state's stands still while it skips
        progress = self._journal.progress(at) | {"lines": self._records.mark(at), "guessing": self._guessing.state()}
        with self._pause("checkpoint", "checkpoint"), gate.busy("saving"):
            self._checkpoints.save(self.state, {**self._meta, PROGRESS: progress})
        self._goodput.saved(at)

    def _save_now(self) -> None:
        """Saves the state and returns when it is on the disk."""
        self._save()
        self._checkpoints.wait()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Saves the state where the work inside fails, for the state is good. Of several, one process may fail."""
        try:
            yield
        except Exception as error:
            if isinstance(error, Preempted) or jax.process_count() > 1 or self.step == self._first:
                raise
            self._save_now()
            if isinstance(error, UserError):
                raise UserError(f"{error}. The state of step {self.step} is saved", error.status) from error
            raise

    def _too_many_skipped(self) -> skips.TooManySkipped:
        """The error of a run that skipped too many steps in a row; its state is saved first, if it is finite."""
        stop, good = self._journal.stop, bool(jax.jit(finite.is_finite)(self.state))
        if good:
            self._journal.guard["in_a_row"] = 0
            self._save_now()
        taken = stop.step - int(self._journal.guard.get("skipped", 0))
        return skips.ends(stop, self._extra(taken + 1).get("learning_rate"), self._feed.examples, good)

    @contextlib.contextmanager
    def _pause(self, kind: str, name: str) -> Iterator[None]:
        """Accounts for time in which no step is taken."""
        with self._goodput.spent(kind) as span:
            yield
        self._throughput.paused(span.seconds)
        self._time_left.paused(name, span.seconds)


def _stops(start: int, total: int, intervals: Iterable[int]) -> list[int]:
    """The steps after `start` at which something other than training happens, ascending."""
    stops = {total} if total > start else set()
    for every in intervals:
        if every > 0:
            stops.update(range(start - start % every + every, total, every))
    return sorted(stops)


def _lengths(start: int, stops: list[int], most: int) -> Iterable[int]:
    """Splits the way to each stop into dispatches of `most` steps or one: two programs to compile."""
    for stop in stops:
        whole, rest = divmod(stop - start, most)
        yield from [most] * whole + [1] * rest
        start = stop
