"""Compares two arms at equal accuracy (how much data each needs for it) and at equal training loss."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.analysis.crossing import crossing_examples, mean_errors, seed_correlation
from jaxvision.analysis.scaling_laws import Curve
from jaxvision.analysis.statistics import Interval, percentile_interval
from jaxvision.errors import UserError

Records = Sequence[Mapping[str, float]]  # lines of metrics.jsonl: "step" and numbers by name


class DataRatio(NamedTuple):
    """How many times the examples the second arm needs for the accuracy of the first.

    A ratio is known between 1 / `range` and `range`, the largest size over the smallest. Otherwise it is 0 or infinite:
    one of the curves does not reach the accuracy within the sizes.

    Attributes:
      start: Ratio at the accuracy that the first arm has at the smallest size.
      end: Ratio at the accuracy that the second arm has at the largest size.
      change: log10 of `end` minus log10 of `start`; ratios outside the range count as its ends.
      range: Largest size over the smallest.
    """

    start: Interval
    end: Interval
    change: Interval
    range: float

    def words(self, ratio: Interval) -> str:
        """Formats one of the two ratios with its interval.

        Args:
          ratio: `start` or `end`.

        >>> DataRatio(*[Interval(2.0, 1.5, np.inf, 3)] * 3, 64.0).words(Interval(2.0, 1.5, np.inf, 3))
        '2 times (95 % interval 1.5 to more than 64)'
        """
        mean, low, high = (self._number(x) for x in ratio[:3])
        if np.isnan(ratio.low):
            return f"{mean} times"
        return f"{mean} times (95 % interval {low if low == high else f'{low} to {high}'})"

    def _number(self, ratio: float) -> str:
        if ratio == np.inf:
            return f"more than {self.range:.3g}"
        return f"less than {1 / self.range:.2g}" if ratio == 0 else f"{ratio:.3g}"


def data_ratio(first: Curve, second: Curve, *, resamples: int = 1000, seed: int = 0) -> DataRatio:
    """Computes how many times the examples one arm needs for the accuracy of another.

    Mean accuracies are joined by straight lines over log n. Intervals are percentile intervals over simulated studies:
    Student's t noise with the variances of the means (`statistics.moderated_variances`), correlated between the arms as
    their seeds are, is added to the means.

    Args:
      first, second: Number of examples -> one error in [0, 1] for each seed; the same sizes and seeds in both.
      resamples: Number of simulated studies.
      seed: Seed of their noise.

    Raises:
      UserError: The arms share fewer than two sizes.

    >>> steep, flat = {n: [n**-0.5] for n in (100, 10_000)}, {n: [(n / 4) ** -0.5] for n in (100, 10_000)}
    >>> data_ratio(steep, flat).end.mean > 1
    True
    """
    sizes = np.array(sorted(set(first) & set(second)))
    if len(sizes) < 2:
        raise UserError(f"a ratio of data needs two sizes that both arms have; these have {sizes.tolist()}")
    arms = [{int(n): arm[int(n)] for n in sizes} for arm in (first, second)]
    each = [np.array([*arm.values()], float) for arm in arms]  # sizes seeds
    means = np.stack([values.mean(1) for values in each])  # arms sizes

    rng = np.random.default_rng(seed)
    draws, shared = rng.standard_normal((2, resamples, len(sizes))), seed_correlation(*arms)
    draws[1] = shared * draws[0] + np.sqrt(1 - shared**2) * draws[1]
    noise = [draw * mean_errors(rng, values, resamples) for draw, values in zip(draws, each)]
    simulated = means[:, None] + np.stack(noise)

    n, range_ = len(sizes), float(sizes[-1] / sizes[0])
    start, end = _ratios(sizes, *means)
    starts, ends = _ratios(sizes, *simulated)
    log = lambda ratio: np.log10(np.clip(ratio, 1 / range_, range_))
    return DataRatio(
        percentile_interval(float(start), starts, n),
        percentile_interval(float(end), ends, n),
        percentile_interval(float(log(end) - log(start)), log(ends) - log(starts), n),
        range_,
    )


def _ratios(sizes: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratios at the first arm's start and at the second's end, float [...], from errors float [..., sizes]."""
    needed = crossing_examples(sizes, second - first[..., :1])  # the second's error is above it before, below it after
    start = needed / sizes[0]
    with np.errstate(divide="ignore"):
        end = sizes[-1] / crossing_examples(sizes, first - second[..., -1:])
    return start, end


def at_equal_loss(
    first: Records, second: Records, *, loss: str = "loss", metric: str = "val/top1"
) -> tuple[float, float, float] | None:
    """Compares two runs where their training losses are equal: at the lowest loss that both reach.

    A run reaches a loss at the first step at which the least loss so far is as low, interpolated between the records;
    the metric is interpolated at that step. The run that reaches the loss before its end is judged in the middle of
    its schedule, before the learning rate has fallen, so its metric is lower than that of a run planned to end there:
    the comparison favours the slower run, and the more, the earlier the other one is there.

    Args:
      first, second: Records of the two runs, in the order of their steps.
      loss: Key of the training loss, in nats.
      metric: Key of the metric.

    Returns:
      The loss, and the metric of each run; None if a run has no records of both, or reaches the loss before its first
      evaluation.

    >>> slow = [{"step": s, "loss": 2 - s / 100, "val/top1": s / 100} for s in (0, 50, 100)]
    >>> fast = [{"step": s, "loss": 2 - s / 50, "val/top1": s / 100} for s in (0, 50, 100)]
    >>> at_equal_loss(slow, fast)
    (1.0, 1.0, 0.5)
    """
    curves = [(_curve(records, loss), _curve(records, metric)) for records in (first, second)]
    if any(not len(curve[0]) for pair in curves for curve in pair):
        return None
    level = max(float(values.min()) for (_, values), _ in curves)
    metrics = []
    for (steps, losses), (eval_steps, values) in curves:
        after = int(np.argmax(losses <= level))
        before = max(after - 1, 0)
        step = np.interp(-level, -losses[[before, after]], steps[[before, after]])
        if step < eval_steps[0]:
            return None
        metrics.append(float(np.interp(step, eval_steps, values)))
    return level, metrics[0], metrics[1]


def _curve(records: Records, key: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(line["step"], line[key]) for line in records if line.get(key) is not None]
    steps, values = np.array(points, float).reshape(-1, 2).T
    return steps, values


def log_odds(errors: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the log odds of a right answer, log((1 - error) / error), float [n].

    A difference of log odds does not shrink only because both arms approach 0 or 1, as one of accuracies does.

    Args:
      errors: Shares of wrong answers in (0, 1), [n].

    >>> log_odds([0.5, 0.1]).round(2).tolist()
    [0.0, 2.2]
    """
    array = np.asarray(errors, float)
    return np.log1p(-array) - np.log(array)
