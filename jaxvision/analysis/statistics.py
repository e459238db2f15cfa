"""Computes means over seeds with intervals, differences paired by seed, and the noise of few seeds."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special


class Interval(NamedTuple):
    """A mean, or another estimate from n values, with its confidence interval.

    The ends are NaN if the noise is unknown, as for a single value.

    Attributes:
      mean: Estimate.
      low, high: Ends of the interval.
      n: Number of values.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2

    def negated(self) -> "Interval":
        """Returns the interval of minus the estimate, such as that of b - a from that of a - b."""
        return Interval(-self.mean, -self.high, -self.low, self.n)


def t_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Computes the mean and Student's t-interval of independent values.

    At n = 3 the half width is 2.48 standard deviations.

    Args:
      values: Values, such as one for each seed, [n].
      confidence: Level of the interval, in (0, 1).

    >>> mean, low, high, n = t_interval([1.0, 2.0, 3.0])
    >>> mean, round(high - mean, 2), n
    (2.0, 2.48, 3)
    """
    array = np.asarray(values, float)
    n, mean = len(array), float(np.mean(array))
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), n)
    # The quantile of Student's t; scipy.stats has it too, but takes half a second to import.
    half = float(special.stdtrit(n - 1, 0.5 + confidence / 2) * array.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


class Difference(NamedTuple):
    """A difference of two arms over the same seeds.

    Attributes:
      interval: Mean difference with its t-interval.
      each: Difference of each seed.
      p: The p of the two-sided paired permutation test.
    """

    interval: Interval
    each: tuple[float, ...]
    p: float


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Difference:
    """Computes the mean of a - b, paired by position (the same seed in both), with its t-interval.

    The permutation test is over all 2^n sign changes, so it is exact. At n = 3 its p cannot be below 0.25: report it
    next to the interval and never alone.

    Args:
      a, b: Values of the two arms, one for each seed.
      confidence: Level of the interval, in (0, 1).

    >>> paired_difference([3.0, 4.0, 5.0], [1.0, 2.0, 3.0]).p
    0.25
    """
    each = np.asarray(a, float) - np.asarray(b, float)
    signs = np.array(list(itertools.product((1, -1), repeat=len(each))))
    means = np.abs((signs * each).mean(axis=1))
    p = float(np.mean(means >= np.abs(each.mean()) - 1e-12))  # the tolerance keeps ties, which rounding may break
    return Difference(t_interval(each, confidence), tuple(map(float, each)), p)


def least_p(n: int) -> float:
    """Returns the least p that the two-sided paired permutation test can give.

    Only the signs of the data and their opposites are as extreme as the data, 2 of all 2^n sign changes.

    Args:
      n: Number of pairs.

    >>> [least_p(n) for n in (1, 3, 5)]
    [1.0, 0.25, 0.0625]
    """
    return 2.0 ** (1 - n)


def paired_by_seed(a: Mapping[int, float], b: Mapping[int, float], confidence: float = 0.95) -> Difference:
    """Computes the mean of a - b over the seeds that both have; see `paired_difference`.

    Args:
      a, b: Value of each seed.
      confidence: Level of the interval, in (0, 1).

    >>> paired_by_seed({0: 3.0, 1: 4.0, 2: 9.0}, {1: 2.0, 0: 1.0}).each
    (2.0, 2.0)
    """
    seeds = [seed for seed in a if seed in b]
    return paired_difference([a[seed] for seed in seeds], [b[seed] for seed in seeds], confidence)


def pooled_variance(groups: Sequence[Sequence[float] | np.ndarray]) -> tuple[float, int]:
    """Computes the variance within groups, around the mean of each, and its degrees of freedom, the sum of (n - 1).

    Args:
      groups: Values of each group, [n]; groups may differ in n.

    Returns:
      The variance, NaN if no group has two values, and the degrees of freedom.

    >>> pooled_variance([[1.0, 3.0], [10.0, 10.0]])
    (1.0, 2)
    """
    squares = sum(float(np.sum((np.asarray(group, float) - np.mean(group)) ** 2)) for group in groups)
    df = sum(len(group) - 1 for group in groups)
    return (squares / df if df else float("nan")), df


def moderated_variances(variances: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shrinks the variances of small groups towards a common one, by an amount that depends on how similar they are.

    A variance estimated from three values is often wrong by a factor of two. So each is averaged with a common variance
    s0^2 that counts as d0 degrees of freedom, (d0 s0^2 + d s^2) / (d0 + d). d0 comes from how much the variances
    differ beyond their own scatter. If they do not, d0 is infinite and all get the pooled variance.

    Args:
      variances: Variance of each group, float [..., groups], not all 0; ignored for a group of one value.
      df: Degrees of freedom of each group, one less than its number of values, [groups], at least one of them above 0.

    Returns:
      Float [..., groups], and the degrees of freedom of each of them, float [...]: d0 + d, at most the sum of `df`.

    Source: Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression in microarray
    experiments", sec. 6.2 and appendix.

    >>> moderated_variances(np.array([2.0, 2.5, 1.5]), np.array([2, 2, 2]))
    (array([2., 2., 2.]), array(6.))
    """
    variances, df = np.asarray(variances, float), np.asarray(df, float)
    some = df > 0
    usable, d, total = variances[..., some], df[some], df.sum()
    pooled = (usable * d).sum(-1, keepdims=True) / total
    # The log of a sample variance is biased and scatters by itself: digamma removes the bias, trigamma the scatter.
    logs = np.log(np.maximum(usable, 1e-5 * pooled)) - special.digamma(d / 2) + np.log(d / 2)
    center, spread = logs.mean(-1, keepdims=True), np.zeros_like(pooled)
    if len(d) > 1:
        spread = logs.var(-1, ddof=1, keepdims=True) - special.polygamma(1, d / 2).mean()
    differ = spread > 1e-3
    half = _inverse_trigamma(np.where(differ, spread, 1.0))  # d0 / 2
    common = np.exp(center + special.digamma(half) - np.log(half))
    shrunk = (2 * half * common + np.where(some, df * variances, 0.0)) / (2 * half + df)
    counted = np.where(differ, np.minimum(2 * half + d.mean(), total), total)[..., 0]
    return np.where(differ, shrunk, pooled), counted


def percentile_interval(estimate: float, draws: np.ndarray, n: int, confidence: float = 0.95) -> Interval:
    """Returns the interval that contains the middle share `confidence` of the bootstrap draws of an estimate.

    Args:
      estimate: Estimate; it may be infinite, and so may the draws.
      draws: Bootstrap draws of the estimate, float [..., resamples]. Of several rows the widest ends are taken. A NaN
        makes both ends NaN.
      n: Number of values behind the estimate, stored in the result.
      confidence: Level of the interval, in (0, 1).

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", sec. 13.3.

    >>> percentile_interval(2.0, np.array([0.0, 1.0, 2.0, 3.0, np.inf]), n=5, confidence=0.5)
    Interval(mean=2.0, low=1.0, high=3.0, n=5)
    """
    tail = (1 - confidence) / 2
    low = np.quantile(draws, tail, axis=-1, method="lower").min()
    high = np.quantile(draws, 1 - tail, axis=-1, method="higher").max()
    return Interval(float(estimate), float(low), float(high), n)


def _inverse_trigamma(y: np.ndarray) -> np.ndarray:
    """Solves trigamma(x) = y for x by Newton's method from below (Smyth 2004, appendix)."""
    x = 0.5 + 1 / y
    for _ in range(12):
        value = special.polygamma(1, x)
        x = x + value * (1 - value / y) / special.polygamma(2, x)
    return x
