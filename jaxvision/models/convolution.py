"""The convolution, and a form of its gradient for processors on which XLA computes that slowly.

XLA's CPU backend computes the gradient of a kernel as a convolution with a window as large as the image. On processors
without AVX-512 this takes up to eleven times as long as the same sums written as products of matrices
(`benchmarks/kernel_gradient.py`).
"""

import functools
import platform
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

Pads: TypeAlias = tuple[tuple[int, int], tuple[int, int]]  # zeros (above, below), (left, right)
Padding: TypeAlias = int | Literal["SAME", "CEIL"] | Pads | None  # see `pad_widths`
_CPUINFO = Path("/proc/cpuinfo")


def convolution(
    x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1, padding: Padding = None
) -> jax.Array:
    """Convolves a map with zeros around it. Like `jax.lax.conv`, it does not flip the kernel.

    Args:
      x: Map, float [b, h, w, c].
      kernel: Kernel, float [kh, kw, c / groups, k].
      stride: Step in pixels, down and across.
      groups: Number of groups of channels.
      padding: Zeros around the map, see `pad_widths`; None for `kh // 2` above and below and `kw // 2` on the sides.

    Returns:
      Float [b, h', w', k]. With the default padding and odd sides of the kernel, h' = h / stride and w' = w / stride,
      rounded up.

    >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    >>> convolution(image, jnp.ones((3, 3, 1, 1)), stride=2)[0, :, :, 0].tolist()
    [[10.0]]
    >>> convolution(image, jnp.ones((1, 2, 1, 1)), padding=0)[0, :, :, 0].tolist()
    [[3.0], [7.0]]
    """
    pads = pad_widths(padding, kernel.shape[:2], x.shape[1:3], stride)
    # In bfloat16 the partial sums would be rounded. Padding as wide as the kernel is not covered by `products`.
    wide = any(width >= side for side, widths in zip(kernel.shape, pads) for width in widths)
    if groups == 1 and x.dtype == jnp.float32 and not wide and slow_gradient():
        return _convolution(x, kernel, stride, pads)
    return xla_convolution(x, kernel, stride, groups, pads)


def pad_widths(padding: Padding, size: tuple[int, ...], sides: tuple[int, ...], stride: int) -> Pads:
    """Returns the number of zeros on each side of a map: ((above, below), (left, right)).

    Args:
      padding: The same number for all sides; or the four numbers, which are returned; or "SAME" for TensorFlow's: as
        many as give h / stride by w / stride pixels, rounded up, an odd one at the end; or "CEIL" for as many below and
        on the right as let the windows reach the last pixel, as in Caffe's pooling and torch's `ceil_mode`; or None for
        half the kernel, rounded down, as in torch's networks.
      size: Height and width of the kernel in pixels.
      sides: Height and width of the map in pixels.
      stride: Step in pixels.

    >>> pad_widths("SAME", (3, 3), (8, 8), 2)
    ((0, 1), (0, 1))
    >>> pad_widths("CEIL", (3, 3), (8, 9), 2)
    ((0, 1), (0, 0))
    >>> pad_widths(None, (1, 7), (8, 8), 1)
    ((0, 0), (3, 3))
    """
    if padding == "SAME":
        totals = [max((-(-side // stride) - 1) * stride + k - side, 0) for k, side in zip(size, sides)]
        return tuple((total // 2, total - total // 2) for total in totals)  # type: ignore[return-value]
    if padding == "CEIL":
        return tuple((0, -(side - k) % stride) for k, side in zip(size, sides))  # type: ignore[return-value]
    if padding is None:
        return tuple((k // 2, k // 2) for k in size)  # type: ignore[return-value]
    return ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding


@functools.cache
def slow_gradient() -> bool:
    """Tells whether JAX computes on a processor with x86 instructions, but without AVX-512, as far as Linux says."""
    if jax.default_backend() != "cpu" or platform.machine() not in ("x86_64", "AMD64") or not _CPUINFO.exists():
        return False
    flags = next((line for line in _CPUINFO.read_text().splitlines() if line.startswith("flags")), "")
    return bool(flags) and "avx512f" not in flags.split()


def xla_convolution(x: jax.Array, kernel: jax.Array, stride: int, groups: int, pads: Pads) -> jax.Array:
    """Convolves as `convolution` does, and leaves both gradients to XLA.

    Args:
      x, kernel: Map [b, h, w, c] and kernel [kh, kw, c / groups, k], float.
      stride, groups: Step in pixels and number of groups.
      pads: Number of zeros on each side, from `pad_widths`.

    Returns:
      Convolved map, float [b, out_h, out_w, k].
    """
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=numbers, feature_group_count=groups
    )


def products(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """Convolves as `xla_convolution` does, as one product of matrices for each row of the kernel.

    The pixels that the columns of the kernel see stand beside each other, as channels. For the rows, the map before
    the product or the one after it is moved down, whichever has fewer numbers to copy in the gradient of the kernel.

    Args:
      x: Map, float [b, h, w, c].
      kernel: Kernel, float [kh, kw, c, k].
      stride: Step in pixels, down and across.
      pads: Number of zeros on each side, below the side of the kernel.

    Returns:
      Convolved map, float [b, out_h, out_w, k].
    """
    (b, h, w, c), (rows, columns, _, k), (vertical, horizontal) = x.shape, kernel.shape, pads
    h = (h + sum(vertical) - rows) // stride + 1
    w = (w + sum(horizontal) - columns) // stride + 1
    move_after = stride == 1 and k <= 2 * c and h >= x.shape[1]
    x = jnp.pad(x, ((0, 0), (0, 0) if move_after else vertical, horizontal, (0, 0)))
    x = jnp.concatenate([x[:, :, j : j + stride * (w - 1) + 1 : stride] for j in range(columns)], axis=-1)

    def row(i: int) -> jax.Array:
        seen = x if move_after else x[:, i : i + stride * (h - 1) + 1 : stride]
        y = (seen.reshape(-1, columns * c) @ kernel[i].reshape(columns * c, k)).reshape(b, -1, w, k)
        return jnp.pad(y, ((0, 0), (rows - 1 - i, i), (0, 0), (0, 0))) if move_after else y

    y = functools.reduce(jnp.add, map(row, range(rows)))
    start = rows - 1 - vertical[0]
    return y[:, start : start + h] if move_after else y


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _convolution(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    return xla_convolution(x, kernel, stride, 1, pads)


@functools.partial(_convolution.defjvp, symbolic_zeros=True)
def _tangent(stride: int, pads: Pads, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    (x, kernel), (dx, dkernel) = primals, tangents
    dy = []
    if not isinstance(dx, SymbolicZero):
        dy.append(_convolution(dx, kernel, stride, pads))
    if not isinstance(dkernel, SymbolicZero):
        # The backward pass makes the columns again, from the map: kept, they would be many times as large as it.
        dy.append(jax.checkpoint(products, static_argnums=(2, 3))(x, dkernel, stride, pads))
    y = _convolution(x, kernel, stride, pads)
    return y, functools.reduce(jnp.add, dy) if dy else SymbolicZero.from_primal_value(y)
