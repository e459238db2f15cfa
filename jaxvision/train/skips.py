"""What the host makes of skipped steps: means over the others, counts, and the end of a run that skips too many."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.errors import UserError
from jaxvision.train import finite
from jaxvision.train.divergence import FIRST

_FLAGS = ("skipped", "stopped", "spike")
_NAMED = 12  # examples of a batch, in a message


class TooManySkipped(UserError):
    """More steps in a row were skipped than the config allows.

    Attributes:
      report: step, learning rate and examples, as JSON.
    """

    def __init__(self, message: str, report: dict[str, Any]):
        super().__init__(message)
        self.report = report


class Stop(NamedTuple):
    """The step that was one too many.

    Attributes:
      step: its number, counted from 1.
      what: description of the numbers that were not finite.
      in_a_row: skipped steps up to it, itself included.
    """

    step: int
    what: str
    in_a_row: int


class Interval(NamedTuple):
    """Steps in a row.

    Attributes:
      taken: values of each metric at the steps that were taken, float [n].
      counts: `skipped_steps`, steps whose numbers were not finite or whose loss was a spike that the config skips, and
        `loss_spikes`.
      marks: flags of the members of a population, `stopped@3`: 1 where that one takes no more steps.
      first: losses of the untrained network, where the run begins with these steps; of members `first_loss@3`.
      guard: guard of the last step, as JSON; empty where the metrics hold none.
      stop: step that was one too many in a row to be skipped; None where there is none.
    """

    taken: dict[str, np.ndarray]
    counts: dict[str, float]
    marks: dict[str, float]
    first: dict[str, float]
    guard: dict[str, float]
    stop: Stop | None


def read(pending: Sequence[Mapping[str, Any]], step: int) -> Interval:
    """What steps up to `step` gave; waits for them.

    Args:
      pending: metrics of dispatches, name -> [k]. Those of a member of a population, `loss@3`, have flags of their own.
    """
    fetched = jax.device_get(list(pending))
    arrays = {name: np.concatenate([m[name] for m in fetched]) for name in fetched[0] if name != "guard"}
    length = len(next(iter(arrays.values())))
    none = np.zeros(length, bool)
    flags = {name: array > 0 for name, array in arrays.items() if name.partition("@")[0] in _FLAGS}
    taken, counts, first = {}, {}, {}
    for name, array in arrays.items():
        if name in flags:
            continue
        _, at, member = name.partition("@")
        taken[name] = array[~(flags.get(f"skipped{at}{member}", none) | flags.get(f"stopped{at}{member}", none))]
        # The run begins here: its first loss is that of the untrained network.
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
    """What a person should know of an interval of that many steps; None where nothing happened.

    >>> note({"skipped_steps": 2.0, "loss_spikes": 0.0}, 10)
    'warning: 2 of the last 10 steps were skipped; means are over the others'
    >>> note({"loss_spikes": 1.0}, 10)
    'warning: the loss of 1 of the last 10 steps was a spike'
    """
    parts = []
    if skipped := int(values.get("skipped_steps", 0)):
        parts.append(f"{skipped} of the last {length} steps were skipped; means are over the others")
    if spikes := int(values.get("loss_spikes", 0)):
        parts.append(f"the loss of {spikes} of the last {length} steps was a spike")
    return f"warning: {'; '.join(parts)}" if parts else None


def ends(
    stop: Stop,
    learning_rate: float | None,
    examples: Callable[[int], tuple[Sequence[int], Callable]] | None,
    saved: bool,
) -> TooManySkipped:
    """The error with which a run ends.

    Args:
      stop: the step that was one too many.
      learning_rate: learning rate of that step, if known.
      examples: `step -> (indices, index -> name)` of its batch, counting steps from 0, where the feed knows them.
      saved: True where the state is finite, and so could be saved.
    """
    report: dict[str, Any] = {"step": stop.step, "error": stop.what, "skipped_in_a_row": stop.in_a_row}
    words = [stop.what]
    words.append(f"step {stop.in_a_row} in a row that was skipped" if stop.in_a_row > 1 else "and so it was skipped")
    if learning_rate is not None:
        report["learning_rate"] = learning_rate
        words.append(f"learning rate {learning_rate:.4g}")
    text = ", ".join(words)
    if examples is not None:
        indices, name = examples(stop.step - 1)
        indices = [int(index) for index in indices]
        report["examples"], report["names"] = indices, [name(index) for index in indices]
        more = f" and {len(indices) - _NAMED} more (skipped.json)" if len(indices) > _NAMED else ""
        text += f". Its batch: {', '.join(map(str, indices[:_NAMED]))}{more}; the first is {name(indices[0])}"
    if saved:
        text += (
            f". The state as it was before is saved as step {stop.step}: run the same command to resume behind "
            "these batches. If that stops too, no single batch is the cause: try a lower optimizer.learning_rate, a "
            "longer warmup or a clip_norm, with --fresh, or a larger train.max_skipped"
        )
    else:
        text += (
            ". The state that this run started from is itself not finite, and was not saved again: start again with "
            "--fresh"
        )
    return TooManySkipped(text, report)
