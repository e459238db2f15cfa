"""Intervals against the tables, their coverage by simulation, and the noise of few values."""

import math

import numpy as np
import pytest
from scipy import optimize, special

from jaxvision.analysis.statistics import (
    moderated_variances,
    paired_difference,
    percentile_interval,
    pooled_variance,
    t_interval,
)


def test_interval_of_three_and_of_one():
    interval = t_interval([1.0, 2.0, 4.0])
    assert interval.mean == pytest.approx(7 / 3)
    assert interval.half == pytest.approx(2.484 * np.std([1, 2, 4], ddof=1), rel=1e-3)  # 4.303 / sqrt(3)
    assert math.isnan(t_interval([5.0]).low)


def test_coverage():
    """95 % intervals hold the truth in 93 to 97 % of 4,000 draws (seed 0; three standard errors are 1.0 %)."""
    draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 5))
    hits = np.mean([i.low <= 3.0 <= i.high for i in map(t_interval, draws)])
    assert 0.93 < hits < 0.97


def test_pairing_removes_what_the_seeds_share():
    shared = np.random.default_rng(0).normal(0, 10, 5)
    difference = paired_difference(shared + 1.0 + np.array([0.1, -0.1, 0.0, 0.05, -0.05]), shared)
    assert difference.interval.mean == pytest.approx(1.0)
    assert difference.interval.half < 0.2
    assert difference.p == pytest.approx(2 / 32)
    assert difference.each == pytest.approx((1.1, 0.9, 1.0, 1.05, 0.95))


def test_pooled_variance_weighs_groups_by_their_degrees_of_freedom():
    groups = [[1.0, 2.0, 4.0], [10.0, 13.0], [7.0]]
    variance, df = pooled_variance(groups)
    assert df == 3
    assert variance == pytest.approx((2 * np.var(groups[0], ddof=1) + np.var(groups[1], ddof=1)) / 3)
    assert math.isnan(pooled_variance([[1.0], [2.0]])[0])


def test_variances_that_differ_by_chance_are_pooled_and_others_are_shrunk_half_way():
    """The prior's degrees of freedom solve trigamma(d0 / 2) = var(log s^2) - trigamma(d / 2)."""
    alike, df = moderated_variances(np.array([1.0, 1.5, 0.8]), np.array([10, 10, 10]))
    assert alike == pytest.approx([1.1] * 3)
    assert df == 30
    variances, d = np.array([1e-4, 1e-2, 1.0, 30.0]), np.full(4, 6)
    shrunk, df = moderated_variances(variances, d)
    excess = np.var(np.log(variances), ddof=1) - special.polygamma(1, 3)
    prior = 2 * optimize.brentq(lambda x: special.polygamma(1, x) - excess, 1e-3, 1e3)
    common = np.exp(
        np.log(variances).mean() - special.digamma(3) + np.log(3) + special.digamma(prior / 2) - np.log(prior / 2)
    )
    assert shrunk == pytest.approx((prior * common + 6 * variances) / (prior + 6))
    assert df == pytest.approx(prior + 6)


def test_moderated_variances_are_nearer_to_the_truth():
    """Three values each of five groups whose variances fall by a factor of fourteen, 2,000 times."""
    rng, truth = np.random.default_rng(0), np.array([2.25, 1.0, 0.49, 0.25, 0.16])
    estimates = truth * rng.chisquare(2, (2_000, 5)) / 2
    shrunk, df = moderated_variances(estimates, np.full(5, 2))
    miss = lambda variances: np.sqrt(np.mean(np.log(variances / truth) ** 2))
    assert miss(shrunk) < 0.8 * miss(estimates)
    assert shrunk.shape == estimates.shape
    assert df.shape == (2_000,)
    assert np.all(df <= 10)
    np.testing.assert_allclose(shrunk[7], moderated_variances(estimates[7], np.full(5, 2))[0])


def test_a_group_of_one_gets_the_common_variance():
    shrunk, _ = moderated_variances(np.array([np.nan, 1e-4, 1.0, 30.0]), np.array([0, 6, 6, 6]))
    without, _ = moderated_variances(np.array([1e-4, 1.0, 30.0]), np.array([6, 6, 6]))
    np.testing.assert_allclose(shrunk[1:], without)
    assert 1e-4 < shrunk[0] < 30


def test_percentile_intervals_take_the_widest_ends_and_infinity():
    draws = np.stack([np.arange(1_001.0), np.arange(1_001.0) + 500])
    assert percentile_interval(400, draws, 5)[:3] == (400, 25, 1475)
    draws[1, -100:] = np.inf
    assert percentile_interval(400, draws, 5).high == np.inf
    draws[0, 3] = np.nan
    assert math.isnan(percentile_interval(400, draws, 5).low)
