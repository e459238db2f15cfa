"""The form of the depthwise convolution for CPUs against XLA's convolution, in value, gradients and cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.analysis.accounting import macs
from jaxvision.analysis.collectives import collectives
from jaxvision.models import depthwise
from jaxvision.parallel.mesh import batch_sharding


def with_gradients(conv):
    def all_of(x, kernel, g):
        y, pull_back = jax.vjp(conv, x, kernel)
        return y, *pull_back(g)

    return all_of


def arrays(b, h, w, size, c=5):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (b, h, w, c), (size, size, 1, c), (b, h, w, c)
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes)]


@pytest.mark.parametrize(("h", "w", "size"), [(14, 10, 7), (34, 3, 3), (7, 7, 7), (1, 2, 5), (3, 4, 1)])
def test_equals_the_convolution_to_rounding(h, w, size):
    given = arrays(2, h, w, size)
    expected = jax.jit(with_gradients(depthwise._convolution))(*given)
    got = jax.jit(with_gradients(depthwise.depthwise_conv))(*given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)


def test_bfloat16_is_the_convolution():
    given = [x.astype(jnp.bfloat16) for x in arrays(1, 4, 4, 3)]
    ours, theirs = (conv(*given[:2]) for conv in (depthwise.depthwise_conv, depthwise._convolution))
    np.testing.assert_array_equal(np.float32(ours), np.float32(theirs))


def test_several_runs_at_once():
    """As in a population."""
    x, kernel, _ = arrays(6, 5, 5, 3)
    of_kernel = jax.grad(lambda kernel, x: jnp.square(depthwise.depthwise_conv(x, kernel)).sum())
    images, kernels = x.reshape(2, 3, 5, 5, 5), jnp.stack([kernel, -2 * kernel])
    each = [jax.jit(of_kernel)(*pair) for pair in zip(kernels, images)]
    np.testing.assert_allclose(jax.jit(jax.vmap(of_kernel))(kernels, images), np.stack(each), rtol=1e-4)


def test_cost_is_that_of_the_convolution():
    """9 products for each number of the result; so are both gradients. XLA's own gradient of the kernel has 5 times as
    many on a CPU, one for each channel."""
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays(2, 16, 16, 3)]
    assert macs(depthwise.depthwise_conv, *shapes[:2]) == 9 * shapes[0].size
    ours = with_gradients(depthwise.depthwise_conv)
    # Gradients of a convolution count their positions on padding, which are more.
    assert macs(ours, *shapes) == macs(with_gradients(depthwise._convolution), *shapes) >= 27 * shapes[0].size
    compiled = jax.jit(ours).lower(*shapes).compile().cost_analysis()["flops"]
    assert compiled < 1.2 * 2 * 27 * shapes[0].size


def test_devices_exchange_the_gradient_of_the_filters_only(mesh):
    devices = mesh()
    x, kernel, g = arrays(8, 8, 4, 3)
    rows = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(devices))
    compiled = jax.jit(with_gradients(depthwise.depthwise_conv)).lower(rows(x), kernel, rows(g)).compile()
    assert [(one.kind, one.bytes) for one in collectives(compiled, devices)] == [("all-reduce", kernel.nbytes)]
