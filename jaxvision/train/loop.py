"""The loop: steps, logs, evaluations, checkpoints. It knows neither data sets, nor models, nor labels."""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.errors import UserError
from jaxvision.parallel.gate import Stopped, gate
from jaxvision.train.checkpoint import Checkpoints
from jaxvision.train.divergence import FIRST
from jaxvision.train.feed import Feed
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
      extra: `step -> numbers` to write with each log, such as the learning rate.
      stop_after: leave after this step, as if told to stop.

    Returns:
      The final state and the results of the last evaluations, `{"NAME/metric": value}`.

    Raises:
      UserError: a loss that is not finite; the step is named. Checkpoints hold only states before it.
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

    def log() -> None:
        values = _means(pending, step) | throughput.read() | extra(step)
        pending.clear()
        records.write(step, values)
        time_left.logged(step)
        reporter.step(step, values, time_left.seconds(step))
        if warning := guessing.warning(step, values):
            reporter.note(warning)

    def paused(name: str, began: float) -> None:
        seconds = time.perf_counter() - began
        throughput.paused(seconds)
        time_left.paused(name, seconds)

    def evaluate(evaluation: Evaluation) -> None:
        jax.block_until_ready(pending)  # the steps before it are not its time
        began = time.perf_counter()
        with gate.busy(f"evaluation {evaluation.name}"):
            found = evaluation.run(state)
        found = {f"{evaluation.name}/{name}": value for name, value in found.items()}
        paused(f"evals.{evaluation.name}", began)
        results.update(found)
        records.write(step, found)
        reporter.note(f"step {step}/{total}  {words(found)}")

    def save() -> None:
        records.flush()
        began = time.perf_counter()
        with gate.busy("saving"):
            checkpoints.save(state, meta)
        paused("checkpoint", began)

    throughput.reset()
    ahead, compiled = Ahead(), set()
    try:
        with StopSignal(armed=False) as stop, gate.busy(None):
            try:
                if step == total:  # it was stopped between its last checkpoint and its end
                    stop.arm()
                    for evaluation in evaluations:
                        evaluate(evaluation)
                for length in lengths:
                    began = time.perf_counter()
                    item = next(items)
                    throughput.waited(time.perf_counter() - began)
                    gate.tick(compiles=length not in compiled)
                    compiled.add(length)
                    state, metrics = run(state, feed.constants, item)
                    stop.arm()  # while the first step was compiled there was nothing to save
                    time_left.dispatched(length, time.perf_counter() - began)
                    step += length
                    pending.append(metrics)
                    throughput.stepped(length)
                    ahead.dispatched(metrics)
                    if step not in boundaries:
                        continue
                    saving = due(schedule.checkpoint_every)
                    if due(schedule.log_every) or saving:
                        log()  # which also refuses to save a state whose loss was not finite
                    for evaluation in evaluations:
                        if due(evaluation.every):
                            evaluate(evaluation)
                    if saving:
                        save()
                    if step == stop_after and step < total:
                        raise Stopped("request")
            except Stopped as told:
                # By a tick, before a step or in an evaluation: `state` is whole, and that of `step`.
                if pending:
                    log()
                save()
                raise Preempted(f"stopped by {told} after step {step} of {total}; the state is saved") from None
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


def _means(pending: list[dict[str, jax.Array]], step: int) -> dict[str, float]:
    """Mean of each metric over the steps since the last log; UserError if a loss among them is not finite."""
    fetched = jax.device_get(pending)
    values = {name: np.concatenate([metrics[name] for metrics in fetched]) for name in fetched[0]}
    bad = np.flatnonzero(~np.isfinite(values["loss"]))
    if len(bad):
        at = step - len(values["loss"]) + 1 + int(bad[0])
        raise UserError(
            f"the loss of step {at} is {values['loss'][bad[0]]}. A lower optimizer.learning_rate, a longer warmup or a "
            "clip_norm may help; the latest checkpoint holds a state from before"
        )
    means = {name: math.fsum(v) / len(v) for name, v in values.items()}
    if step == len(values["loss"]):  # the run begins here: its first loss is that of the untrained network
        names = [name for name in values if name.partition("@")[0] == "loss"]  # of a population, `loss@3`
        means |= {name.replace("loss", FIRST): float(values[name][0]) for name in names}
    return means
