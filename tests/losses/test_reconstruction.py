"""Losses of masked patches against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses import reconstruction


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    predictions, targets = rng.normal(size=(2, 3, 5, 12)).astype(np.float32)
    masked = rng.random((3, 5)) < 0.5
    assert 0 < masked.sum() < masked.size
    return predictions, targets, masked


@pytest.mark.parametrize("power", [1, 2])
def test_the_error_is_that_of_a_loop_over_the_masked_patches(arrays, power):
    predictions, targets, masked = arrays
    errors = [abs(predictions[i, j] - targets[i, j]) ** power for i, j in zip(*np.nonzero(masked))]
    got = reconstruction.masked_error(predictions, targets, masked, power)
    np.testing.assert_allclose(got, np.mean(errors), rtol=1e-5)


def test_visible_patches_get_no_gradient(arrays):
    predictions, targets, masked = map(jnp.asarray, arrays)
    slope = np.asarray(jax.grad(reconstruction.masked_error)(predictions, targets, masked))
    np.testing.assert_array_equal(np.any(slope, axis=-1), masked)


@pytest.mark.parametrize("power", [1, 2])
def test_the_blind_error_is_that_of_the_mean_masked_patch(arrays, power):
    _, targets, masked = arrays
    mean = np.mean([targets[i, j] for i, j in zip(*np.nonzero(masked))], axis=0)
    errors = [abs(mean - targets[i, j]) ** power for i, j in zip(*np.nonzero(masked))]
    np.testing.assert_allclose(reconstruction.blind_error(targets, masked, power), np.mean(errors), rtol=1e-5)


def test_no_constant_has_a_smaller_squared_error(arrays):
    _, targets, masked = arrays
    constant = lambda value: jnp.broadcast_to(value, targets.shape)
    error = lambda value: reconstruction.masked_error(constant(value), targets, masked)
    best = targets[masked].mean(0)
    slope = jax.grad(error)(best)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    np.testing.assert_allclose(error(best), reconstruction.blind_error(targets, masked), rtol=1e-5)


def test_patches_are_normalised_one_by_one_and_back():
    patches = 5 + 3 * np.random.default_rng(0).normal(size=(2, 4, 12)).astype(np.float32)
    want = np.empty_like(patches)
    for i, j in np.ndindex(2, 4):
        x = patches[i, j]
        want[i, j] = (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).sum() / 11 + 1e-6)
    got = reconstruction.normalize_patches(patches)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(reconstruction.denormalize_patches(got, patches), patches, rtol=1e-5)


def test_a_flat_patch_becomes_zeros():
    np.testing.assert_array_equal(reconstruction.normalize_patches(np.full((1, 12), 7.0)), 0)
