"""Parts of plain networks, AlexNet and VGG: stages of convolutions, and hidden layers over a grid of fixed size."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.layers import Conv, Dropout, batch_norm


class Layer(NamedTuple):
    """A convolution with bias and ReLU.

    Attributes:
      channels: Number of output channels.
      size: Side of the kernel in pixels.
      stride: Step in pixels.
      padding: Zeros on every side in pixels; None for half the size.
      groups: Number of groups.
    """

    channels: int
    size: int = 3
    stride: int = 1
    padding: int | None = None
    groups: int = 1

    def scaled(self, width: float) -> "Layer":
        """Returns the layer with `width` times as many channels, rounded to a multiple of its groups.

        Args:
          width: Factor of the channels.
        """
        return self._replace(channels=max(round(self.channels * width / self.groups), 1) * self.groups)


class PlainStage(nn.Module):
    """Convolutions with ReLU, one after the other: [b, h, w, c] -> their maps [b, h', w', c'].

    Attributes:
      first: Number of the first convolution in the network; the names of the parameters count through all stages.
      layers: Convolutions.
      norm: True for BatchNorm between each convolution and its ReLU.
      dtype: Type of the computation, float32 or bfloat16.
    """

    first: int
    layers: tuple[Layer, ...]
    norm: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """Maps x [b, h, w, c] to the output of every convolution."""
        maps = []
        for i, (channels, size, stride, padding, groups) in enumerate(self.layers, self.first):
            conv = Conv(channels, size, stride, groups, dtype=self.dtype, padding=padding, bias=True, name=f"conv{i}")
            x = conv(x)
            x = nn.relu(batch_norm(f"norm{i}", train, self.dtype)(x) if self.norm else x)
            maps.append(x)
        return maps


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Averages a map over windows that share it as evenly as possible, to a grid of `size` x `size`.

    Along a side of n pixels, window i has the pixels from floor(i n / size) to ceil((i + 1) n / size), so windows
    overlap by a pixel where `size` does not divide n. A map of the right size stays as it is.

    Args:
      x: Map, float [b, h, w, c].
      size: Side of the result.

    Returns:
      float [b, size, size, c].

    Source: torch's `AdaptiveAvgPool2d`.

    >>> adaptive_avg_pool(jnp.arange(9.0).reshape(1, 3, 3, 1), 2)[0, :, :, 0].tolist()
    [[2.0, 3.0], [5.0, 6.0]]
    """
    for axis in (1, 2):
        side = x.shape[axis]
        if side != size:
            edges = [(i * side // size, -(-(i + 1) * side // size)) for i in range(size)]
            windows = [jax.lax.slice_in_dim(x, *edge, axis=axis).mean(axis, keepdims=True) for edge in edges]
            x = jnp.concatenate(windows, axis)
    return x


class FullyConnected(nn.Module):
    """Two fully connected layers with ReLU and dropout behind each: [b, h, w, c] -> (fc6, fc7), both [b, hidden].

    The first one sees `grid` x `grid` places; maps of another size are averaged to that grid first. Its kernel is
    float32 [grid, grid, c, hidden].

    Attributes:
      grid: Side of the grid.
      hidden: Number of units of each layer.
      dropout: Rate of dropout behind each layer, in [0, 1).
      dtype: Type of the computation, float32 or bfloat16.
    """

    grid: int
    hidden: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Maps x [b, h, w, c] to the outputs of both layers, [b, hidden]."""
        x = adaptive_avg_pool(x, self.grid)
        init = nn.initializers.he_normal()
        fc6 = Dropout(self.dropout)(nn.relu(GridDense(self.hidden, init, self.dtype, name="fc6")(x)), train)
        fc7 = nn.relu(nn.Dense(self.hidden, kernel_init=init, dtype=self.dtype, name="fc7")(fc6))
        return fc6, Dropout(self.dropout)(fc7, train)


class GridDense(nn.Module):
    """A fully connected layer over a whole map, as one product of matrices: [b, h, w, c] -> [b, features].

    It computes what a convolution of the map's size would, and its kernel has that form, float32 [h, w, c, features].

    Attributes:
      features: Number of outputs.
      kernel_init: Initialiser of the kernel.
      dtype: Type of the computation, float32 or bfloat16.
    """

    features: int
    kernel_init: nn.initializers.Initializer
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [b, h, w, c] to [b, features]."""
        kernel = self.param("kernel", self.kernel_init, (*x.shape[1:], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = x.reshape(len(x), -1).astype(self.dtype)
        return x @ kernel.reshape(-1, self.features).astype(self.dtype) + bias.astype(self.dtype)
