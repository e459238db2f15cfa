"""Losses of Barlow Twins, VICReg and SimSiam beside lightly's, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses import decorrelation
from jaxvision.losses.pairs import unit

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def losses(torch):
    """Their names in lightly, our functions of embeddings [b, 2, d]."""
    theirs = pytest.importorskip("lightly.loss", reason="compares with lightly", exc_type=Exception)

    def barlow_twins(z):
        terms = decorrelation.barlow_twins(z)
        return terms.invariance + 0.0051 * terms.redundancy

    def vicreg(z):
        terms = decorrelation.vicreg(z)
        return 25 * terms.variance + 25 * terms.invariance + terms.covariance

    return {
        "barlow_twins": (theirs.BarlowTwinsLoss(0.0051), barlow_twins),
        "vicreg": (theirs.VICRegLoss(), vicreg),
        "cosine": (theirs.NegativeCosineSimilarity(), lambda z: -(unit(z[:, 0]) * unit(z[:, 1])).sum(-1).mean()),
    }


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg", "cosine"])
def test_a_loss_equals_that_of_lightly(torch, losses, name):
    theirs, ours = losses[name]
    rng = np.random.default_rng(0)
    z = ((rng.normal(size=(32, 1, 12)) + 0.3 * rng.normal(size=(32, 2, 12))) * rng.uniform(0.3, 2, 12)).astype(
        "float32"
    )
    views = torch.tensor(z, requires_grad=True)
    want = theirs(views[:, 0], views[:, 1])
    want.backward()
    got, gradient = jax.jit(jax.value_and_grad(ours))(jnp.asarray(z))
    np.testing.assert_allclose(got, want.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, views.grad.numpy(), rtol=1e-3, atol=1e-6)
