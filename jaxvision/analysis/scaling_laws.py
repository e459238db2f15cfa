"""Fits power laws of error over training examples, with intervals, and chooses between them.

    power               a n^-c
    shifted             a (n + b)^-c
    saturating          a n^-c + e
    shifted_saturating  a (n + b)^-c + e

n is the number of training examples and the value is an error in [0, 1] or a loss: c is the exponent, e the part that
no amount of data removes, b the number of examples below which the curve is flat. Sources: Hestness et al. 2017, arXiv
1712.00409 (power, saturating); Rosenfeld et al. 2020, arXiv 1909.12673 (saturating, for a fixed network); Zhai et al.
2022, arXiv 2106.04560, fig. 2 (all four parameters, over compute).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxvision.analysis.statistics import Interval, moderated_variances, percentile_interval, pooled_variance
from jaxvision.errors import UserError, unknown

FORMS = {  # form -> its free parameters
    "power": ("a", "c"),
    "shifted": ("a", "b", "c"),
    "saturating": ("a", "c", "e"),
    "shifted_saturating": ("a", "b", "c", "e"),
}
STEEPEST = 4.0  # upper bound of the exponent c; published exponents are below 1

Curve = Mapping[int, Sequence[float]]  # examples -> one value for each seed
Numbers = Sequence[float] | np.ndarray


class Fit(NamedTuple):
    """A form fitted to the means over seeds, and its refits to simulated studies, from which every interval comes.

    Attributes:
      form: Key of FORMS.
      estimates: Parameters a, b, c, e, float [4].
      replicates: Parameters of each simulated study, float [truths, resamples, 4]; NaN if the noise is unknown.
      examples: Numbers of examples, float [sizes], rising.
      means: Means over seeds, float [sizes].
      errors: Standard errors of the means, float [sizes].
      lack_of_fit: The p of an F-test of the form against any curve; NaN without spare sizes or without seeds.
    """

    form: str
    estimates: np.ndarray
    replicates: np.ndarray
    examples: np.ndarray
    means: np.ndarray
    errors: np.ndarray
    lack_of_fit: float

    def parameters(self, confidence: float = 0.95) -> dict[str, Interval]:
        """Maps each free parameter to its estimate and interval.

        Args:
          confidence: Level of the intervals, in (0, 1).
        """
        return {
            name: percentile_interval(self.estimates[i], self.replicates[..., i], len(self.examples), confidence)
            for i, name in enumerate("abce")
            if name in FORMS[self.form]
        }

    def predict(self, examples: Numbers) -> np.ndarray:
        """Evaluates the fitted curve.

        Args:
          examples: Numbers of examples, [n].

        Returns:
          Float [n].
        """
        return evaluate(self.estimates, examples)

    def band(self, examples: Numbers, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Returns the lower and the upper end of the interval of the curve at each number of examples, float [n] each.

        The interval holds for the mean over seeds, if the form is right: a single run scatters more, and beyond the
        largest size no data support the form.

        Args:
          examples: Numbers of examples, [n].
          confidence: Level of the interval, in (0, 1).
        """
        ends = 0.5 - confidence / 2, 0.5 + confidence / 2
        low, high = np.quantile(evaluate(self.replicates, examples), ends, axis=1)
        return low.min(0), high.max(0)

    def residuals(self) -> np.ndarray:
        """Mean minus fit at each size, in standard errors of the mean, float [sizes]."""
        return (self.means - self.predict(self.examples)) / self.errors


def evaluate(parameters: np.ndarray, examples: Numbers) -> np.ndarray:
    """Computes a (n + b)^-c + e.

    Args:
      parameters: Parameters in the order a, b, c, e, float [..., 4].
      examples: Numbers of examples, [n].

    Returns:
      Float [..., n].

    >>> evaluate(np.array([2.0, 0.0, 0.5, 0.1]), [100, 10_000]).round(3).tolist()
    [0.3, 0.12]
    """
    a, b, c, e = (p[..., None] for p in np.moveaxis(np.asarray(parameters, float), -1, 0))
    return a * (np.asarray(examples, float) + b) ** -c + e


def inverse(parameters: np.ndarray, values: Numbers) -> np.ndarray:
    """Computes the number of examples at which a (n + b)^-c + e has a value.

    Args:
      parameters: Parameters in the order a, b, c, e, float [..., 4].
      values: Values of the curve, [n].

    Returns:
      Float [..., n]; infinite for a value that the curve never reaches, 0 for one that it is always below.

    >>> inverse(np.array([2.0, 0.0, 0.5, 0.1]), [0.3, 0.12, 0.1]).round(3).tolist()
    [100.0, 10000.0, inf]
    """
    a, b, c, e = (p[..., None] for p in np.moveaxis(np.asarray(parameters, float), -1, 0))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        logs = (np.log(a) - np.log(np.maximum(np.asarray(values, float) - e, 0))) / c
        # A flat curve (c = 0) is always below a value or never reaches it, even if it equals it.
        return np.maximum(np.where(np.isnan(logs), np.inf, np.exp(logs)) - b, 0)


def fit(
    values: Curve, form: str = "saturating", *, resamples: int = 1000, seed: int = 0, draws: np.ndarray | None = None
) -> Fit:
    """Fits a form by weighted least squares, within a >= 0, b from 0 to the largest size, c from 0 to 4, e >= 0.

    Each size is weighted by the inverse variance of its mean; variances over few seeds are `moderated_variances`. For
    given b and c the best a and e have a closed form (variable projection, Golub and Pereyra 1973), so the search is
    over two numbers at most: a grid over their whole range, then refinement around the best point.

    Intervals come from a parametric bootstrap: `resamples` studies are simulated, with means and variances, and
    fitted again. Resampling three seeds would make the noise too small by a third; here it is Student's t with the
    degrees of freedom of the variances. A bootstrap fails if the truth may lie on a bound (Andrews 2000), as e = 0
    does. So every simpler form that an F-test at 5 % does not reject is simulated as well, and an interval covers
    those of all these truths. If no seeds differ, the scatter around the curve is used as the noise.
    Seeds are taken as independent from size to size.

    In simulated studies of five sizes and three seeds with noise of 0.3 to 1.5 points, equal or falling with size, 95 %
    intervals held the truth in 90 to 99 % (tests/analysis/test_scaling_laws.py).

    Args:
      values: Number of examples -> one error in [0, 1], or one loss, for each seed; sizes in any order.
      form: Key of FORMS.
      resamples: Number of simulated studies for each truth.
      seed: Seed of their noise.
      draws: Standard normal noise of their means, float [resamples, sizes]; None to draw it from `seed`. Two fits with
        correlated noise need it.

    Raises:
      UserError: If the form is unknown, there are fewer sizes than parameters, a size is below one, or a value is
        negative or not finite.

    >>> fit({n: [2 * n**-0.5 + 0.1] for n in (100, 400, 1600, 6400)}).estimates.round(3).tolist()
    [2.0, 0.0, 0.5, 0.1]
    """
    if form not in FORMS:
        raise unknown("form of a scaling law", form, FORMS)
    data = _summary(values)
    sizes, means, counts, needed = data.sizes, data.means, data.counts, len(FORMS[form])
    if len(sizes) < needed:
        raise UserError(
            f"the form {form!r} has {needed} parameters and needs as many sizes of training set, not {len(sizes)}"
        )
    weights = counts / data.variances
    estimates = solve(form, sizes, means[None], weights[None])[0]
    misfit = lambda parameters: np.sum((means - evaluate(parameters, sizes)) ** 2 * weights)
    least, spare, df = misfit(estimates), len(sizes) - needed, data.df
    lack = float(stats.f.sf(least / spare, spare, df)) if spare and df else float("nan")
    scatter = 1.0
    if not df:
        df, scatter = spare, least / spare if spare else float("nan")
    variances = scatter * data.variances
    errors = np.sqrt(variances / counts)
    if not df:
        return Fit(form, estimates, np.full((1, 1, 4), np.nan), sizes, means, errors, lack)
    truths = [estimates]
    for simpler in FORMS:
        if (dropped := needed - len(FORMS[simpler])) > 0 and set(FORMS[simpler]) < set(FORMS[form]):
            truth = solve(simpler, sizes, means[None], weights[None])[0]
            if misfit(truth) - least <= stats.f.ppf(0.95, dropped, df) * dropped * scatter:
                truths.append(truth)
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal((resamples, len(sizes))) if draws is None else draws
    noise = draws * np.sqrt(df / rng.chisquare(df, (len(draws), 1))) * errors
    weights = counts / _simulated_variances(rng, variances, counts, len(draws)) if data.df else weights[None]
    replicates = np.stack([solve(form, sizes, evaluate(truth, sizes) + noise, weights) for truth in truths])
    return Fit(form, estimates, replicates, sizes, means, errors, lack)


class HeldOut(NamedTuple):
    """How well a form fitted to the smaller sizes predicts the largest ones.

    Attributes:
      form: Key of FORMS.
      predicted: Held-out size -> predicted value with its interval; empty if there were too few sizes to fit the form.
      observed: Held-out size -> mean over seeds.
      error: Root mean square of predicted - observed, in standard errors of the observed mean; NaN with too few sizes.
    """

    form: str
    predicted: dict[int, Interval]
    observed: dict[int, float]
    error: float


def select(
    values: Curve, forms: Sequence[str] = tuple(FORMS), *, held_out: int = 1, resamples: int = 1000
) -> tuple[str, list[HeldOut]]:
    """Chooses the form that predicts the `held_out` largest sizes best from the others.

    Errors that differ by less than one standard error of a mean are not distinguishable, so among the forms within that
    distance of the lowest error the one with the fewest parameters is chosen. If no seeds differ, errors are in units
    of the values, and the lowest is chosen. Judging by extrapolation instead of by the fit follows Alabdulmohsin et al.
    2022, arXiv 2209.06640, sec. 1.

    Args:
      values: Number of examples -> one value for each seed.
      forms: Keys of FORMS to compare.
      held_out: Number of sizes to predict, at least 1.
      resamples: Number of simulated studies for each truth; see `fit`.

    Returns:
      The chosen form, and the result of every form.

    Raises:
      UserError: For the reasons of `fit`, or if no form can be fitted to the sizes that are left.
    """
    if held_out < 1:
        raise UserError(f"held_out must be at least 1, not {held_out}")
    data = _summary(values)
    kept, last = {int(n): values[int(n)] for n in data.sizes[:-held_out]}, data.sizes[-held_out:]
    means, errors = data.means[-held_out:], np.sqrt(data.variances / data.counts)[-held_out:]
    observed = dict(zip(last.astype(int).tolist(), means.tolist()))
    table = []
    for form in sorted(forms, key=lambda form: len(FORMS.get(form, ()))):
        if form in FORMS and len(kept) < len(FORMS[form]):
            table.append(HeldOut(form, {}, observed, float("nan")))
            continue
        fitted = fit(kept, form, resamples=resamples)
        predicted = fitted.predict(last)
        low, high = fitted.band(last)
        ends = zip(last, predicted, low, high)
        intervals = {int(n): Interval(float(mean), float(a), float(b), len(kept)) for n, mean, a, b in ends}
        error = float(np.sqrt(np.mean(((predicted - means) / errors) ** 2)))
        table.append(HeldOut(form, intervals, observed, error))
    usable = [row for row in table if row.predicted]
    if not usable:
        raise UserError(f"{len(kept)} sizes are left with {held_out} held out: too few for {', '.join(forms)}")
    best, margin = min(row.error for row in usable), 1.0 if data.df else 1e-9
    return next(row.form for row in usable if row.error <= best + margin), table


class _Summary(NamedTuple):
    """A curve with rising sizes. If the seeds do not show the noise, the variances are 1 and df is 0."""

    sizes: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    variances: np.ndarray
    df: float


def _summary(values: Curve) -> _Summary:
    sizes = sorted(values)
    if not sizes or sizes[0] < 1:
        raise UserError(f"sizes of training sets must be at least 1: {sizes}")
    groups = [np.asarray(values[n], float) for n in sizes]
    for n, group in zip(sizes, groups):
        if not group.size or not np.all(np.isfinite(group) & (group >= 0)):
            raise UserError(f"errors and losses must be finite and not negative; at {n:,} examples: {group.tolist()}")
    means, counts = np.array([group.mean() for group in groups]), np.array([len(group) for group in groups])
    pooled, _ = pooled_variance(groups)
    variances, df = np.ones(len(sizes)), np.zeros(())
    if pooled > 1e-24:  # equal values may differ in the last bit
        sample_variances = np.array([group.var(ddof=1) if len(group) > 1 else pooled for group in groups])
        variances, df = moderated_variances(sample_variances, counts - 1)
    return _Summary(np.array(sizes, float), means, counts, variances, float(df))


def _simulated_variances(rng: np.random.Generator, variances: np.ndarray, counts: np.ndarray, n: int) -> np.ndarray:
    """The variances of each size that n studies would estimate if these were the true ones, float [n, sizes]."""
    df = counts - 1
    sample_variances = variances * rng.chisquare(np.maximum(df, 1), (n, len(df))) / np.maximum(df, 1)
    return moderated_variances(sample_variances, df)[0]


def solve(form: str, sizes: np.ndarray, means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fits a form to many studies at once by weighted least squares, within the bounds of `fit`, without intervals.

    Args:
      form: Key of FORMS.
      sizes: Numbers of examples, or other positive costs, rising, float [sizes].
      means: Error of each study at each size, float [studies or 1, sizes].
      weights: Weights of the squared residuals, float [studies or 1, sizes]; 0 leaves a size out.

    Returns:
      Parameters a, b, c, e of each study, float [studies, 4].

    >>> sizes = np.array([100.0, 400.0, 1600.0])
    >>> solve("power", sizes, 2 * sizes[None] ** -0.5, np.array([[1.0, 1.0, 0.0]])).round(3).tolist()
    [[2.0, 0.0, 0.5, 0.0]]
    """
    free, scale = FORMS[form], np.exp(np.log(sizes).mean())
    means = np.broadcast_to(means, (max(len(means), len(weights)), len(sizes)))
    # The search is over u in [0, 1] and v, with c = STEEPEST * u^2 and b = smallest size * (exp(v) - 1): equal steps of
    # u and v are fine where the curve is sensitive, at small exponents and small shifts.
    tops = np.array([1.0, np.log1p(sizes[-1] / sizes[0])])
    steps, shifts = tops / (60, 24), (-1, -0.5, 0, 0.5, 1)
    grid = steps * np.array([[(i, j) for i in range(61) for j in range(25 if "b" in free else 1)]])
    around = np.array([(i, j) for i in shifts for j in (shifts if "b" in free else (0,))])

    def curves(points):
        # Sizes are divided by their geometric mean, so that the power neither overflows nor underflows.
        return ((sizes + sizes[0] * np.expm1(points[..., 1:])) / scale) ** -(STEEPEST * points[..., :1] ** 2)

    def best_of(points):  # [studies or 1, candidates, 2] -> [studies, 2]
        chosen = np.argmin(_project(curves(points), means, weights, "e" in free)[2], axis=1)
        points = np.broadcast_to(points, (len(means), *points.shape[1:]))
        return np.take_along_axis(points, chosen[:, None, None], axis=1)[:, 0]

    best = best_of(grid)
    for _ in range(30):
        best = best_of(np.clip(best[:, None] + steps * around, 0, tops))
        steps = steps * 0.6
    a, e, _ = (part[:, 0] for part in _project(curves(best[:, None]), means, weights, "e" in free))
    c, b = STEEPEST * best[:, 0] ** 2, sizes[0] * np.expm1(best[:, 1])
    return np.stack([a * scale**c, b, c, e], -1)


def _project(basis: np.ndarray, means: np.ndarray, weights: np.ndarray, offset: bool) -> tuple[np.ndarray, ...]:
    """The best a >= 0 and e >= 0 (0 without `offset`) of a * basis + e, and the weighted mean square of the residuals.

    Basis float [studies or 1, candidates, sizes], means [studies, sizes], weights [studies or 1, sizes]; returns three
    arrays, float [studies, candidates].
    """
    w = weights / weights.sum(-1, keepdims=True)
    inner = lambda values, by: (values @ by[..., None])[..., 0]
    # Weighted means of f, f^2 and f y, and of y and y^2, for the basis f and the means y.
    level, square, cross = inner(basis, w), inner(basis**2, w), inner(basis, w * means)
    mean, power = (w * means).sum(-1)[:, None], (w * means**2).sum(-1)[:, None]
    a, e = np.maximum(cross / square, 0), np.zeros_like(cross)
    if offset:  # linear regression of y on f; if its intercept is negative, the best e is 0 and `a` stays as above
        spread = square - level**2
        slope = (cross - level * mean) / np.maximum(spread, 1e-300)
        slope = np.where(spread > 1e-12 * square, np.maximum(slope, 0), 0)  # a flat curve fits rising means best
        rest = mean - slope * level
        a, e = np.where(rest >= 0, slope, a), np.maximum(rest, 0)
    return a, e, power - 2 * a * cross - 2 * e * mean + a**2 * square + 2 * a * e * level + e**2
