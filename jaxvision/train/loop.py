"""The loop: steps, logs, evaluations, checkpoints. It knows neither data sets, nor models, nor labels."""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax

from jaxvision.parallel.distributed import any_process
from jaxvision.train import finite, skips
from jaxvision.train.checkpoint import Checkpoints
from jaxvision.train.feed import Feed
from jaxvision.train.metrics import Records
from jaxvision.train.progress import Guessing, Reporter, words
from jaxvision.train.state import TrainState
from jaxvision.train.throughput import Throughput
from jaxvision.train.time_left import TimeLeft
from jaxvision.train.watch import Preempted, StopSignal


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
    stop_after: int | None = None,
) -> tuple[TrainState, dict[str, float]]:
    """Trains from `state.step` to the end, and logs, evaluates and saves there too.

    Args:
      state: to go on from; donated.
      run: from `step.make_runner`.
      feed: gives the items that `run` takes.
      schedule: total steps, and the intervals of logs and checkpoints.
      evaluations: run at their intervals.
      checkpoints, meta: where the state is saved, and the JSON saved with it.
      records: where numbers are written.
      reporter: what a person sees.
      throughput: measures speed.
      extra: `updates -> numbers` to write with each log, such as the learning rate of the last of that many updates:
        the steps that were not skipped.
      stop_after: leave after this step, as if told to stop.

    Returns:
      The final state and the results of the last evaluations, `{"NAME/metric": value}`.

    Raises:
      TooManySkipped: more steps in a row were skipped than may be, for their numbers were not finite. The state, as it
        was before them, is saved.
      Preempted: SIGTERM or SIGINT came; the state is saved.
    """
    total = schedule.total
    step = int(state.step)
    stops = _stops(step, total, [schedule.log_every, schedule.checkpoint_every, *(e.every for e in evaluations)])
    if stop_after is not None:
        stops = sorted({s for s in stops if s < stop_after} | {stop_after})
    lengths = list(_lengths(step, stops, feed.max_steps))
    boundaries = set(stops)
    items = feed.items(step, lengths)
    pending: list[dict[str, jax.Array]] = []
    results: dict[str, float] = {}
    guessing = Guessing(total, schedule.warmup)
    pauses = {"checkpoint": schedule.checkpoint_every} | {f"evals.{e.name}": e.every for e in evaluations}
    time_left = TimeLeft(step, total, pauses)

    def due(every: int) -> bool:
        return step == total or (every > 0 and step % every == 0)

    logged = {"step": step, "guard": {}}

    def log() -> skips.Stop | None:
        values, logged["guard"], stop = skips.read(pending, step)
        updates = (stop.step if stop else step) - int(logged["guard"].get("skipped", 0))
        values |= throughput.read() | extra(max(updates, 1))
        pending.clear()
        records.write(step, values)
        if told := skips.note(values, step - logged["step"]):
            reporter.note(told)
        logged["step"] = step
        time_left.logged(step)
        reporter.step(step, values, time_left.seconds(step))
        if warning := guessing.warning(step, values):
            reporter.note(warning)
        return stop

    def save() -> None:
        records.flush()
        began = time.perf_counter()
        checkpoints.save(state, meta | {"progress": meta.get("progress", {}) | {"guard": logged["guard"]}})
        paused("checkpoint", began)

    def give_up(stop: skips.Stop) -> skips.TooManySkipped:
        good = bool(jax.jit(finite.is_finite)(state))
        if good:
            logged["guard"]["in_a_row"] = 0
            save()
        updates = stop.step - int(logged["guard"].get("skipped", 0))
        return skips.ends(stop, extra(max(updates, 1)).get("learning_rate"), feed.examples, good)

    def paused(name: str, began: float) -> None:
        seconds = time.perf_counter() - began
        throughput.paused(seconds)
        time_left.paused(name, seconds)

    def evaluate(evaluation: Evaluation) -> None:
        jax.block_until_ready(pending)  # the steps before it are not its time
        began = time.perf_counter()
        found = {f"{evaluation.name}/{name}": value for name, value in evaluation.run(state).items()}
        paused(f"evals.{evaluation.name}", began)
        results.update(found)
        records.write(step, found)
        reporter.note(f"step {step}/{total}  {words(found)}")

    throughput.reset()
    try:
        with StopSignal() as signal:
            if step == total:  # it was stopped between its last checkpoint and its end
                for evaluation in evaluations:
                    evaluate(evaluation)
            for length in lengths:
                began = time.perf_counter()
                item = next(items)
                throughput.waited(time.perf_counter() - began)
                state, metrics = run(state, feed.constants, item)
                time_left.dispatched(length, time.perf_counter() - began)
                step += length
                pending.append(metrics)
                throughput.stepped(length)
                at_boundary = step in boundaries
                # Several processes must leave after the same step, so they agree at boundaries only.
                told = signal.received is not None
                leaving = any_process(told) if at_boundary else (told and jax.process_count() == 1)
                leaving = (leaving or step == stop_after) and step < total
                if not (at_boundary or leaving):
                    continue
                saving = due(schedule.checkpoint_every) or leaving
                if (due(schedule.log_every) or saving) and (stop := log()):
                    raise give_up(stop)
                for evaluation in evaluations:
                    if due(evaluation.every) and not leaving:
                        evaluate(evaluation)
                if saving:
                    save()
                if leaving:
                    raise Preempted(f"stopped by {signal.received or 'request'} after step {step} of {total}")
    finally:
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
