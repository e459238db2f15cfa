"""The convolution, and a form of its gradient for processors on which XLA computes that slowly.

XLA's CPU backend computes the gradient of a kernel as a convolution with a window as large as the image. On processors
without AVX-512 this takes up to eleven times as long as the same sums written as products of matrices
(`benchmarks/kernel_gradient.py`).
"""

import functools
import platform
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

_CPUINFO = Path("/proc/cpuinfo")


def convolution(x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1) -> jax.Array:
    """Convolves with `size // 2` zeros on every side. Like `jax.lax.conv`, it does not flip the kernel.

    Args:
      x: Map, float [b, h, w, c].
      kernel: Kernel of an odd size, float [size, size, c / groups, k].
      stride: Step in pixels, down and across.
      groups: Number of groups of channels.

    Returns:
      Float [b, h / stride, w / stride, k], the sides rounded up.

    >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    >>> convolution(image, jnp.ones((3, 3, 1, 1)), stride=2)[0, :, :, 0].tolist()
    [[10.0]]
    """
    # In bfloat16 the partial sums would be rounded.
    if groups == 1 and x.dtype == jnp.float32 and slow_gradient():
        return _convolution(x, kernel, stride)
    return xla_convolution(x, kernel, stride, groups)


@functools.cache
def slow_gradient() -> bool:
    """Tells whether JAX computes on a processor with x86 instructions, but without AVX-512, as far as Linux says."""
    if jax.default_backend() != "cpu" or platform.machine() not in ("x86_64", "AMD64") or not _CPUINFO.exists():
        return False
    flags = next((line for line in _CPUINFO.read_text().splitlines() if line.startswith("flags")), "")
    return bool(flags) and "avx512f" not in flags.split()


def xla_convolution(x: jax.Array, kernel: jax.Array, stride: int, groups: int = 1) -> jax.Array:
    """Convolves as `convolution` does, and leaves both gradients to XLA.

    Args:
      x, kernel: Map [b, h, w, c] and kernel [size, size, c / groups, k], float.
      stride, groups: Step in pixels and number of groups.

    Returns:
      Float [b, h / stride, w / stride, k], the sides rounded up.
    """
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(kernel.shape[0] // 2,) * 2] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def products(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolves as `xla_convolution` does, as one product of matrices for each row of the kernel.

    The pixels that the columns of the kernel see stand beside each other, as channels. For the rows, the map before
    the product or the one after it is moved down, whichever has fewer numbers to copy in the gradient of the kernel.

    Args:
      x: Map, float [b, h, w, c].
      kernel: Kernel of an odd size, float [size, size, c, k].
      stride: Step in pixels, down and across.

    Returns:
      Float [b, h / stride, w / stride, k], the sides rounded up.
    """
    (b, h, w, c), (size, _, _, k), pad = x.shape, kernel.shape, kernel.shape[0] // 2
    h, w = -(-h // stride), -(-w // stride)
    move_after = stride == 1 and k <= 2 * c
    rows = (0, 0) if move_after else (pad, pad)
    x = jnp.pad(x, ((0, 0), rows, (pad, pad), (0, 0)))
    x = jnp.concatenate([x[:, :, j : j + stride * (w - 1) + 1 : stride] for j in range(size)], axis=-1)

    def row(i: int) -> jax.Array:
        seen = x if move_after else x[:, i : i + stride * (h - 1) + 1 : stride]
        y = (seen.reshape(-1, size * c) @ kernel[i].reshape(size * c, k)).reshape(b, h, w, k)
        return jnp.pad(y, ((0, 0), (size - 1 - i, i), (0, 0), (0, 0))) if move_after else y

    y = functools.reduce(jnp.add, map(row, range(size)))
    return y[:, pad : pad + h] if move_after else y


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return xla_convolution(x, kernel, stride)


@functools.partial(_convolution.defjvp, symbolic_zeros=True)
def _tangent(stride: int, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    (x, kernel), (dx, dkernel) = primals, tangents
    dy = []
    if not isinstance(dx, SymbolicZero):
        dy.append(_convolution(dx, kernel, stride))
    if not isinstance(dkernel, SymbolicZero):
        # The backward pass makes the columns again, from the map: kept, they would be `size` times as large as it.
        dy.append(jax.checkpoint(products, static_argnums=(2,))(x, dkernel, stride))
    y = _convolution(x, kernel, stride)
    return y, functools.reduce(jnp.add, dy) if dy else SymbolicZero.from_primal_value(y)
