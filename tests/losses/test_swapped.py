"""The swapped prediction of SwAV against a loop in float64, and what the count of used prototypes shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.sinkhorn import sinkhorn
from jaxvision.losses.swapped import in_use, swapped_prediction


def by_hand(scores, targets, temperature):
    """Caron et al. 2020, eq. 2 and 6, divided by the number of pairs."""
    scores, targets = (np.asarray(x, np.float64) for x in (scores, targets))
    losses = []
    for image in range(len(scores)):
        total, pairs = 0.0, 0
        for i in range(targets.shape[1]):
            for v in range(scores.shape[1]):
                if v != i:
                    p = np.exp(scores[image, v] / temperature)
                    total -= (targets[image, i] * np.log(p / p.sum())).sum()
                    pairs += 1
        losses.append(total / pairs)
    return losses


@pytest.mark.parametrize(("views", "assigned"), [(2, 2), (5, 2), (3, 1)])
def test_it_is_the_equation(views, assigned):
    rng = np.random.default_rng(0)
    scores = jnp.asarray(rng.normal(size=(4, views, 6)), jnp.float32)
    targets = jnp.asarray(rng.dirichlet(np.ones(6), (4, assigned)), jnp.float32)
    np.testing.assert_allclose(swapped_prediction(scores, targets, 0.2), by_hand(scores, targets, 0.2), rtol=1e-5)


def test_no_gradient_passes_through_the_assignments():
    scores = jax.random.normal(jax.random.key(0), (4, 2, 6))
    fixed = sinkhorn(scores[:, 0])[:, None]
    whole = jax.grad(lambda x: swapped_prediction(x, sinkhorn(x[:, 0])[:, None]).sum())(scores)
    np.testing.assert_array_equal(whole, jax.grad(lambda x: swapped_prediction(x, fixed).sum())(scores))
    assert not jax.grad(lambda q: swapped_prediction(scores, q).sum())(fixed).any()


def test_the_number_of_prototypes_in_use_is_that_of_equally_preferred_ones():
    scores = jnp.asarray(np.repeat(np.eye(5)[:3], 2, axis=0))  # three of five, two examples each
    np.testing.assert_allclose(in_use(scores), 3, rtol=1e-5)
    assert in_use(jnp.ones((7, 5))) == 1
