"""The gradient of the kernel as products of matrices against XLA's convolution: values, cost, and where it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.analysis.accounting import macs
from jaxvision.analysis.collectives import collectives
from jaxvision.models import convolution as convolutions
from jaxvision.models.convolution import convolution, pad_widths, products
from jaxvision.parallel.mesh import batch_sharding


def arrays(b, h, w, c, k, size, stride, padding=None):
    keys = jax.random.split(jax.random.key(0), 3)
    size = (size, size) if isinstance(size, int) else size
    x, kernel = (jax.random.normal(key, shape) for key, shape in zip(keys, ((b, h, w, c), (*size, c, k))))
    return x, kernel, jax.random.normal(keys[2], jax.eval_shape(reference(stride, padding), x, kernel).shape)


def reference(stride, padding=None):
    """XLA's convolution, with the widths of the padding."""

    def convolve(x, kernel):
        pads = pad_widths(padding, kernel.shape[:2], x.shape[1:3], stride)
        return convolutions.xla_convolution(x, kernel, stride, 1, pads)

    return convolve


def ours(stride, padding=None):
    return lambda x, kernel: convolution(x, kernel, stride, padding=padding)


def kernel_gradient(x, g, size, stride):
    kernel = jax.ShapeDtypeStruct((size, size, x.shape[-1], g.shape[-1]), x.dtype)
    pads = ((size // 2, size // 2), (size // 2, size // 2))
    return jax.linear_transpose(lambda kernel: products(x, kernel, stride, pads), kernel)(g)[0]


def with_gradients(conv):
    def all_of(x, kernel, g):
        y, pull_back = jax.vjp(conv, x, kernel)
        return y, *pull_back(g)

    return jax.jit(all_of)


CASES = [
    (2, 6, 5, 3, 4, 3, 1),  # the gradient is moved
    (2, 6, 5, 2, 8, 3, 1),  # the map is moved
    (2, 7, 6, 3, 4, 3, 2),
    (1, 9, 9, 3, 2, 7, 2),
    (1, 2, 1, 2, 2, 5, 1),  # a kernel larger than the map
    (1, 5, 7, 2, 3, 1, 3),
    (1, 6, 5, 2, 3, (1, 7), 1),  # the two sides of an Inception's 7x7
    (1, 6, 5, 3, 2, (5, 1), 2),
    (1, 8, 7, 2, 3, 3, 1, 0),
    (1, 9, 9, 2, 3, 3, 2, "SAME"),
    (1, 8, 8, 2, 3, 4, 1, ((1, 2), (0, 3))),
    (1, 12, 13, 3, 2, 5, 4, 2),
    (1, 4, 4, 2, 3, 1, 1, 1),  # padding as wide as the kernel
]


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_are_those_of_xla_s_convolution(case, monkeypatch):
    monkeypatch.setattr(convolutions, "slow_gradient", lambda: True)
    given, rest = arrays(*case), case[6:]
    expected = with_gradients(reference(*rest))(*given)
    got = with_gradients(ours(*rest))(*given)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])
    np.testing.assert_allclose(got[2], expected[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES[:3])
def test_derivatives_of_other_modes_and_orders_are_those_of_xla_s_convolution(case, monkeypatch):
    monkeypatch.setattr(convolutions, "slow_gradient", lambda: True)
    x, kernel, g = arrays(*case)

    def derivatives(conv):
        loss = lambda x, kernel: (jnp.sin(conv(x, kernel)) * g).sum()
        along = lambda function: jax.jvp(function, (x, kernel), (2 * x, jnp.cos(kernel)))[1]
        yield along(conv)
        yield jax.jvp(lambda kernel: conv(x, kernel), (kernel,), (jnp.cos(kernel),))[1]
        yield from along(jax.grad(loss, (0, 1)))  # a product with the Hessian
        yield jax.linear_transpose(lambda x: conv(x, kernel), x)(g)[0]
        yield jax.vmap(jax.grad(loss, 1))(jnp.stack([x, 2 * x]), jnp.stack([kernel, -kernel]))

    for got, expected in zip(derivatives(ours(case[-1])), derivatives(reference(case[-1])), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_only_the_map_is_kept_for_the_backward_pass(monkeypatch):
    monkeypatch.setattr(convolutions, "slow_gradient", lambda: True)
    x, kernel, _ = arrays(2, 6, 5, 3, 4, 3, 1)
    _, pull_back = jax.vjp(lambda kernel: convolution(x, kernel), kernel)
    assert sum(leaf.size for leaf in jax.tree.leaves(pull_back)) <= x.size


@pytest.mark.parametrize("case", CASES)
def test_the_count_of_operations_does_not_depend_on_the_processor(case, monkeypatch):
    """Else budgets of compute would differ between machines. Images have no gradient, and none is counted."""
    x, kernel, _ = arrays(*case)
    counts = []
    for slow in (False, True):
        monkeypatch.setattr(convolutions, "slow_gradient", lambda slow=slow: slow)
        value = lambda kernel, x: ours(*case[6:])(x, kernel).sum()
        counts.append([macs(jax.grad(value, of), kernel, x) for of in (0, 1, (0, 1))])
    assert counts[0] == counts[1]


def test_the_gradient_of_the_kernel_is_the_sum_by_hand():
    x, kernel, g = (np.asarray(a, np.float64) for a in arrays(2, 5, 4, 2, 3, 3, 2))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros(kernel.shape)
    for image, row, column in np.ndindex(g.shape[:3]):
        patch = padded[image, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        expected += patch[..., None] * g[image, row, column]
    got = jax.jit(kernel_gradient, static_argnums=(2, 3))(jnp.float32(x), jnp.float32(g), 3, 2)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "slow"), [("fma avx avx2", True), ("avx2 avx512f avx512bw", False), (None, False)], ids=str
)
def test_the_processor_decides(flags, slow, tmp_path, monkeypatch):
    information = tmp_path / "cpuinfo"
    information.write_text("processor : 0\n" + (f"flags\t\t: fpu {flags}\n" if flags else ""))
    monkeypatch.setattr(convolutions, "_CPUINFO", information)
    monkeypatch.setattr(convolutions.platform, "machine", lambda: "x86_64")
    assert convolutions.slow_gradient.__wrapped__() is slow
    monkeypatch.setattr(convolutions.platform, "machine", lambda: "aarch64")
    assert convolutions.slow_gradient.__wrapped__() is False


def test_bfloat16_and_groups_are_the_convolution(monkeypatch):
    monkeypatch.setattr(convolutions, "slow_gradient", lambda: True)
    x, kernel, _ = arrays(1, 4, 4, 4, 4, 3, 1)
    half = [a.astype(jnp.bfloat16) for a in (x, kernel)]
    grouped = kernel[:, :, :2]
    for given, groups in ((half, 1), ((x, grouped), 2)):
        assert "custom_jvp" not in str(jax.make_jaxpr(lambda *a, groups=groups: convolution(*a, 1, groups))(*given))
    assert "custom_jvp" in str(jax.make_jaxpr(convolution)(x, kernel))


def test_devices_exchange_the_gradient_of_the_kernel_only(mesh):
    devices = mesh()
    x, kernel, g = arrays(8, 8, 8, 4, 4, 3, 1)
    rows = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(devices))
    compiled = jax.jit(kernel_gradient, static_argnums=(2, 3)).lower(rows(x), rows(g), 3, 1).compile()
    exchanged = [(one.kind, one.bytes) for one in collectives(compiled, devices)]
    assert {kind for kind, _ in exchanged} == {"all-reduce"}
    assert sum(size for _, size in exchanged) == kernel.nbytes
