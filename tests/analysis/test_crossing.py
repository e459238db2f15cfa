"""Crossings against known ones: by hand, and in simulated studies."""

import numpy as np
import pytest
from scipy import optimize

from jaxvision.analysis.crossing import crossing
from jaxvision.analysis.scaling_laws import evaluate
from jaxvision.errors import UserError

SIZES = (400, 1_500, 5_000, 15_000, 45_000)
NOISE = (0.012, 0.009, 0.007, 0.006, 0.005)
RESNET, VIT = (2.2, 0.0, 0.25, 0.20), (4.0, 0.0, 0.30, 0.15)


def arms(rng, first, second, seeds=3):
    """Two arms whose seeds share a part of their noise, as paired runs on the same subset do."""
    shared = rng.standard_normal((len(SIZES), seeds))
    noise = lambda: np.array(NOISE)[:, None] * (0.6 * shared + 0.8 * rng.standard_normal(shared.shape))
    return [dict(zip(SIZES, (evaluate(np.array(arm), SIZES)[:, None] + noise()).tolist())) for arm in (first, second)]


def test_a_known_crossing_lies_in_its_interval_in_200_simulated_studies():
    """At 95 % the share of 200 is below 0.90 once in 500 times."""
    difference = lambda log: np.subtract(*(evaluate(np.array(arm), [np.exp(log)])[0] for arm in (VIT, RESNET)))
    truth = np.exp(optimize.brentq(difference, np.log(400), np.log(45_000)))
    rng, observed, fitted, verdicts = np.random.default_rng(0), 0, 0, []
    for seed in range(200):
        result = crossing(*arms(rng, RESNET, VIT), resamples=250, seed=seed)
        observed += result.observed.low <= truth <= result.observed.high
        fitted += result.fitted.low <= truth <= result.fitted.high
        verdicts.append(result.verdict)
    assert observed >= 180
    assert fitted >= 180
    assert verdicts.count("none") <= 5


def test_parallel_curves_are_hardly_ever_said_to_cross():
    rng = np.random.default_rng(1)
    apart = [crossing(*arms(rng, (2.2, 0, 0.25, 0.2), (2.6, 0, 0.25, 0.22)), resamples=100, seed=s) for s in range(20)]
    assert sum(result.verdict == "none" for result in apart) >= 17
    assert not any(result.verdict == "crosses" for result in apart)


def test_by_hand():
    """Leads of 4, 2, -2 and -2 points: between 1,000 and 10,000 the line is at zero halfway in log n."""
    first = {100: [0.50, 0.51, 0.52], 1_000: [0.40, 0.42, 0.41], 10_000: [0.30, 0.32, 0.31], 100_000: [0.2, 0.21, 0.22]}
    lead = {100: [0.04, 0.05, 0.03], 1_000: [0.02, 0.025, 0.015], 10_000: [-0.02] * 3, 100_000: [-0.02] * 3}
    second = {n: np.add(first[n], lead[n]).tolist() for n in first}
    result = crossing(first, second, forms=("power", "power"))
    assert result.observed.mean == pytest.approx(10**3.5)
    assert 1_000 < result.observed.low < 10**3.5 < result.observed.high < 10_000
    assert result.verdict == "crosses"
    assert {n: d.interval.mean for n, d in result.lead.items()} == pytest.approx({n: np.mean(lead[n]) for n in lead})
    # Least squares over log10 n of 2 to 5: the weights of the sizes are -0.3, -0.1, 0.1 and 0.3.
    slopes = [np.dot((-0.3, -0.1, 0.1, 0.3), [lead[n][seed] for n in sorted(lead)]) for seed in range(3)]
    assert result.trend.mean == pytest.approx(np.mean(slopes))
    assert result.trend.half == pytest.approx(2.484 * np.std(slopes, ddof=1), rel=1e-3)  # 4.303 / sqrt(3)
    words = result.words(("ResNet", "ViT"))
    assert words.startswith("ViT overtakes ResNet at 3,160 examples (95 % interval ")
    assert "Its lead changes by -2.20 points (95 % interval -3.07 to -1.33) per decade of data, over 3 seeds." in words


def test_swapped_arms_tell_the_same():
    one, two = arms(np.random.default_rng(0), RESNET, VIT)
    there, back = crossing(one, two), crossing(two, one)
    assert there.observed.mean == pytest.approx(back.observed.mean)
    assert there.trend.mean == pytest.approx(-back.trend.mean)
    names = ("ResNet", "ViT")
    assert there.words(names).split("examples")[0] == back.words(names[::-1]).split("examples")[0]


def test_no_crossing_is_said_with_the_trend_and_the_extrapolation():
    laws = (2.0, 0.0, 0.25, 0.10), (4.0, 0.0, 0.30, 0.10)
    exact = [{n: [v - 1e-4, v, v + 1e-4] for n, v in zip(SIZES, evaluate(np.array(law), SIZES))} for law in laws]
    result = crossing(*exact)
    assert result.verdict == "none"
    assert result.fitted.mean == pytest.approx(2.0**20, rel=0.1)  # 2 n^-0.25 = 4 n^-0.3
    words = result.words(("ResNet", "ViT"))
    assert words.startswith("No crossing from 400 to 45,000 examples: ResNet leads from the smallest to the largest.")
    assert "By extrapolation alone, the fitted curves cross at 1," in words


def test_curves_that_drift_apart_do_not_meet():
    one, two = arms(np.random.default_rng(0), (2.0, 0.0, 0.30, 0.10), (2.0, 0.0, 0.25, 0.20))
    result = crossing(one, two)
    assert result.verdict == "none"
    assert result.fitted.low == np.inf
    assert "The fitted curves do not meet up to 45,000,000 examples." in result.words(("ResNet", "ViT"))


def test_seeds_that_cross_at_random_leave_it_open():
    rng = np.random.default_rng(0)
    result = crossing(*arms(rng, RESNET, RESNET))
    assert result.verdict == "open"
    assert "do not settle" in result.words(("A", "B"))


def test_one_seed_gives_no_interval():
    one, two = arms(np.random.default_rng(0), RESNET, VIT, seeds=1)
    result = crossing(one, two)
    assert result.verdict == "open"
    assert np.isnan(result.observed.low)
    assert np.isnan(result.trend.low)
    assert "per decade of data, over one seed." in result.words(("A", "B"))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({400: [0.5, 0.6], 99: [0.2, 0.2]}, r"two sizes that both arms have; these have \[400\]"),
        ({400: [0.5, 0.6], 2_000: [0.4], 10_000: [0.3, 0.3]}, "paired by seed"),
    ],
)
def test_arms_that_cannot_be_paired_are_refused(second, words):
    with pytest.raises(UserError, match=words):
        crossing({400: [0.5, 0.6], 2_000: [0.4, 0.4], 10_000: [0.3, 0.3]}, second)
