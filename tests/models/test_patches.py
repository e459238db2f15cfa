"""Patch embeddings and their resizing."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models.patches import PatchEmbedding, resize_patches


@pytest.mark.parametrize("bias", [True, False])
def test_patch_embedding_is_a_strided_convolution(images, bias):
    embed = PatchEmbedding(width=6, patch=4, dtype=jnp.float32, bias=bias)
    variables = embed.init(jax.random.key(0), images)
    conv = nn.Conv(6, (4, 4), (4, 4), padding="VALID", use_bias=bias)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, conv.init(jax.random.key(0), images))
    np.testing.assert_allclose(embed.apply(variables, images), conv.apply(variables, images), rtol=1e-5, atol=1e-5)


def test_an_image_that_is_no_whole_number_of_patches(images):
    with pytest.raises(UserError, match=re.escape("16x16 pixels cannot be cut into patches of 5x5")):
        jax.eval_shape(models.build("vit", 5, variant="mu/5").init, jax.random.key(0), images)


@pytest.mark.parametrize("patch", [5, 8, 13])
def test_enlarged_patches_have_the_same_products_with_the_resized_kernel(patch):
    """Beyer et al. 2023, sec. 3.4: <B x, w'> = <x, w> where B enlarges."""
    x, kernel = np.random.default_rng(0).normal(size=(2, 5, 5, 3, 4)).astype(np.float32)
    enlarged = jax.image.resize(x, (patch, patch, 3, 4), "bilinear", antialias=False)
    got = jnp.einsum("pqcd,pqcd->cd", enlarged, resize_patches(kernel, patch))
    np.testing.assert_allclose(got, np.einsum("pqcd,pqcd->cd", x, kernel), rtol=1e-3, atol=1e-4)


def test_a_kernel_of_the_same_size_is_not_touched():
    kernel = jnp.ones((4, 4, 3, 5))
    assert resize_patches(kernel, 4) is kernel


def test_a_smaller_kernel_is_the_least_squares_solution():
    """It is the w' with the least squares of B^T w' - w, by the normal equations."""
    kernel = np.random.default_rng(0).normal(size=(6, 6, 1, 1)).astype(np.float32)
    basis = jnp.eye(36).reshape(36, 6, 6)
    b = jax.image.resize(basis, (36, 4, 4), "bilinear", antialias=False).reshape(36, 16)  # B^T
    want = np.linalg.lstsq(b, kernel.ravel(), rcond=None)[0]
    np.testing.assert_allclose(resize_patches(kernel, 4).ravel(), want, atol=1e-5)


def test_one_base_kernel_gives_the_same_tokens_at_two_patch_sizes(images, random_variables):
    """A ViT whose kernel is kept at 4 pixels sees in 32 x 32 what it sees in 16 x 16, enlarged patch by patch."""
    small, large = (models.build("vit", 5, variant=f"mu/{p}", base_patch=4) for p in (4, 8))
    variables = random_variables(small.init, images)
    patches = images.reshape(2, 4, 4, 4, 4, 3).swapaxes(2, 3).reshape(-1, 4, 4, 3)
    patches = jax.image.resize(patches, (32, 8, 8, 3), "bilinear", antialias=False)
    enlarged = patches.reshape(2, 4, 4, 8, 8, 3).swapaxes(2, 3).reshape(2, 32, 32, 3)
    features, _ = jax.jit(small.apply)(variables, images)
    np.testing.assert_allclose(jax.jit(large.apply)(variables, enlarged)[0], features, rtol=1e-3, atol=1e-4)
