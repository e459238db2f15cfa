"""The depthwise convolution, and a form of it for CPUs.

On CPUs, XLA runs a convolution of many groups many times slower than the same sums of shifted products, and it computes
the gradient of the kernel as that of a dense convolution, with c times the operations, of which it keeps a diagonal.
"""

import functools

import jax
import jax.numpy as jnp


def depthwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves each channel with its own filter; zeros around the image keep its size.

    Like `jax.lax.conv`, it does not flip the filters. In float32 it has gradients of any order, but no forward mode
    (`jax.jvp`), since the form of its gradient for CPUs is written out.

    Args:
      x: Images, float [b, h, w, c].
      kernel: Filters of an odd size, float [size, size, 1, c].

    Returns:
      The sums, float [b, h, w, c].

    >>> image = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
    >>> depthwise_conv(image, jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
    [[10.0, 10.0], [10.0, 10.0]]
    """
    # In bfloat16 the sums would be rounded at each tap.
    return _depthwise(x, kernel) if x.dtype == jnp.float32 else _convolution(x, kernel)


@jax.custom_vjp
def _depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(x, kernel, cpu=_shifted, default=_convolution)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _depthwise(x, kernel), (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    def on_cpu(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _shifted(g, kernel[::-1, ::-1]), _kernel_gradient(x, g, kernel.shape[0])

    def elsewhere(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        (of_x,) = jax.linear_transpose(lambda x: _convolution(x, kernel), x)(g)
        (of_kernel,) = jax.linear_transpose(lambda kernel: _convolution(x, kernel), kernel)(g)
        return of_x, of_kernel

    return jax.lax.platform_dependent(*saved, g, cpu=on_cpu, default=elsewhere)


_depthwise.defvjp(_forward, _backward)


def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    padding = [(kernel.shape[0] // 2,) * 2] * 2
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=numbers, feature_group_count=x.shape[-1]
    )


def _shifted(x: jax.Array, kernel: jax.Array) -> jax.Array:
    size, (h, w) = kernel.shape[0], x.shape[1:3]
    padded = _pad(x, size)
    taps = [(i, j) for i in range(size) for j in range(size)]
    return functools.reduce(jnp.add, [padded[:, i : i + h, j : j + w] * kernel[i, j, 0] for i, j in taps])


def _kernel_gradient(x: jax.Array, g: jax.Array, size: int) -> jax.Array:
    """Returns the gradient of the filters, the sum of x, shifted by each tap, times g.

    A loop over the taps, because 49 kernels of machine code take long to compile. The sum over the batch comes last, so
    that devices which split the batch exchange it once.
    """
    padded, channels = _pad(x, size), x.shape[-1]

    def tap(_: None, place: jax.Array) -> tuple[None, jax.Array]:
        shifted = jax.lax.dynamic_slice(padded, (0, place // size, place % size, 0), x.shape)
        rows = _sum_strips([s * t for s, t in zip(_strips(shifted), _strips(g))])
        while rows.shape[1] > 1:
            rows = _sum_strips(_strips(jax.lax.optimization_barrier(rows)))
        return None, jax.lax.optimization_barrier(rows).sum((1, 2))  # b c

    _, gradients = jax.lax.scan(tap, None, jnp.arange(size**2))  # taps b c
    return gradients.sum(1).reshape(size, size, 1, channels)


def _strips(x: jax.Array) -> list[jax.Array]:
    """Splits [b, h, ...] along h into at most 16 equal strips; XLA adds strips fast, and axes slowly."""
    parts = next((n for n in range(min(16, x.shape[1]), 1, -1) if x.shape[1] % n == 0), x.shape[1])
    return jnp.split(x, parts, axis=1)


def _sum_strips(strips: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, strips)


def _pad(x: jax.Array, size: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
