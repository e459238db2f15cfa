"""The best evaluation of a run so far: which checkpoint to keep for it, and when to stop for the lack of a better one.

Prechelt 1998, "Early stopping, but when?". An evaluation is better only if its value is; of equal values the earliest
is the best, and NaN is never better than a number. Everything here follows from the results of the evaluations, so a
run that was stopped and resumed ends where an unbroken one ends.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from jaxvision.errors import UserError, listed, shown, unknown
from jaxvision.parallel.distributed import text_of_process_0
from jaxvision.sections import TrainSection
from jaxvision.storage import Path
from jaxvision.train.progress import best_is, number
from jaxvision.train.saved import Saved

DIRECTIONS = ("highest", "lowest")
BEST = "best"  # name of the step with the best value
EVALUATIONS = "evaluations"  # unit of a patience, besides those of durations


class Watched(Protocol):
    """What is known of an evaluation before the run starts, see `loop.Evaluation`."""

    @property
    def name(self) -> str:
        """Name in the config."""

    @property
    def every(self) -> int:
        """Interval in steps; 0 at the end only."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of its metrics that are known before it ran; empty if its evaluator does not name them."""


class Best:
    """The best value of a metric so far.

    Args:
      evaluation: Name of the evaluation in the config.
      metric: Name of the metric with that of its evaluation, "val/top1".
      lowest: True if lower values are better.
      patience: Number of steps after the best one, at which an evaluation without a better value ends the run; None to
        never end it.

    Attributes:
      step: Step with the best value, or None if there was no evaluation yet.
      value: Value at this step.

    >>> best = Best("val", "val/top1", patience=2)
    >>> [best.judge(step, value) for step, value in enumerate([0.5, 0.6, 0.7, 0.69, 0.68])]
    [True, True, True, False, False]
    >>> best.step, best.is_over
    (2, True)
    """

    def __init__(self, evaluation: str, metric: str, *, lowest: bool = False, patience: int | None = None):
        self.evaluation, self.metric, self.lowest, self.patience = evaluation, metric, lowest, patience
        self.step: int | None = None
        self.value = math.nan
        self._judged = 0  # step of the last evaluation

    def judge(self, step: int, value: float) -> bool:
        """Takes the value of an evaluation; returns whether it is the best so far.

        Args:
          step: Number of steps taken.
          value: Value of the metric.
        """
        self._judged = step
        sign = -1 if self.lowest else 1
        beaten = sign * value > sign * self.value or (math.isnan(self.value) and not math.isnan(value))
        if self.step is not None and not beaten:
            return False
        self.step, self.value = step, value
        return True

    @property
    def is_over(self) -> bool:
        """True if the last evaluation came `patience` steps after the best one, or later."""
        return self.step is not None and self.patience is not None and self._judged - self.step >= self.patience

    @property
    def reason(self) -> str:
        """Why the run ended early, in words."""
        than = "lower" if self.lowest else "higher"
        return (
            f"{self.metric} was not {than} than {number(self.metric, self.value)} (step {self.step:,}) up to step "
            f"{self._judged:,}: train.patience is {self.patience:,} steps"
        )

    def record(self) -> dict[str, Any] | None:
        """Returns the metric, its best value (None if that is not finite) and its step; None without evaluations."""
        value = self.value if math.isfinite(self.value) else None
        return None if self.step is None else {"metric": self.metric, "step": self.step, "value": value}

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint carries, as JSON."""
        said = {"evaluation": self.evaluation, "metric": self.metric, "lowest": self.lowest}
        return said | {"step": self.step, "value": repr(self.value), "judged": self._judged}  # NaN is no JSON

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Continues from what a checkpoint carries, unless that is about another metric.

        Args:
          state: JSON from `state`, or None.
        """
        if state and (state["metric"], state["lowest"]) == (self.metric, self.lowest):
            self.step, self.value, self._judged = state["step"], float(state["value"]), state["judged"]


def check_section(train: TrainSection) -> None:
    """Checks the keys of the best checkpoint against one another.

    Args:
      train: Section `train` of a config.

    Raises:
      UserError: A key needs `keep_best`, which is missing, or has an unknown value.
    """
    for key in ("best_is", "patience"):
        if getattr(train, key) is not None and train.keep_best is None:
            raise UserError(
                f"train.{key} has no effect without train.keep_best: set that too, to a result like 'val/top1'"
            )
    if train.best_is is not None and train.best_is not in DIRECTIONS:
        raise unknown("value of train.best_is", train.best_is, DIRECTIONS)


def make_best(train: TrainSection, evaluations: Sequence[Watched], steps: Callable[[str | int], int]) -> Best | None:
    """Makes the record of the best value for the section `train`.

    Args:
      train: Section `train` of a config.
      evaluations: Evaluations of the run.
      steps: Function that turns a duration into a number of steps.

    Returns:
      The record; None without `train.keep_best`.

    Raises:
      UserError: There is no such evaluation or metric, its name does not tell which values are better, or the patience
        cannot be read.
    """
    check_section(train)
    metric = train.keep_best
    if metric is None:
        return None
    named = [one for one in evaluations if metric.startswith(f"{one.name}/")]
    known = [f"{one.name}/{name}" for one in evaluations for name in one.metrics or ("...",)]
    if not evaluations:
        raise UserError(
            f"train.keep_best={shown(metric)} names an evaluation, and the config has none: add it to evals"
        )
    if not named:
        raise unknown("evaluation of train.keep_best, EVALUATION/METRIC,", metric, known)
    one = max(named, key=lambda one: len(one.name))
    check_metric(metric, one.name, one.metrics or None)
    direction = train.best_is or best_is(metric)
    if direction is None:
        raise UserError(
            f"train.keep_best={shown(metric)}: the name does not tell whether higher or lower values are better: set "
            "train.best_is to 'highest' or 'lowest'"
        )
    patience = None if train.patience is None else read_patience(train.patience, one.name, one.every, steps)
    return Best(one.name, metric, lowest=direction == "lowest", patience=patience)


def check_metric(metric: str, evaluation: str, names: Sequence[str] | None) -> None:
    """Checks that an evaluation has the metric of `train.keep_best`.

    Args:
      metric: Name of the metric with that of its evaluation.
      evaluation: Name of the evaluation.
      names: Names of its metrics; None if they are not known.

    Raises:
      UserError: It has no such metric; the message names those that it has.
    """
    if names is not None and metric.removeprefix(f"{evaluation}/") not in names:
        choices = listed(metric, [f"{evaluation}/{name}" for name in names])
        raise UserError(f"train.keep_best={shown(metric)} is no metric of the evaluation {evaluation!r}: {choices}")


def read_patience(patience: str, name: str, every: int, steps: Callable[[str | int], int]) -> int:
    """Returns a patience in steps: '3 evaluations' is three intervals of the evaluation, others are durations.

    Args:
      patience: Value of `train.patience`.
      name: Name of the evaluation that judges.
      every: Interval of this evaluation in steps; 0 at the end only.
      steps: Function that turns a duration into a number of steps.

    Raises:
      UserError: It cannot be read or is zero, or the evaluation runs at the end only.

    >>> read_patience("3 evaluations", "val", 50, int), read_patience("120", "val", 50, int)
    (150, 120)
    """
    if not every:
        raise UserError(
            f"train.patience waits for evaluations, but {name!r} runs at the end only: set "
            f"evals.{name.partition('/')[0]}.every to a duration such as '1 epoch'"
        )
    count, _, unit = str(patience).strip().partition(" ")
    if unit.strip().removesuffix("s") == EVALUATIONS.removesuffix("s"):
        if not count.isascii() or not count.isdigit() or int(count) < 1:
            raise UserError(f"train.patience={shown(patience)}: write a whole number above 0, as in '3 evaluations'")
        return int(count) * every
    try:
        waiting = steps(patience)
    except UserError as error:
        raise UserError(f"train.patience: {error}. A number of evaluations is possible too: '3 evaluations'") from None
    if waiting < 1:
        raise UserError(f"train.patience={shown(patience)} must be above zero, such as '3 evaluations'")
    return waiting


def step_of(workdir: Path, step: int | str | None, results: Mapping[str, Any] | None = None) -> int | None:
    """Returns the number of a step that may be "best": the one with the best value of `train.keep_best` so far.

    Args:
      workdir: Folder of the run.
      step: Number of a step, "best", or None for the latest; the first and the last are returned as they are.
      results: Content of its results.json, whose evaluations may be later than the newest checkpoint; None if it has
        none.

    Raises:
      UserError: It is another text, or the run has no best step, or no checkpoint of it.
    """
    if not isinstance(step, str):
        return step
    if step != BEST:
        raise UserError(f"step {step!r} is neither a number nor {BEST!r}: give one of them")
    saved = Saved(workdir)
    steps = f"Its steps: {', '.join(map(str, saved.steps())) or 'none'}"
    newest = {} if saved.newest() is None else saved.meta()
    best = (results or newest.get("progress") or {}).get("best")
    best = json.loads(text_of_process_0(json.dumps(best)))
    if not best or best["step"] is None:
        raise UserError(
            f"{workdir} has no best step, because its config has no train.keep_best (as in keep_best='val/top1') or "
            f"nothing was evaluated yet: give a number. {steps}"
        )
    if best["step"] not in saved.steps():
        raise UserError(f"the best step of {workdir} by {best['metric']} is {best['step']}, which is missing. {steps}")
    return best["step"]
