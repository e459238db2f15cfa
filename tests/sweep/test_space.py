"""Domains: values in bounds, of the stated distribution, and mistakes that are named."""

import math

import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.sweep import choice, grid, integers, log_uniform, uniform, when
from jaxvision.sweep import space as spaces


def drawn(domain, count=2000):
    return [spaces.draw(domain, 0, trial, "key") for trial in range(count)]


def test_a_uniform_domain_is_uniform():
    values = np.array(drawn(uniform(2, 4)))
    assert values.min() >= 2
    assert values.max() <= 4
    np.testing.assert_allclose(np.quantile(values, [0.25, 0.5, 0.75]), [2.5, 3.0, 3.5], atol=0.06)


def test_a_log_uniform_domain_is_uniform_in_its_logarithm():
    values = np.log10(drawn(log_uniform(1e-4, 1)))
    np.testing.assert_allclose(np.quantile(values, [0.25, 0.5, 0.75]), [-3, -2, -1], atol=0.12)


def test_integers_are_as_frequent_as_one_another():
    values, counts = np.unique(drawn(integers(3, 6)), return_counts=True)
    assert values.tolist() == [3, 4, 5, 6]
    np.testing.assert_allclose(counts / 2000, 0.25, atol=0.04)


def test_logarithmic_integers_favour_the_small_ones_and_reach_both_ends():
    values = drawn(integers(1, 64, log=True))
    assert (min(values), max(values)) == (1, 64)
    share = sum(v <= 8 for v in values) / 2000  # of [1, 9) in [1, 65) on a logarithmic scale
    assert abs(share - math.log(9) / math.log(65)) < 0.04


def test_choices_keep_their_type():
    assert {type(v) for v in drawn(choice(1, "a", (1, 2), None, True), 100)} == {int, str, tuple, type(None), bool}


def test_a_draw_depends_on_seed_trial_and_key_alone():
    domain = uniform(0, 1)
    value = spaces.draw(domain, 1, 2, "a")
    others = [spaces.draw(domain, 2, 2, "a"), spaces.draw(domain, 1, 3, "a"), spaces.draw(domain, 1, 2, "b")]
    assert value == spaces.draw(domain, 1, 2, "a")
    assert value not in others


def test_a_condition_on_a_key_that_is_inactive_does_not_hold():
    space = {
        "a": choice("x", "y"),
        "b": when("a", "x", choice(1, 2)),
        "c": when("b", (1, 2), uniform(0, 1)),
    }
    assert spaces.select(space, lambda key, domain: spaces.samples(domain)[-1]) == {"a": "y"}
    assert list(spaces.select(space, lambda key, domain: spaces.samples(domain)[0])) == ["a", "b", "c"]


def test_a_grid_with_conditions_has_each_point_once():
    space = {"a": grid("x", "y"), "b": when("a", "x", grid(1, 2, 3)), "c": grid(True, False), "fixed": 5}
    points = list(spaces.points(space))
    assert len(points) == 3 * 2 + 2
    assert points[:2] == [{"a": "x", "b": 1, "c": True}, {"a": "x", "b": 1, "c": False}]
    assert points[-1] == {"a": "y", "c": False}


def test_a_domain_reads_as_it_was_written():
    for domain in (uniform(0.0, 1.0), integers(1, 8, log=True), choice("a", (1, 2)), when("k", ("a", 1), grid(1, 2))):
        scope = dict(uniform=uniform, integers=integers, choice=choice, grid=grid, when=when)
        assert eval(repr(domain), scope) == domain


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: uniform(1, 1), "the lower one first"),
        (lambda: uniform(0, float("inf")), "give two finite numbers"),
        (lambda: log_uniform(0, 1), "above 0"),
        (lambda: integers(0.5, 2), "must be integers"),
        (lambda: integers(0, 8, log=True), "above 0"),
        (lambda: choice(), "at least one value"),
        (lambda: grid(1, 1), "names a value twice"),
        (lambda: when("a", 1, 2), "needs a domain"),
    ],
)
def test_a_mistake_is_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
