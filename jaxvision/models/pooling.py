"""Pooling of windows of any size, and fractional max pooling."""

import functools

import jax
import jax.numpy as jnp


def max_pool_windows(x: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Takes the maximum of each window.

    Args:
      x: Map, float [b, h, w, c].
      size: Side of a window in pixels.
      stride: Step in pixels, down and across.
      padding: Number of pixels of -inf on every side.

    Returns:
      float [b, h', w', c] with h' = (h + 2 padding - size) // stride + 1.

    >>> max_pool_windows(jnp.arange(16.0).reshape(1, 4, 4, 1), size=2, stride=2)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    # Maxima of shifted slices, as in `layers.max_pool`: the gradient of `nn.max_pool` is slow on a CPU.
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        last = x.shape[axis] - size
        slices = (jax.lax.slice_in_dim(x, i, i + last + 1, stride, axis) for i in range(size))
        x = functools.reduce(jnp.maximum, slices)
    return x


def mean_pool_windows(x: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Takes the mean of each window; zeros of the padding count, as in torch.

    Args:
      x: Map, float [b, h, w, c].
      size: Side of a window in pixels.
      stride: Step in pixels, down and across.
      padding: Number of pixels of 0 on every side.

    Returns:
      float [b, h', w', c] with h' = (h + 2 padding - size) // stride + 1.

    >>> mean_pool_windows(jnp.arange(16.0).reshape(1, 4, 4, 1), size=2, stride=2)[0, :, :, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    window = (1, size, size, 1)
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1, stride, stride, 1), pads) / size**2


def fractional_borders(n: int, ratio: float, rng: jax.Array | None, order: str = "pseudorandom") -> jax.Array:
    """Divides n cells into round(n / ratio) regions of one or two cells, or into (n + 1) // 2 if that is more.

    Args:
      n: Number of cells.
      ratio: Number of cells for each region, in [1, 2].
      rng: Key of the random draw; None for the regions of `order` "pseudorandom" without a shift.
      order: Order of the regions of two cells: "random" permutes the sizes, "pseudorandom" spreads them evenly, with a
        random shift: region i begins at floor((i n + r) / m) for m regions.

    Returns:
      Borders of the m regions, int32 [m + 1], from 0 to n: region i has the cells from borders[i] up to, without it,
      borders[i + 1].

    Source: Graham 2014, arXiv 1412.6071, sec. 2. There the regions end one cell before the last; here they cover all
    cells, as in TensorFlow, so that a ratio of 2 is the usual 2x2 pooling.

    >>> fractional_borders(25, 2**0.5, None).tolist()
    [0, 1, 2, 4, 5, 6, 8, 9, 11, 12, 13, 15, 16, 18, 19, 20, 22, 23, 25]
    """
    regions = max(round(n / ratio), (n + 1) // 2)
    if rng is not None and order == "random":
        sizes = jnp.where(jnp.arange(regions) < n - regions, 2, 1)
        return jnp.concatenate([jnp.zeros(1, jnp.int32), jax.random.permutation(rng, sizes).cumsum()])
    shift = 0 if rng is None else jax.random.randint(rng, (), 0, regions)
    return (jnp.arange(regions + 1) * n + shift) // regions


def fractional_max_pool(
    x: jax.Array, ratio: float, rng: jax.Array | None = None, order: str = "pseudorandom", overlap: bool = False
) -> jax.Array:
    """Takes the maximum of regions of one or two cells along each side, so that a map shrinks by less than two.

    All images and channels of a batch have the same regions.

    Args:
      x: Map, float [b, h, w, c].
      ratio: Factor by which each side shrinks, in [1, 2].
      rng: Key of the regions; None for fixed ones, see `fractional_borders`.
      order: Order of the regions, "random" or "pseudorandom".
      overlap: True to let each region also have the first cell of the next one.

    Returns:
      float [b, h', w', c], with as many regions down and across as `fractional_borders` makes.

    Source: Graham 2014, arXiv 1412.6071.

    >>> fractional_max_pool(jnp.zeros((1, 25, 18, 1)), ratio=2**0.5).shape
    (1, 18, 13, 1)
    """
    keys = (None, None) if rng is None else jax.random.split(rng)
    for axis, key in zip((1, 2), keys):
        n = x.shape[axis]
        borders = fractional_borders(n, ratio, key, order)
        begin, end = borders[:-1], borders[1:]
        cells = [begin, end - 1, *([jnp.minimum(end, n - 1)] if overlap else [])]
        x = functools.reduce(jnp.maximum, (jnp.take(x, cell, axis=axis) for cell in cells))
    return x
