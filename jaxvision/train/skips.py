"""Evaluates skipped steps on the host: means over the other steps, counts, and the error if there are too many."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.errors import UserError
from jaxvision.train import finite
from jaxvision.train.divergence import FIRST

_FLAGS = ("skipped", "stopped", "spike")
_NAMED = 12  # number of examples of a batch that a message names


class TooManySkipped(UserError):
    """More steps in a row were skipped than the config allows.

    Args:
      message: Message of the error.
      report: Step, learning rate and examples, as JSON.
    """

    def __init__(self, message: str, report: dict[str, Any]):
        super().__init__(message)
        self.report = report


class Stop(NamedTuple):
    """The skipped step that was one too many.

    Attributes:
      step: Number of the step, counted from 1.
      what: Description of the number that was not finite, or of the spike.
      in_a_row: Number of skipped steps in a row, including this one.
    """

    step: int
    what: str
    in_a_row: int


class Interval(NamedTuple):
    """The metrics of some consecutive steps.

    Attributes:
      taken: Values of each metric in the steps that were taken, float [n].
      counts: Numbers of steps by name: `skipped_steps`, whose numbers were not finite or whose loss was a spike that
        the config skips, and `loss_spikes`.
      marks: Flags of the members of a population, such as `stopped@3`: 1 if the member takes no more steps.
      first: Losses of the untrained network, if these are the first steps of the run: `first_loss`, and `first_loss@3`
        for members.
      guard: Guard of the last step, as JSON; empty if the metrics hold none.
      stop: Skipped step that was one too many in a row; None if there is none.
    """

    taken: dict[str, np.ndarray]
    counts: dict[str, float]
    marks: dict[str, float]
    first: dict[str, float]
    guard: dict[str, float]
    stop: Stop | None


def fetch(pending: Sequence[Mapping[str, Any]], step: int) -> Interval:
    """Fetches the metrics of the latest steps from the devices, and waits for them.

    Args:
      pending: Metrics of dispatches, arrays [k] by name, and `guard`. Each member of a population has its own metrics
        and flags, such as `loss@3`.
      step: Number of the last of these steps.
    """
    fetched = jax.device_get(list(pending))
    arrays = {name: np.concatenate([m[name] for m in fetched]) for name in fetched[0] if name != "guard"}
    length = len(next(iter(arrays.values())))
    none = np.zeros(length, bool)
    flags = {name: array > 0 for name, array in arrays.items() if name.partition("@")[0] in _FLAGS}
    taken: dict[str, np.ndarray] = {}
    counts: dict[str, float] = {}
    first: dict[str, float] = {}
    for name, array in arrays.items():
        if name in flags:
            continue
        _, at, member = name.partition("@")
        taken[name] = array[~(flags.get(f"skipped{at}{member}", none) | flags.get(f"stopped{at}{member}", none))]
        # If the run starts with these steps, its first loss is that of the untrained network.
        if step == length and name.partition("@")[0] == "loss" and len(taken[name]):
            first[name.replace("loss", FIRST)] = float(taken[name][0])
    for flag, called in {"skipped": "skipped_steps", "spike": "loss_spikes"}.items():
        of_flag = {name: array for name, array in flags.items() if name.partition("@")[0] == flag}
        counts |= {name.replace(flag, called): float(array.sum()) for name, array in of_flag.items()}
    marks = {name: float(array[-1]) for name, array in flags.items() if name.startswith("stopped@")}
    guards = [m["guard"] for m in fetched if "guard" in m]
    guard = finite.to_json(jax.tree.map(lambda x: x[-1], guards[-1])) if guards else {}
    stop = _stop(arrays, flags.get("stopped", none), guards, step - length)
    return Interval(taken, counts, marks, first, guard, stop)


def _stop(arrays: Mapping[str, np.ndarray], stopped: np.ndarray, guards: Sequence[Any], before: int) -> Stop | None:
    if not stopped.any():
        return None
    first = int(np.flatnonzero(stopped)[0])
    loss, norm = (float(arrays[name][first]) for name in ("loss", "grad_norm"))
    number = before + first + 1
    if not math.isfinite(loss):
        what = f"the loss of step {number} is {loss}"
    elif arrays["spike"][first]:
        what = f"the loss of step {number}, {loss:.4g}, is a spike"
    elif math.isnan(norm):
        what = f"the gradient of step {number} is not finite"
    else:
        what = f"the gradient or update of step {number} is not finite"
    in_a_row = np.concatenate([guard.in_a_row for guard in guards])[first] if guards else 1
    return Stop(number, what, int(in_a_row))


def note(values: Mapping[str, float], length: int) -> str | None:
    """Returns a warning about the skipped steps and spikes of an interval; None if there were none.

    Args:
      values: Numbers of a log line by name.
      length: Number of steps of the interval.

    >>> note({"skipped_steps": 2.0, "loss_spikes": 0.0}, 10)
    'warning: 2 of the last 10 steps were skipped; means are over the others'
    >>> note({"loss_spikes": 1.0}, 10)
    'warning: the loss of 1 of the last 10 steps was a spike'
    """
    reasons = []
    if skipped := int(values.get("skipped_steps", 0)):
        reasons.append(f"{skipped} of the last {length} steps were skipped; means are over the others")
    if spikes := int(values.get("loss_spikes", 0)):
        reasons.append(f"the loss of {spikes} of the last {length} steps was a spike")
    return f"warning: {'; '.join(reasons)}" if reasons else None


def too_many_error(
    stop: Stop,
    learning_rate: float | None,
    examples: Callable[[int], tuple[np.ndarray, Callable[[int], str]]] | None,
    saved: bool,
) -> TooManySkipped:
    """Returns the error of a run that skipped too many steps in a row.

    Args:
      stop: Step that was one too many.
      learning_rate: Learning rate of that step; None if not known.
      examples: Function `step -> (indices, index -> name)` of the examples of a batch, with steps counted from 0; None
        if the feed does not know them.
      saved: True if the state was finite, and so could be saved.
    """
    report: dict[str, Any] = {"step": stop.step, "error": stop.what, "skipped_in_a_row": stop.in_a_row}
    words = [stop.what]
    words.append(f"step {stop.in_a_row} in a row that was skipped" if stop.in_a_row > 1 else "and so it was skipped")
    if learning_rate is not None:
        report["learning_rate"] = learning_rate
        words.append(f"learning rate {learning_rate:.4g}")
    text = ", ".join(words)
    if examples is not None:
        rows, name = examples(stop.step - 1)
        indices = [int(index) for index in rows]
        report["examples"], report["names"] = indices, [name(index) for index in indices]
        more = f" and {len(indices) - _NAMED} more (skipped.json)" if len(indices) > _NAMED else ""
        text += f". Its batch: {', '.join(map(str, indices[:_NAMED]))}{more}; the first is {name(indices[0])}"
    if saved:
        text += (
            f". The state as it was before is saved as step {stop.step}: run the same command to resume after "
            "these batches. If that stops too, no single batch is the cause: try a lower optimizer.learning_rate, a "
            "longer warmup or a clip_norm, with --fresh, or a larger train.max_skipped"
        )
    else:
        text += (
            ". The state that this run started from is itself not finite, and was not saved again: start again with "
            "--fresh"
        )
    return TooManySkipped(text, report)
