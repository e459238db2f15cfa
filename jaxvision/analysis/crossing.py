"""Finds where the curves of two arms cross, or how their gap changes if they do not."""

from typing import NamedTuple

import numpy as np

from jaxvision.analysis.scaling_laws import Curve, evaluate, fit
from jaxvision.analysis.statistics import (
    Difference,
    Interval,
    moderated_variances,
    paired_difference,
    percentile_interval,
    t_interval,
)
from jaxvision.errors import UserError


class Crossing(NamedTuple):
    """The lead of one arm over another as data grows.

    A crossing is the number of examples from which the arm that leads at the smallest size is behind. It is infinite if
    that arm still leads at the largest size, and 0 if it never led.

    Attributes:
      lead: Number of examples -> error of the second arm minus error of the first, paired by seed.
      trend: Change of the lead when data grows tenfold, over seeds.
      observed: Crossing of the leads, interpolated between the sizes.
      fitted: Crossing of the fitted curves, within the sizes and beyond them.
      reach: Number of examples up to which the fitted curves were followed.
    """

    lead: dict[int, Difference]
    trend: Interval
    observed: Interval
    fitted: Interval
    reach: float

    @property
    def verdict(self) -> str:
        """The answer: "crosses" if the observed interval is within the sizes, "none" if wholly beyond, else "open"."""
        if self.observed.low > 0 and self.observed.high < np.inf:
            return "crosses"
        return "none" if self.observed.low == np.inf else "open"

    def words(self, names: tuple[str, str], *, points: bool = True) -> str:
        """Describes the result in a few sentences, for a report.

        Args:
          names: Names of the two arms.
          points: True if the values are shares, so that leads are given in percentage points; False to give them
            unscaled.
        """
        sizes = sorted(self.lead)
        first, last = sizes[0], sizes[-1]
        ahead, behind = names if self.lead[first].interval.mean > 0 else names[::-1]
        finding = {
            "crosses": f"{behind} overtakes {ahead} at {_examples(self.observed)}, interpolated between sizes.",
            "none": f"No crossing from {first:,} to {last:,} examples: {ahead} leads from the smallest to the largest.",
            "open": f"The seeds do not settle whether the arms cross from {first:,} to {last:,} examples; "
            f"{ahead} leads at the smallest.",
        }[self.verdict]
        unit = (100, " points") if points else (1, "")
        mean, *ends = (unit[0] * (x if ahead == names[0] else -x) for x in self.trend[:3])
        interval = f" (95 % interval {min(ends):+.2f} to {max(ends):+.2f})" if self.trend.n > 1 else ""
        seeds = f"{self.trend.n} seeds" if self.trend.n > 1 else "one seed"
        trend = f"Its lead changes by {mean:+.2f}{unit[1]}{interval} per decade of data, over {seeds}."
        where = "The fitted curves" if self.fitted.mean <= last else "By extrapolation alone, the fitted curves"
        curves = f"{where} cross at {_examples(self.fitted)}."
        if self.fitted.mean == np.inf:
            other = (
                "" if self.fitted.low == np.inf else f", but their 95 % interval begins at {_count(self.fitted.low)}"
            )
            curves = f"The fitted curves do not meet up to {_count(self.reach)} examples{other}."
        return f"{finding} {trend} {curves}"


def crossing(
    first: Curve,
    second: Curve,
    forms: tuple[str, str] = ("saturating", "saturating"),
    *,
    reach: float = 1000.0,
    resamples: int = 1000,
    seed: int = 0,
) -> Crossing:
    """Finds where two arms cross, in two ways: from their leads at the sizes they share, and from their fitted curves.

    The leads are paired by seed and joined by straight lines over log n. Their interval comes from simulated studies:
    Student's t noise with the variances of the leads (`moderated_variances`) is added to the mean leads. For the
    fitted curves the noise of the two arms is simulated together, with the correlation of their residuals within seeds.
    Both intervals are percentile intervals and may extend to infinity. The trend is the slope of a straight line over
    log n for each seed, so its t-interval does not assume that the sizes are independent.

    Args:
      first, second: Number of examples -> one error or loss for each seed; the same seeds in the same order in both.
      forms: Forms of the fits of the two arms, keys of `scaling_laws.FORMS`.
      reach: Factor beyond the largest size up to which the fitted curves are followed; a later crossing is infinite.
      resamples: Number of simulated studies.
      seed: Seed of their noise.

    Raises:
      UserError: If the arms share fewer than two sizes, if their seeds differ, or for the reasons of
        `scaling_laws.fit`.
    """
    sizes = sorted(set(first) & set(second))
    if len(sizes) < 2:
        raise UserError(f"a crossing needs two sizes that both arms have; these have {sizes}")
    first, second = {n: first[n] for n in sizes}, {n: second[n] for n in sizes}
    counts = [{n: len(values) for n, values in arm.items()} for arm in (first, second)]
    if len({*counts[0].values(), *counts[1].values()}) > 1:
        raise UserError(f"arms are paired by seed, so every size needs the same seeds; numbers of them: {counts}")
    leads = {n: paired_difference(second[n], first[n]) for n in sizes}
    each = np.array([leads[n].each for n in sizes])  # sizes seeds
    means, sign = each.mean(1), 1 if each[0].mean() > 0 else -1
    slopes = np.polyfit(np.log10(sizes), each, 1)[0]

    rng = np.random.default_rng(seed)
    # A normal draw times a standard error that is itself drawn is Student's t noise.
    simulated = means + rng.standard_normal((resamples, len(sizes))) * mean_errors(rng, each, resamples)
    observed = _interval(np.asarray(sizes), sign * means, sign * simulated)

    draws, shared = rng.standard_normal((2, resamples, len(sizes))), seed_correlation(first, second)
    draws[1] = shared * draws[0] + np.sqrt(1 - shared**2) * draws[1]  # unit variance, correlation `shared`
    first_fit = fit(first, forms[0], draws=draws[0], seed=seed)
    second_fit = fit(second, forms[1], draws=draws[1], seed=seed + 1)
    line = np.geomspace(sizes[0], reach * sizes[-1], 400)
    # Each arm was simulated under several truths; every pair of them is a possible lead.
    truths = [b - a for a in evaluate(first_fit.replicates, line) for b in evaluate(second_fit.replicates, line)]
    lead = second_fit.predict(line) - first_fit.predict(line)
    fitted = _interval(line, sign * lead, sign * np.stack(truths), len(sizes))
    return Crossing(leads, t_interval(slopes), observed, fitted, reach * sizes[-1])


def mean_errors(rng: np.random.Generator, groups: np.ndarray, n: int) -> np.ndarray:
    """Draws the standard errors of the means of groups in simulated studies, float [n or 1, groups].

    NaN if each group has only one value, 0 if all values of each group are equal.

    Args:
      rng: Generator of the draws.
      groups: Values of each group, float [groups, values].
      n: Number of simulated studies.
    """
    count = groups.shape[1]
    if count < 2 or not groups.var(1).any():
        return np.full((1, len(groups)), np.nan if count < 2 else 0.0)
    variances, df = moderated_variances(groups.var(1, ddof=1), np.full(len(groups), count - 1))
    return np.sqrt(variances / count * df / rng.chisquare(df, (n, 1)))


def seed_correlation(first: Curve, second: Curve) -> float:
    """Computes the correlation, over all sizes, of the deviations of two arms from their means.

    Args:
      first, second: Number of examples -> one value for each seed; the same sizes and seeds in both.

    Returns:
      A number in [-1, 1]; 0 if one arm does not deviate.
    """
    a, b = (
        (x - x.mean(1, keepdims=True)).ravel() for x in (np.array([*arm.values()], float) for arm in (first, second))
    )
    scale = np.sqrt((a @ a) * (b @ b))
    return float(np.clip(a @ b / scale, -1, 1)) if scale > 0 else 0.0


def _interval(examples: np.ndarray, lead: np.ndarray, simulated: np.ndarray, n: int | None = None) -> Interval:
    return percentile_interval(
        float(crossing_examples(examples, lead)), crossing_examples(examples, simulated), n or len(examples)
    )


def crossing_examples(examples: np.ndarray, lead: np.ndarray) -> np.ndarray:
    """Returns the number of examples from which a lead stays negative, by straight lines over log n.

    Args:
      examples: Numbers of examples, rising, [sizes].
      lead: Lead at each of them, float [..., sizes].

    Returns:
      Float [...]: infinite if there is a lead at the largest size, 0 if there is none anywhere, NaN if a lead is NaN.

    >>> leads = np.array([[1.0, -1.0], [1.0, 0.5], [-1.0, -2.0]])
    >>> crossing_examples(np.array([100, 10_000]), leads).round().tolist()
    [1000.0, inf, 0.0]
    """
    logs, lead = np.log(examples), np.asarray(lead)
    ahead = lead > 0
    last = lead.shape[-1] - 1 - np.argmax(ahead[..., ::-1], axis=-1)  # the last size with a lead
    left = np.minimum(last, lead.shape[-1] - 2)[..., None]
    before, after = (np.take_along_axis(lead, left + i, -1)[..., 0] for i in (0, 1))
    left = left[..., 0]
    share = np.clip(before / np.where(before == after, 1.0, before - after), 0, 1)
    place = np.exp(logs[left] + share * (logs[left + 1] - logs[left]))
    place = np.where(ahead[..., -1], np.inf, np.where(ahead.any(-1), place, 0.0))
    return np.where(np.isnan(lead).any(-1), np.nan, place)


def _examples(interval: Interval) -> str:
    low, high = _count(interval.low), _count(interval.high)
    ends = f"95 % interval {low} to {high}" if interval.high < np.inf else f"95 % interval from {low} on, without end"
    return f"{_count(interval.mean)} examples ({'without interval' if np.isnan(interval.low) else ends})"


def _count(examples: float) -> str:
    """A number of examples to three digits.

    >>> _count(12_345.0), _count(4.56e9)
    ('12,300', '4.56e+09')
    """
    return f"{float(f'{examples:.3g}'):,.0f}" if examples < 1e9 else f"{examples:.3g}"
