"""Ratios of compute at equal error, on families whose ratio is known."""

import numpy as np
import pytest

from jaxvision.analysis.equal_error import compute_ratio, fit_family, shared_errors
from jaxvision.analysis.scaling_laws import evaluate, inverse
from jaxvision.errors import UserError

RESNETS = np.array([50.0, 96, 141, 199, 563, 1126, 3306])  # exaFLOPs of Dosovitskiy et al. 2021, table 6
VITS = np.array([55.0, 196, 224, 783, 1567, 4262])
HYBRIDS = np.array([106.0, 246, 274, 859, 1668])
TRUTHS = {"power": (0.4, 0.0, 0.12, 0.0), "saturating": (0.4, 0.0, 0.25, 0.05)}


def errors(compute, ratio=1.0, truth=TRUTHS["power"], scatter=0.0, rng=None):
    """Errors of models that need `ratio` times the compute of the truth, with scatter in the logarithm."""
    noise = scatter * rng.standard_normal(len(compute)) if scatter else 0
    return evaluate(np.array(truth), compute / ratio) * np.exp(noise)


def simulate(first, second, scatters, studies, resamples=500):
    """Share of the studies whose intervals hold a ratio of 3: mean, at both ends, and its change."""
    rng, hits = np.random.default_rng(0), []
    for seed in range(studies):
        families = [
            fit_family(compute, errors(compute, ratio, scatter=scatter, rng=rng), resamples=resamples, seed=seed)
            for compute, ratio, scatter in zip((first, second), (3, 1), scatters)
        ]
        found = compute_ratio(*families, points=5)
        hits.append([one.low <= 3 <= one.high for one in (found.mean, found.at[0], found.at[-1])])
        hits[-1].append(found.change.low <= 1 <= found.change.high)
    return np.mean(hits, axis=0)


@pytest.mark.parametrize("form", TRUTHS)
def test_a_ratio_of_three_comes_back_without_scatter(form):
    first = fit_family(RESNETS, errors(RESNETS, 3, TRUTHS[form]), form, resamples=50)
    second = fit_family(VITS, errors(VITS, 1, TRUTHS[form]), form, resamples=50)
    found = compute_ratio(first, second)
    for one in (found.mean, *found.at):
        np.testing.assert_allclose(one[:3], 3, rtol=0.01)
    assert found.change.mean == pytest.approx(1, rel=0.02)
    assert (found.errors[0], found.errors[-1]) == shared_errors(first, second)


def test_curves_of_different_exponents_have_a_ratio_that_changes():
    first, second = RESNETS**-0.2, 0.5 * VITS**-0.1
    found = compute_ratio(fit_family(RESNETS, first, resamples=50), fit_family(VITS, second, resamples=50))
    truth = found.errors**-5 / (found.errors / 0.5) ** -10
    np.testing.assert_allclose([one.mean for one in found.at], truth, rtol=1e-3)
    assert found.mean.mean == pytest.approx(np.exp(np.log(truth).mean()), rel=1e-3)
    assert found.change.mean == pytest.approx(truth[-1] / truth[0], rel=1e-3)


def test_a_power_law_is_nearly_the_straight_line_of_the_logarithms():
    values = errors(RESNETS, scatter=0.04, rng=np.random.default_rng(0))
    family = fit_family(RESNETS, values, resamples=50)
    slope, _ = np.polyfit(np.log(RESNETS), np.log(values), 1)
    assert family.estimates[2] == pytest.approx(-slope, abs=0.005)
    assert family.scatter == pytest.approx(0.04, rel=0.6)


def test_intervals_hold_the_ratio_in_100_simulated_studies():
    """At 95 % the share of 100 is below 0.88 once in 400 times."""
    held = simulate(RESNETS, VITS, (0.06, 0.04), 100, resamples=300)
    assert held.min() >= 0.88, held
    assert held[0] < 1, "intervals that always hold the truth are too wide"


@pytest.mark.slow
@pytest.mark.parametrize("scatters", [(0.04, 0.04), (0.02, 0.06), (0.06, 0.02)], ids=str)
@pytest.mark.parametrize("sizes", [(RESNETS, VITS), (VITS, HYBRIDS)], ids=["7 and 6 models", "6 and 5 models"])
def test_intervals_hold_the_ratio_for_every_scatter(sizes, scatters):
    held = simulate(*sizes, scatters, 600, resamples=1000)
    # 0.93 to 0.95 for 7 and 6 models, 0.91 to 0.95 for 6 and 5; the ends are 0.91 at least.
    assert held[0] >= 0.90, held
    assert held.min() >= 0.88, held


def test_families_that_are_equal_are_resampled_independently():
    values = errors(VITS, scatter=0.05, rng=np.random.default_rng(1))
    found = compute_ratio(*(fit_family(VITS, values, resamples=500, seed=0) for _ in range(2)))
    assert found.mean.mean == pytest.approx(1)
    assert found.mean.low < 0.9
    assert found.mean.high > 1.1


def test_the_order_of_the_models_does_not_matter():
    values = errors(VITS, scatter=0.05, rng=np.random.default_rng(1))
    turned = fit_family(VITS[::-1], values[::-1], resamples=20)
    np.testing.assert_array_equal(fit_family(VITS, values, resamples=20).replicates, turned.replicates)


def test_models_without_any_to_spare_have_no_interval():
    first = fit_family(RESNETS[[0, -1]], errors(RESNETS[[0, -1]], 3), resamples=20)
    found = compute_ratio(first, fit_family(VITS, errors(VITS), resamples=20))
    assert found.mean.mean == pytest.approx(3, rel=0.01)
    assert np.isnan([found.mean.low, found.mean.high, first.scatter]).all()


def test_a_flat_curve_needs_any_compute():
    flat = fit_family(VITS, 0.2 + 0.001 * np.array([-1, 1, -1, 1, -1, 1.2]), resamples=200)
    found = compute_ratio(fit_family(RESNETS, errors(RESNETS), resamples=200), flat)
    assert found.mean.low == 0
    assert found.at[-1].high > 1e6 or found.at[-1].low == 0


def test_the_inverse_of_a_curve():
    law = np.array([[2.0, 300.0, 0.3, 0.05], [1.0, 0.0, 0.5, 0.0]])
    sizes = np.array([100.0, 5_000.0, 1e6])
    for parameters in law:
        np.testing.assert_allclose(inverse(parameters, evaluate(parameters, sizes)), sizes)
    assert inverse(law[0], [0.05, 0.01]).tolist() == [np.inf, np.inf]
    assert inverse(law[0], [5.0]).tolist() == [0.0]


@pytest.mark.parametrize(
    ("compute", "values", "form", "words"),
    [
        (VITS, errors(VITS), "cubic", "unknown form of a scaling law 'cubic'"),
        (VITS[:2], errors(VITS[:2]), "saturating", "needs 3 models, all of different compute"),
        ([50, 50, 90], [0.3, 0.2, 0.1], "power", "all of different compute"),
        ([50, 60, 90], [0.3, 0.2, 0.0], "power", "finite and above 0"),
        ([50, 60, np.nan], [0.3, 0.2, 0.1], "power", "finite and above 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(compute, values, form, words):
    with pytest.raises(UserError, match=words):
        fit_family(compute, values, form)


def test_families_that_share_no_error_are_refused():
    worse, better = fit_family(VITS, 10 * errors(VITS), resamples=20), fit_family(VITS, errors(VITS), resamples=20)
    with pytest.raises(UserError, match="the families share no error"):
        compute_ratio(worse, better)
