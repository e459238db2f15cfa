"""Means over seeds with intervals, and differences paired by seed."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval; the ends are NaN for a single value."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and Student's t-interval of independent values; at n = 3 its half width is 2.48 standard deviations.

    >>> mean, low, high, n = t_interval([1.0, 2.0, 3.0])
    >>> mean, round(high - mean, 2), n
    (2.0, 2.48, 3)
    """
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), n)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


class Difference(NamedTuple):
    """A difference of two arms over the same seeds."""

    interval: Interval
    each: tuple[float, ...]
    p: float


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Difference:
    """The mean of a - b, paired by position (the same seed in both), with its t-interval.

    `p` is that of the two-sided paired permutation test over all 2^n sign changes (exact; at n = 3 it
    cannot be below 0.25, so it stands beside the interval and never alone).

    >>> paired_difference([3.0, 4.0, 5.0], [1.0, 2.0, 3.0]).p
    0.25
    """
    each = np.asarray(a, float) - np.asarray(b, float)
    signs = np.array(list(itertools.product((1, -1), repeat=len(each))))
    means = np.abs((signs * each).mean(axis=1))
    p = float(np.mean(means >= np.abs(each.mean()) - 1e-12))
    return Difference(t_interval(each, confidence), tuple(map(float, each)), p)
