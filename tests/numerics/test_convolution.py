"""Convolution on numbers small enough to check by hand: which way the kernel lies, where padding and stride fall."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxvision.models.layers import Conv, local_response_norm

KERNEL = jnp.array([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 1.0, 1.0]])
IMAGE = jnp.arange(16.0).reshape(4, 4)


def convolve(image, kernel, stride=1):
    """One channel in, one out: [H, W] -> [h, w]."""
    variables = {"params": {"kernel": kernel[:, :, None, None]}}
    return Conv(1, kernel.shape[0], stride).apply(variables, image[None, :, :, None])[0, :, :, 0]


def test_the_kernel_is_not_flipped():
    """[1, 2, 1] met by [1, -1] is [-1, 1]: a correlation, as in all networks. A true convolution gives [1, -1]."""
    rows = jnp.zeros((3, 3)).at[1].set(jnp.array([1.0, 2.0, 1.0]))
    kernel = jnp.zeros((3, 3)).at[1].set(jnp.array([1.0, -1.0, 0.0]))
    np.testing.assert_array_equal(convolve(rows, kernel)[1, 1:], [-1, 1])


@pytest.mark.parametrize(
    ("stride", "want"),
    [(1, [[9, 7, 8, 1], [18, 14, 17, 4], [34, 26, 29, 8], [17, 19, 21, 11]]), (2, [[9, 8], [34, 29]])],
)
def test_padding_is_the_same_on_both_sides(stride, want):
    """The "SAME" of TensorFlow and JAX has [[14, 4], [19, 11]] at stride 2: it pads the end alone."""
    np.testing.assert_array_equal(convolve(IMAGE, KERNEL, stride), want)


def test_the_gradient_is_the_transposed_convolution():
    """Each output pixel pastes the kernel, so <conv(x), y> = <x, conv^T(y)>; with stride 2, by hand."""
    y = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    transposed = jax.linear_transpose(lambda x: convolve(x, KERNEL, 2), IMAGE)(y)[0]
    np.testing.assert_array_equal(transposed, [[0, 0, 0, 0], [4, 2, 6, 6], [0, 0, 0, 0], [3, -1, 4, 4]])
    assert jnp.vdot(convolve(IMAGE, KERNEL, 2), y) == jnp.vdot(IMAGE, transposed)


@pytest.mark.parametrize("channels", [3, 5, 12])
def test_local_response_norm_equals_a_loop(channels):
    """Krizhevsky et al. 2012, sec. 3.3, with k = 2, n = 5, beta = 0.75, and alpha large enough to be seen."""
    x = np.random.default_rng(0).normal(0, 3, (2, 4, 4, channels))
    want = np.empty_like(x)
    for i in range(channels):
        around = x[..., max(0, i - 2) : min(channels - 1, i + 2) + 1]
        want[..., i] = x[..., i] / (2 + 0.1 * (around**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(local_response_norm(jnp.asarray(x, jnp.float32), alpha=0.1), want, rtol=1e-5)


def test_local_response_norm_of_the_paper():
    """A pixel of ones over 96 channels: (2 + 5e-4) ** -0.75 inside, with 3 and 4 neighbours at the ends."""
    y = jax.jit(local_response_norm)(jnp.ones((1, 1, 1, 96))).ravel()
    np.testing.assert_allclose(y[2:-2], 2.0005**-0.75, rtol=1e-6)
    np.testing.assert_allclose(y[jnp.array([0, 1, -1])], [2.0003**-0.75, 2.0004**-0.75, 2.0003**-0.75], rtol=1e-6)


def test_local_response_norm_has_the_gradient_of_finite_differences():
    x = jax.random.normal(jax.random.key(0), (2, 7))
    check_grads(lambda x: local_response_norm(x, alpha=0.5), (x,), order=1, modes=["rev"], rtol=1e-2)
