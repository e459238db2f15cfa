"""Whether a run diverged, by the numbers that it left."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision.train import metrics

FIRST = "first_loss"  # in the first line of metrics: the loss before any update
# Times the first loss. A network that answers at random, or always the same, stays near 1; one that is wrong and sure
# of it may come to 3 or 4 in the evaluations of an overfitted model.
FACTOR = 10.0
_STOPPED = re.compile(r"the (?:loss|gradient|update|, | or )+ of step [\d,]+ is (?:nan|-?inf|not finite)")


def of_numbers(lines: Sequence[Mapping[str, Any]], results: Mapping[str, float | None] | None = None) -> str:
    """Why these numbers say that a run diverged, in words; empty where they do not.

    It did where the latest loss of training or of an evaluation (`NAME/loss`) is no finite number, or above ten times
    that of the untrained network (or of the first log, where that is not known; at least 10).

    Args:
      lines: of metrics.jsonl; None stands for what is not finite.
      results: of the last evaluations.

    >>> of_numbers([{"step": 1, "loss": 2.3}, {"step": 9, "loss": 6e29}])
    'its loss rose from 2.3 to 6e+29'
    >>> of_numbers([{"step": 1, "loss": 2.3}, {"step": 9, "loss": 4.0}], {"val/loss": 5.0})
    ''
    >>> of_numbers([{"step": 1, "loss": 2.3}], {"val/loss": math.inf})
    'its val/loss is not finite'
    """
    beginning = next((line for line in lines if "loss" in line), {})
    first = beginning.get(FIRST, beginning.get("loss"))
    latest = {name: value for line in (*lines, results or {}) for name, value in line.items()}
    for name, value in latest.items():
        if name.rpartition("/")[2] != "loss":
            continue
        if value is None or not math.isfinite(value):
            return f"its {name} is not finite"
        if first is not None and value > FACTOR * max(first, 1.0):
            return f"its {name} rose from {first:.3g} to {value:.3g}"
    return ""


def of_workdir(workdir: Path, results: Mapping[str, float | None] | None = None) -> str:
    """The same of the run in a folder, with its results where it has ended."""
    return of_numbers(metrics.read(workdir / "metrics.jsonl"), results)


def tells(error: str) -> bool:
    """Whether the error of a run says that its loss, gradient or update was not finite.

    >>> tells("jaxvision: the loss of step 4 is nan. A lower optimizer.learning_rate ..."), tells("no such file")
    (True, False)
    >>> tells("the gradient of step 13 is not finite, step 11 in a row"), tells("the loss of step 9, 5.2, is a spike")
    (True, False)
    >>> tells("the loss, gradient or update of step 5 is not finite; it is skipped step 11 in a row")
    True
    """
    return bool(_STOPPED.search(error))
