"""Dropout in the transformer's MLP (Srivastava et al. 2014, sec. 4): unbiased, and silent in evaluation.

The MLP is made to read out the mean of its hidden units, all of which have the same value: the share of them that was
kept, over the rate at which they are kept. Stochastic depth is in tests/models.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.models.transformer import GELUS, Mlp

WIDTH, EXAMPLES = 1000, 400
HIDDEN = float(GELUS["tanh"](jnp.float32(2.0)))
MEAN_OF_HIDDEN = {
    "dense_0": {"kernel": jnp.zeros((1, WIDTH)), "bias": jnp.full(WIDTH, 2.0)},
    "dense_1": {"kernel": jnp.full((WIDTH, 1), 1 / WIDTH), "bias": jnp.zeros(1)},
}


def read_out(rate, train, seed=0):
    """For each example the mean of the hidden units, 1 where nothing is dropped."""
    y = Mlp(WIDTH, rate).apply(
        {"params": MEAN_OF_HIDDEN}, jnp.ones((EXAMPLES, 1)), train, rngs={"dropout": jax.random.key(seed)}
    )
    return np.asarray(y, np.float64)[:, 0] / HIDDEN


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_share_of_dropped_units(rate):
    kept = read_out(rate, train=True) * (1 - rate)
    deviation = (rate * (1 - rate) / WIDTH) ** 0.5  # of a binomial share
    assert abs(kept.mean() - (1 - rate)) < 4 * deviation / EXAMPLES**0.5
    assert kept.std() == pytest.approx(deviation, rel=0.15)  # examples draw for themselves; 4 deviations


@pytest.mark.parametrize(("rate", "train"), [(0.5, False), (0.0, True)])
def test_nothing_is_dropped(rate, train):
    np.testing.assert_allclose(read_out(rate, train), 1, rtol=1e-5)


def test_masks_follow_the_key():
    np.testing.assert_array_equal(read_out(0.5, True, seed=1), read_out(0.5, True, seed=1))
    assert (read_out(0.5, True, seed=1) != read_out(0.5, True, seed=2)).mean() > 0.9
