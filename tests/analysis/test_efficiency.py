"""The data ratio of two arms, and their gap at equal training loss."""

import numpy as np
import pytest

from jaxvision.analysis.efficiency import at_equal_loss, data_ratio, log_odds
from jaxvision.errors import UserError

SIZES = (100, 1_000, 10_000, 100_000)


def study(ratio, noise=0.0, seeds=3, seed=0):
    """Errors of two arms, straight over log n: the second needs `ratio` times the examples for the same error."""
    rng = np.random.default_rng(seed)
    curve = lambda n: 0.9 - 0.1 * np.log10(n)
    each = lambda factor: {n: (curve(n / factor) + noise * rng.standard_normal(seeds)).tolist() for n in SIZES}
    return each(1), each(ratio)


@pytest.mark.parametrize("ratio", [1.5, 4.0, 30.0])
def test_the_ratio_of_two_parallel_curves_is_the_same_everywhere(ratio):
    measured = data_ratio(*study(ratio))
    np.testing.assert_allclose([measured.start.mean, measured.end.mean], ratio, rtol=1e-6)
    np.testing.assert_allclose(measured.change.mean, 0, atol=1e-6)


def test_the_ratio_falls_where_the_second_arm_catches_up():
    first = {n: [0.5 - 0.1 * i] for i, n in enumerate(SIZES)}
    second = {n: [0.7 - 0.15 * i] for i, n in enumerate(SIZES)}  # 0.7, 0.55, 0.4, 0.25
    measured = data_ratio(first, second)
    np.testing.assert_allclose(np.log10(measured.start.mean), 4 / 3, rtol=1e-6)  # it has 0.5 a third of a decade on
    np.testing.assert_allclose(np.log10(measured.end.mean), 0.5, rtol=1e-6)  # the first has 0.25 half a decade before
    np.testing.assert_allclose(measured.change.mean, 0.5 - 4 / 3, rtol=1e-6)


def test_a_ratio_beyond_the_sizes_is_named_as_such():
    first = study(1.0)[0]
    far = {n: [0.95 - 0.001 * i] * 3 for i, n in enumerate(SIZES)}
    never, at_once = data_ratio(first, far), data_ratio(far, first)
    assert never.start.mean == never.end.mean == np.inf
    assert never.words(never.end) == "more than 1e+03 times (95 % interval more than 1e+03)"
    assert at_once.start.mean == 0
    assert at_once.words(at_once.start).startswith("less than 0.001 times")
    with pytest.raises(UserError, match="two sizes"):
        data_ratio({100: [0.5]}, {100: [0.6]})


def test_one_seed_has_a_ratio_and_no_interval():
    measured = data_ratio(*study(4.0, seeds=1))
    assert np.isnan(measured.end.low)
    assert measured.words(measured.end) == "4 times"


def test_intervals_hold_the_true_ratio_about_as_often_as_they_say():
    """The accuracy at which the ratio is measured is known only with noise; the interval includes that."""
    held = {"start": [], "end": [], "change": []}
    for seed in range(100):
        measured = data_ratio(*study(4.0, noise=0.01, seed=seed), resamples=400)
        for name, truth in (("start", 4.0), ("end", 4.0), ("change", 0.0)):
            interval = getattr(measured, name)
            held[name].append(interval.low <= truth <= interval.high)
    for name, hits in held.items():
        assert 0.88 <= np.mean(hits) <= 1.0, (name, np.mean(hits))


def records(losses, metrics, every=10):
    lines = [{"step": every * (i + 1), "loss": loss} for i, loss in enumerate(losses)]
    return lines + [{"step": every * (i + 1), "val/top1": value} for i, value in enumerate(metrics)]


def test_runs_are_compared_at_the_lowest_loss_that_both_reach():
    slow = records([2.0, 1.8, 1.6, 1.5], [0.2, 0.3, 0.4, 0.5])
    fast = records([1.9, 1.4, 1.0, 0.5], [0.25, 0.45, 0.6, 0.7])
    level, first, second = at_equal_loss(slow, fast)
    assert (level, first) == (1.5, 0.5)
    np.testing.assert_allclose(second, 0.25 + 0.8 * 0.2)  # 1.5 is 4/5 of the way from 1.9 to 1.4
    assert at_equal_loss(fast, slow) == (level, second, first)


def test_a_loss_that_rises_again_counts_where_it_was_first_reached():
    bumpy = records([2.0, 1.0, 1.5, 0.9], [0.2, 0.3, 0.4, 0.5])
    other = records([2.0, 1.8, 1.3, 1.0], [0.2, 0.3, 0.4, 0.6])
    assert at_equal_loss(bumpy, other) == (1.0, 0.3, 0.6)


def test_a_loss_that_is_reached_before_the_first_evaluation_is_not_compared():
    slow, fast = records([2.0, 1.8], [0.2, 0.3]), records([2.0, 1.5, 1.0], [])
    evaluated = [{"step": 30, "val/top1": 0.6}]
    assert at_equal_loss(slow, [*fast, *evaluated]) is None
    assert at_equal_loss(slow, [*fast, {"step": 10, "val/top1": 0.1}, *evaluated]) is not None


def test_runs_without_records_are_not_compared():
    assert at_equal_loss([], records([1.0], [0.5])) is None
    assert at_equal_loss([{"step": 1, "loss": 1.0}], records([1.0], [0.5])) is None


def test_log_odds_are_antisymmetric():
    np.testing.assert_allclose(log_odds([0.2, 0.5]) + log_odds([0.8, 0.5]), 0, atol=1e-12)
