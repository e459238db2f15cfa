"""The training loop: steps, logs, evaluations, checkpoints. It knows nothing of data sets, models or labels."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

from jaxvision.errors import UserError
from jaxvision.parallel.distributed import text_of_process_0
from jaxvision.parallel.gate import Stopped, gate
from jaxvision.tasks.task import Metrics
from jaxvision.train import compiling, finite, skips
from jaxvision.train.best import Best, check_metric
from jaxvision.train.checkpoint import Checkpoints
from jaxvision.train.feed import Feed, Items
from jaxvision.train.goodput import Goodput
from jaxvision.train.journal import PROGRESS, Journal
from jaxvision.train.metrics import NoRecords, Records
from jaxvision.train.profiler import Profiler
from jaxvision.train.progress import Guessing, Reporter, words
from jaxvision.train.state import TrainState
from jaxvision.train.throughput import Throughput
from jaxvision.train.time_left import TimeLeft
from jaxvision.train.watch import Preempted, StopSignal
from jaxvision.train.watchdog import Ahead


class Evaluation(NamedTuple):
    """An evaluation of the state during training.

    Attributes:
      name: Name in the config.
      every: Interval in steps; 0 to run it only at the end.
      run: Function of the state that returns the results by name.
      cautions: Warnings about its data, printed before training.
      examples: Number of examples that it reads, for the estimate of the time left; 0 if it is not known.
      expect: Function of the state that announces that `run` is going to be called with it. It is called for all
        evaluations that are due before the first one runs, so that they can share work.
      metrics: Names of the metrics in its results that are known before it ran; empty if they are not.
    """

    name: str
    every: int
    run: Callable[[TrainState], dict[str, float]]
    cautions: tuple[str, ...] = ()
    examples: int = 0
    expect: Callable[[TrainState], None] = lambda state: None
    metrics: tuple[str, ...] = ()


class Schedule(NamedTuple):
    """The length and the intervals of a run, in steps.

    Attributes:
      total: Length of the run.
      log_every, checkpoint_every: Intervals; 0 to log, or to save, at the end only.
      warmup: Length of the warm-up of the learning rate.
    """

    total: int
    log_every: int
    checkpoint_every: int
    warmup: int = 0


class Loop:
    """Trains from `state.step` to the end, with logs, evaluations and checkpoints.

    Between two dispatches, `state` is the state after `step` steps.

    Args:
      state: State to start from; it is donated.
      run: Runner from `step.make_runner`.
      feed: Data of the steps, the items that `run` takes.
      schedule: Length of the run, and the intervals of logs and checkpoints.
      evaluations: Evaluations, run at their intervals.
      checkpoints: Writer of checkpoints.
      meta: JSON that is saved with each checkpoint.
      records: Writer of metrics.
      reporter: Display of the progress.
      throughput: Meter of the speed.
      extra: Function of the number of updates (steps without the skipped ones) that returns more numbers for a log
        line, such as the learning rate of the latest update.
      journal: Journal from the checkpoint of `state.step`; None for a new run.
      goodput: Meter of where the time goes; None for a new one.
      stop_after: Step after which to save and stop, as after a signal; a step after the end has no effect.
      tell: Function that is called with the kind of an event ("log", "evaluation", "checkpoint"), the step, the numbers
        and the state, which it may not keep; see `observers.Observers`.
      profiler: Recorder of some of the steps, or None.
      best: Record of the best evaluation, whose checkpoint is kept and which may end the run early; None for none.

    Attributes:
      state: State after the steps so far.
      step: Number of steps taken.
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
        records: Records | NoRecords,
        reporter: Reporter,
        throughput: Throughput,
        extra: Callable[[int], dict[str, float]],
        journal: Journal | None = None,
        goodput: Goodput | None = None,
        stop_after: int | None = None,
        tell: Callable[[str, int, Mapping[str, float], TrainState], None] | None = None,
        profiler: Profiler | None = None,
        best: Best | None = None,
    ):
        self.state, self.step = state, int(state.step)
        self._first, self._total, self._schedule = self.step, schedule.total, schedule
        self._run, self._feed, self._evaluations = run, feed, evaluations
        self._checkpoints, self._meta, self._records = checkpoints, meta, records
        self._reporter, self._throughput, self._extra = reporter, throughput, extra
        self._journal = journal or Journal(self.step, bad=feed.bad)
        self._goodput, self._stop_after, self._tell = goodput or Goodput(), stop_after, tell
        self._profiler, self._best = profiler, best
        self._ended = False  # True if the run ends before its last step
        if best is not None:
            best.load(self._journal.carried.get("best"))
            checkpoints.hold(best.step)
            self._ended = best.is_over

    def run(self) -> tuple[TrainState, dict[str, float]]:
        """Trains to the end. Call it once.

        Returns:
          The final state and the results of the last evaluations, `{"NAME/metric": value}`.

        Raises:
          TooManySkipped: More steps in a row were skipped than the config allows; the state before them is saved.
          UserError: More examples cannot be read than the config allows; the state before them is saved.
          Preempted: SIGTERM or SIGINT arrived, or `stop_after` is reached; the state is saved.
        """
        if self._stop_after is not None and self._stop_after <= self.step < self._total:
            reached = f"already at step {self.step} of {self._total}"
            raise self._advised(Preempted(f"{reached}, and stop_after is {self._stop_after}: no step was taken"))
        self._plan()
        self._throughput.reset()
        self._goodput.turn("productive")
        try:
            with StopSignal(armed=False) as signal, gate.busy(None):
                try:
                    self._take_steps(signal)
                except Preempted as reason:
                    # `gate.tick` raised it before a step or in an evaluation, so `state` is complete.
                    self._save_now()
                    why = f"stopped by {reason} after step {self.step} of {self._total}; the state is saved"
                    raise self._advised(Preempted(why)) from None
        finally:
            self._goodput.turn("other")
            self._items.close()
            self._reporter.close()
        numbers = self._journal.results(self.step).values()
        return self.state, {name: value for results in numbers for name, value in results.items()}

    def _plan(self) -> None:
        """Splits the remaining steps into dispatches, and opens their data."""
        intervals = {f"evals.{e.name}": e.every for e in self._evaluations}
        intervals["checkpoint"] = self._schedule.checkpoint_every
        stops = _stops(self.step, self._total, [self._schedule.log_every, *intervals.values()])
        if self._stop_after is not None and self._stop_after < self._total:
            stops = sorted({stop for stop in stops if stop < self._stop_after} | {self._stop_after})
        self._boundaries = set(stops)
        self._lengths = list(_lengths(self.step, stops, self._feed.max_steps))
        self._items: Items = self._feed.items(self.step, self._lengths)
        # The forward pass takes about a third of a step, and an evaluation at least that for each example.
        of_step = 3 * self._throughput.batch_size
        work = {f"evals.{e.name}": e.examples / of_step for e in self._evaluations}
        self._time_left = TimeLeft(self.step, self._total, intervals, work)
        self._guessing = Guessing(self._total, self._schedule.warmup)
        if "guessing" in self._journal.carried:
            self._guessing.load(self._journal.carried["guessing"])

    def _advised(self, stop: Preempted) -> Preempted:
        """The exception with other advice if this launch would stop at `stop_after` again."""
        if self._stop_after is not None and self.step >= self._stop_after:
            stop.advice = "Run the same command without --stop_after, or with a later step, to resume."
        return stop

    def _take_steps(self, signal: StopSignal) -> None:
        """Takes the remaining steps, and does what is due between them."""
        ahead = Ahead()
        if self.step == self._total:
            signal.arm()
        self._catch_up()
        for length in self._lengths:
            if self._ended:
                break
            metrics = self._dispatch(length)
            signal.arm()  # until the first step, which compiles, there is nothing to save
            ahead.dispatched(metrics)
            if self.step in self._boundaries:
                self._boundary()
            if self.step == self._stop_after and self.step < self._total:
                raise Stopped("request")

    def _dispatch(self, length: int) -> Metrics:
        """Waits for the data of the next `length` steps and dispatches them; returns before they are computed."""
        if self._profiler is not None:
            self._profiler.before(self.step, length, self.state)
        with self._goodput.spent("data_wait") as waited, self._saving():
            item = next(self._items)
            self._journal.check(self.step + length)
        self._throughput.waited(waited.seconds)
        gate.tick(compiles=self._goodput.compiles(length))
        annotated = contextlib.nullcontext() if self._profiler is None else self._profiler.annotated(self.step)
        with self._goodput.dispatch(length) as dispatched, annotated:
            self.state, metrics = self._run(self.state, self._feed.constants, item)
        self._time_left.dispatched(length, waited.seconds + dispatched.seconds)
        self.step += length
        self._journal.stepped(metrics)
        self._throughput.stepped(length)
        if self._profiler is not None:
            self._throughput.paused(self._profiler.after(self.step, self.state))
        return metrics

    def _boundary(self) -> None:
        """Logs, evaluates and saves, if it is due."""
        to_log, to_save = self._due(self._schedule.log_every), self._due(self._schedule.checkpoint_every)
        if to_save:  # wait for the last checkpoint, so that a kill never loses two intervals
            with self._pause("checkpoint", "checkpoint"), gate.busy("saving"):
                self._checkpoints.wait()
        too_many_bad = (to_log or to_save) and self._journal.settle(self.step)
        if to_log:
            self._log()
        if self._journal.stop:
            raise self._too_many_skipped(self._journal.stop)
        if not too_many_bad:
            self._evaluate_owed()
        if to_save or too_many_bad or self._ended or (self._best is not None and self._best.step == self.step):
            self._save()
        if too_many_bad:
            self._checkpoints.wait()
            raise UserError(f"{self._journal.too_many(self.step)}. The state of step {self.step} is saved")

    def _due(self, every: int) -> bool:
        return self._ended or self.step == self._total or (every > 0 and self.step % every == 0)

    def _owed(self) -> list[Evaluation]:
        """Returns the evaluations that are due at this step and have no results yet."""
        return [e for e in self._evaluations if self._due(e.every) and e.name not in self._journal.results(self.step)]

    def _catch_up(self) -> None:
        """Runs the evaluations of a run that has no steps to take, or that was stopped before those of this step."""
        owed = self._owed()
        if self._ended:
            self._end_early()
        elif self.step == self._total or (self.step and self._journal.carried):
            self._evaluate_owed()
        found = bool(owed) and self._best is not None and self._best.step == self.step
        if found or self._total == 0:  # a run of no steps keeps its initial weights, for `evaluate`, `search`, `load`
            self._save()

    def _evaluate_owed(self) -> None:
        """Runs the evaluations that are due and have no results yet."""
        owed = self._owed()
        for evaluation in owed:
            evaluation.expect(self.state)
        for evaluation in owed:
            with self._saving():
                self._evaluate(evaluation)
        if self._best is not None and self._best.is_over and not self._ended and self.step < self._total:
            self._end_early()

    def _end_early(self) -> None:
        """Does at this step what is due at the end of a run, except for the save."""
        self._ended = True
        if self._journal.pending:
            self._journal.settle(self.step)
        if self._journal.stop:
            raise self._too_many_skipped(self._journal.stop)
        if self._journal.since < self.step:
            self._log()
        self._evaluate_owed()

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
            self._reporter.step(step, values, self._time_left.seconds(step), self._time_left.is_bound())
            if warning := self._guessing.warning(step, values):
                self._reporter.note(warning)
        self._observe("log", step, values)

    def _evaluate(self, evaluation: Evaluation) -> None:
        jax.block_until_ready(self._journal.pending)  # so that the steps before it do not count as its time
        with self._pause("evaluation", f"evals.{evaluation.name}"), gate.busy(f"evaluation {evaluation.name}"):
            numbers = evaluation.run(self.state)
        numbers = {f"{evaluation.name}/{name}": value for name, value in numbers.items()}
        if self._best is not None and self._best.evaluation == evaluation.name:
            self._judge(self._best, numbers)
        self._journal.evaluated(self.step, evaluation.name, numbers)
        self._records.write(self.step, numbers)
        self._reporter.note(f"step {self.step}/{self._total}  {words(numbers)}")
        self._observe("evaluation", self.step, numbers)

    def _judge(self, best: Best, numbers: Mapping[str, float]) -> None:
        """Compares the results of an evaluation with the best so far, by the numbers of process 0."""
        check_metric(best.metric, best.evaluation, [name.removeprefix(f"{best.evaluation}/") for name in numbers])
        if best.judge(self.step, float(text_of_process_0(repr(float(numbers[best.metric]))))):
            self._checkpoints.hold(self.step)

    def _save(self) -> None:
        """Begins to save the state, once the metrics of the steps before it are known."""
        if self._journal.pending:
            self._journal.settle(self.step)
        self._records.flush()
        # After too many skipped steps, `state.step` stands still.
        at = int(self.state.step) if self._journal.stop else self.step
        progress = self._journal.progress(at) | {"lines": self._records.mark(at), "guessing": self._guessing.state()}
        if self._best is not None:
            progress["best"] = self._best.state()
        with self._pause("checkpoint", "checkpoint"), gate.busy("saving"):
            self._checkpoints.save(self.state, {**self._meta, PROGRESS: progress})
        self._goodput.saved(at)
        self._observe("checkpoint", at, {})

    def _observe(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Tells the loggers of an event."""
        if self._tell is not None:
            with self._pause("other", "loggers"):
                self._tell(kind, step, values, self.state)

    def _save_now(self) -> None:
        """Saves the state and returns when it is on the disk."""
        self._save()
        self._checkpoints.wait()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Saves the state if the block raises, since the state itself is good.

        A run of several processes saves nothing here, because the others may not have failed.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, Preempted) or jax.process_count() > 1 or self.step == self._first:
                raise
            self._save_now()
            if isinstance(error, UserError):
                raise UserError(f"{error}. The state of step {self.step} is saved", error.status) from error
            raise

    def _too_many_skipped(self, stop: skips.Stop) -> skips.TooManySkipped:
        """Returns the error of a run that skipped too many steps in a row; saves the state first, if it is finite."""
        good = bool(jax.jit(finite.is_finite)(self.state))
        if good:
            self._journal.guard["in_a_row"] = 0
            self._save_now()
        taken = stop.step - int(self._journal.guard.get("skipped", 0))
        return skips.too_many_error(stop, self._extra(taken + 1).get("learning_rate"), self._feed.examples, good)

    @contextlib.contextmanager
    def _pause(self, kind: str, name: str) -> Iterator[None]:
        """Accounts for time in which no step is taken."""
        compiled = compiling.seconds()
        with self._goodput.spent(kind) as span:
            yield
        self._throughput.paused(span.seconds)
        self._time_left.paused(name, span.seconds, once=compiling.seconds() - compiled)


def _stops(start: int, total: int, intervals: Iterable[int]) -> list[int]:
    """Returns the steps after `start` at which to log, evaluate or save, ascending."""
    stops = {total} if total > start else set()
    for every in intervals:
        if every > 0:
            stops.update(range(start - start % every + every, total, every))
    return sorted(stops)


def _lengths(start: int, stops: list[int], most: int) -> Iterable[int]:
    """Splits the steps up to each stop into dispatches of `most` steps or of one, so that two programs are compiled."""
    for stop in stops:
        whole, rest = divmod(stop - start, most)
        yield from [most] * whole + [1] * rest
        start = stop
