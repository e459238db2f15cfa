"""The convolution, and a form of its gradient for processors on which XLA computes that slowly.

XLA's CPU backend computes the gradient of a kernel as a convolution with a window as large as the image. On processors
without AVX-512 this takes up to eleven times as long as the same sums written as products of matrices
(`benchmarks/kernel_gradient.py`).
"""

import functools
import platform
from pathlib import Path

import jax
import jax.numpy as jnp

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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return xla_convolution(x, kernel, stride)


def _forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolution(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    (of_x,) = jax.linear_transpose(lambda x: xla_convolution(x, kernel, stride), x)(g)
    return of_x, kernel_gradient(x, g, kernel.shape[0], stride)


_convolution.defvjp(_forward, _backward)


def kernel_gradient(x: jax.Array, g: jax.Array, size: int, stride: int) -> jax.Array:
    """Returns the gradient of the kernel: for each of its rows, one product of matrices over all places of the map.

    The places that the columns of the kernel see stand beside each other, as channels. For the rows, the map or the
    gradient is moved down, whichever has fewer numbers to copy.

    Args:
      x: Map before the convolution, float [b, h, w, c].
      g: Gradient of the result, float [b, h, w, k].
      size: Side of the kernel, odd.
      stride: Step of the convolution.

    Returns:
      Float [size, size, c, k].
    """
    (_, h, w, k), c, pad = g.shape, x.shape[-1], size // 2
    move_g = stride == 1 and k <= 2 * c
    rows = (0, 0) if move_g else (pad, pad)
    x = jnp.pad(x, ((0, 0), rows, (pad, pad), (0, 0)))
    x = jnp.concatenate([x[:, :, j : j + stride * (w - 1) + 1 : stride] for j in range(size)], axis=-1)  # b h'' w sc
    if move_g:
        g = jnp.pad(g, ((0, 0), (pad, pad), (0, 0), (0, 0)))

    def row(i: int) -> jax.Array:
        if move_g:
            left, right = x, g[:, size - 1 - i : size - 1 - i + h]
        else:
            left, right = x[:, i : i + stride * (h - 1) + 1 : stride], g
        return left.reshape(-1, size * c).T @ right.reshape(-1, k)

    return jnp.stack([row(i) for i in range(size)]).reshape(size, size, c, k)
