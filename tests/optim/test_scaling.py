"""Scaling rules of the learning rate."""

import pytest

from jaxvision.optim.scaling import linear_scaling, sqrt_scaling


def test_the_two_rules_of_simclr_meet_at_4096_and_the_root_is_larger_below():
    assert linear_scaling(0.3, 4096) == pytest.approx(4.8)
    assert sqrt_scaling(0.075, 4096) == pytest.approx(4.8)
    assert sqrt_scaling(0.075, 256) == pytest.approx(1.2)
    assert linear_scaling(0.3, 256) == pytest.approx(0.3)
