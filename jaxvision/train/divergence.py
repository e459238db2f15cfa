"""Tells from the numbers of a run whether it diverged."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision.train import metrics

FIRST = "first_loss"  # loss before any update, in the first line of metrics
# Multiple of the first loss. A network whose answers are random or constant stays near 1; an overfitted model that is
# sure of wrong answers may reach 3 or 4 in its evaluations.
FACTOR = 10.0
_STOPPED = re.compile(r"the (?:loss|gradient|update|, | or )+ of step [\d,]+ is (?:nan|-?inf|not finite)")


def of_numbers(lines: Sequence[Mapping[str, Any]], results: Mapping[str, float | None] | None = None) -> str:
    """Says in words why a run diverged; empty if it did not.

    A run diverged if the latest loss of training or of an evaluation (`NAME/loss`) is not finite, or more than ten
    times the loss of the untrained network, or of the first log if that is not known. A first loss below 1 counts as 1.

    Args:
      lines: Lines of metrics.jsonl; None stands for a number that is not finite.
      results: Results of the last evaluations.

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
    """Says in words why the run in a folder diverged; empty if it did not.

    Args:
      workdir: Folder of the run.
      results: Results of the last evaluations, if the run has ended.
    """
    return of_numbers(metrics.read(workdir / "metrics.jsonl"), results)


def tells(error: str) -> bool:
    """Returns whether an error says that the loss, the gradient or the update of a run was not finite.

    Args:
      error: Message of the error.

    >>> tells("jaxvision: the loss of step 4 is nan. A lower optimizer.learning_rate ..."), tells("no such file")
    (True, False)
    >>> tells("the gradient of step 13 is not finite, step 11 in a row"), tells("the loss of step 9, 5.2, is a spike")
    (True, False)
    >>> tells("the loss, gradient or update of step 5 is not finite; it is skipped step 11 in a row")
    True
    """
    return bool(_STOPPED.search(error))
