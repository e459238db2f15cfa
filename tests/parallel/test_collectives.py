"""A loss over all pairs on eight devices equals that on one, in value and gradient."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.contrastive import nt_xent
from jaxvision.losses.representation import gaussian_potential
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import shard_batch


def total(embeddings, temperature=0.2, mesh=None, chunk=None):
    def compare(z, axis_name=None):
        loss, correct = nt_xent(z, 0.2, chunk=chunk, axis_name=axis_name)
        return loss, correct, gaussian_potential(z[:, 0], chunk=chunk, axis_name=axis_name)

    loss, correct, potential = (compare if mesh is None else over_batch(compare, mesh))(embeddings)
    weights = 1 + jnp.arange(loss.size).reshape(loss.shape)  # every view's loss has a gradient of its own
    return (loss * weights).mean() + potential.mean(), (loss, correct, potential)


@pytest.fixture(scope="module")
def embeddings():
    return np.random.default_rng(0).normal(size=(16, 2, 6)).astype(np.float32)


@pytest.mark.parametrize("axes", [{}, {"fsdp": 4}, {"fsdp": 2, "tensor": 2}])
@pytest.mark.parametrize("chunk", [None, 3])
def test_devices_change_neither_values_nor_gradients(embeddings, mesh, axes, chunk):
    devices = mesh(**axes)
    of = lambda **how: jax.jit(jax.value_and_grad(lambda z: total(z, **how), has_aux=True))
    expected = of()(embeddings)
    got = of(mesh=devices, chunk=chunk)(shard_batch(embeddings, devices))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, expected)


def test_one_device_needs_no_collective(embeddings, mesh):
    compiled = jax.jit(lambda z: total(z, mesh=mesh(devices=1))).lower(embeddings).compile().as_text()
    assert not re.search(r"all-gather|all-reduce", compiled)


def test_a_device_holds_its_own_rows_of_the_similarities(embeddings, mesh):
    """No array of 32 x 32 numbers anywhere in the program: at most 4 of the 32 rows on each of eight devices."""
    devices = mesh()
    fn = jax.jit(jax.grad(lambda z: total(z, mesh=devices)[0]))
    compiled = fn.lower(shard_batch(embeddings, devices)).compile().as_text()
    assert "f32[4,32]" in compiled
    assert "f32[32,32]" not in compiled
