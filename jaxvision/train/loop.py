"""The loop: steps, logs, evaluations, checkpoints. It knows neither data sets, nor models, nor labels."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax

from jaxvision.errors import UserError
from jaxvision.parallel.gate import Stopped, gate
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


def train(
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
) -> tuple[TrainState, dict[str, float]]:
    """Trains from `state.step` to the end, and logs, evaluates and saves there too.

    Args:
      state: state to start from; donated.
      run: runner from `step.make_runner`.
      feed: source of the items that `run` takes.
      schedule: total steps, and the intervals of logs and checkpoints.
      evaluations: evaluations, run at their intervals.
      checkpoints, meta: writer of the state, and the JSON saved with it.
      records: writer of the numbers.
      reporter: display for a person.
      throughput: meter of the speed.
      extra: function of the number of updates, which is that of the steps but for skipped ones, that gives more numbers
        for a log, such as the learning rate of the latest update.
      journal: what the checkpoint of `state.step` carries for the records; a new one for a new run.
      goodput: meter of where the time goes.
      stop_after: step after which to leave, as if told to stop; one behind the end has no effect.

    Returns:
      The final state and the results of the last evaluations, `{"NAME/metric": value}`.

    Raises:
      TooManySkipped: more steps in a row were skipped than the config allows; the state before them is saved.
      UserError: more examples cannot be read than the config allows; the state before them is saved.
      Preempted: SIGTERM or SIGINT came; the state is saved.
    """
    total = schedule.total
    step = start = int(state.step)
    if stop_after is not None and stop_after <= step < total:
        raise Preempted(f"already at step {step} of {total}, behind step {stop_after} where to stop")
    journal, goodput = journal or Journal(step, bad=feed.bad), goodput or Goodput()
    stops = _stops(step, total, [schedule.log_every, schedule.checkpoint_every, *(e.every for e in evaluations)])
    if stop_after is not None and stop_after < total:
        stops = sorted({s for s in stops if s < stop_after} | {stop_after})
    lengths = list(_lengths(step, stops, feed.max_steps))
    boundaries = set(stops)
    items = feed.items(step, lengths)
    guessing = Guessing(total, schedule.warmup)
    if "guessing" in journal.carried:
        guessing.load(journal.carried["guessing"])
    pauses = {"checkpoint": schedule.checkpoint_every} | {f"evals.{e.name}": e.every for e in evaluations}
    time_left = TimeLeft(step, total, pauses)

    def due(every: int) -> bool:
        return step == total or (every > 0 and step % every == 0)

    def log() -> None:
        taken = (journal.stop.step if journal.stop else step) - int(journal.guard.get("skipped", 0))
        length, values = step - journal.since, journal.line(step)
        values |= throughput.read() | extra(max(taken, 1))
        with goodput.spent("other"):
            records.write(step, values)
            if told := skips.note(values, length):
                reporter.note(told)
            time_left.logged(step)
            reporter.step(step, values, time_left.seconds(step))
            if warning := guessing.warning(step, values):
                reporter.note(warning)

    @contextlib.contextmanager
    def pause(kind: str, name: str) -> Iterator[None]:
        with goodput.spent(kind) as span:
            yield
        throughput.paused(span.seconds)
        time_left.paused(name, span.seconds)

    def evaluate(evaluation: Evaluation) -> None:
        jax.block_until_ready(journal.pending)  # the steps before it are not its time
        with pause("evaluation", f"evals.{evaluation.name}"), gate.busy(f"evaluation {evaluation.name}"):
            found = evaluation.run(state)
        found = {f"{evaluation.name}/{name}": value for name, value in found.items()}
        journal.evaluated(step, evaluation.name, found)
        records.write(step, found)
        reporter.note(f"step {step}/{total}  {words(found)}")

    def save() -> None:
        """Saves the state, once the metrics of the steps before it are known."""
        if journal.pending:
            journal.settle(step)
        records.flush()
        at = int(state.step) if journal.stop else step  # which stands still where too many steps were skipped
        progress = journal.progress(at) | {"lines": records.mark(at), "guessing": guessing.state()}
        with pause("checkpoint", "checkpoint"), gate.busy("saving"):
            checkpoints.save(state, {**meta, PROGRESS: progress})
        goodput.saved(at)

    def give_up() -> skips.TooManySkipped:
        """The error of a run that skipped too many steps in a row; its state is saved first, if it is finite."""
        stop, good = journal.stop, bool(jax.jit(finite.is_finite)(state))
        if good:
            journal.guard["in_a_row"] = 0
            save()
            checkpoints.wait()
        taken = stop.step - int(journal.guard.get("skipped", 0))
        return skips.ends(stop, extra(taken + 1).get("learning_rate"), feed.examples, good)

    @contextlib.contextmanager
    def saving() -> Iterator[None]:
        """Saves the state where what is done inside fails, for the state is good. Of several processes one may fail."""
        try:
            yield
        except Exception as error:
            if isinstance(error, Preempted) or jax.process_count() > 1 or step == start:
                raise
            save()
            checkpoints.wait()
            if isinstance(error, UserError):
                raise UserError(f"{error}. The state of step {step} is saved", error.status) from error
            raise

    def owed() -> list[Evaluation]:
        return [e for e in evaluations if due(e.every) and e.name not in journal.results(step)]

    def boundary() -> None:
        """Logs, evaluates and saves, as far as that is due."""
        to_log, to_save = due(schedule.log_every), due(schedule.checkpoint_every)
        if to_save:  # else a kill would lose two intervals, where a step takes longer to write than one
            with pause("checkpoint", "checkpoint"), gate.busy("saving"):
                checkpoints.wait()
        too_many = (to_log or to_save) and journal.settle(step)
        if to_log:
            log()
        if journal.stop:
            raise give_up()
        for evaluation in () if too_many else owed():
            with saving():
                evaluate(evaluation)
        if to_save or too_many:
            save()
        if too_many:
            checkpoints.wait()
            raise UserError(f"{journal.too_many(step)}. The state of step {step} is saved")

    throughput.reset()
    goodput.turn("productive")
    ahead = Ahead()
    try:
        with StopSignal(armed=False) as signal, gate.busy(None):
            try:
                # Evaluations that a stop left out, or of a run that ended between its last checkpoint and its results.
                if step == total:
                    signal.arm()
                for evaluation in owed() if step and (journal.carried or step == total) else ():
                    evaluate(evaluation)
                for length in lengths:
                    with goodput.spent("data_wait") as waited, saving():
                        item = next(items)
                        journal.check(step + length)
                    throughput.waited(waited.seconds)
                    gate.tick(compiles=goodput.compiles(length))
                    with goodput.dispatch(length) as dispatched:
                        state, metrics = run(state, feed.constants, item)
                    signal.arm()  # while the first step was compiled there was nothing to save
                    time_left.dispatched(length, waited.seconds + dispatched.seconds)
                    step += length
                    journal.stepped(metrics)
                    throughput.stepped(length)
                    ahead.dispatched(metrics)
                    if step in boundaries:
                        boundary()
                    if step == stop_after and step < total:
                        raise Stopped("request")
            except Preempted as told:
                # By a tick, before a step or in an evaluation: `state` is whole, and that of `step`.
                save()
                checkpoints.wait()
                why = f"stopped by {told} after step {step} of {total}; the state is saved"
                raise Preempted(why) from None
        results = {name: value for found in journal.results(step).values() for name, value in found.items()}
    finally:
        goodput.turn("other")
        items.close()
        reporter.close()
    return state, results


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
