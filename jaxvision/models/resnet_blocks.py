"""Blocks of ResNet v1 and its descendants, in which the activation comes after the sum; stages of v1 and v2."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.layers import Conv, DropPath, avg_pool, batch_norm

ZERO_CHANNELS = ("A", "zeros_centred")  # shortcuts without parameters: zero channels come last, or on both sides


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a gate in (0, 1) computed from the mean of every channel: [b, h, w, c] -> the same.

    Source: Hu et al. 2018, arXiv 1709.01507, sec. 3, eq. 2-4.

    Attributes:
      reduction: Divisor of the number of channels between the two layers.
      dtype: Type of the computation, float32 or bfloat16.
    """

    reduction: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [b, h, w, c] to the same shape."""
        channels = x.shape[-1]
        dense = functools.partial(nn.Dense, kernel_init=nn.initializers.he_normal(), dtype=self.dtype)
        squeezed = x.mean(axis=(1, 2))  # b c
        excited = nn.relu(dense(max(channels // self.reduction, 1), name="fc1")(squeezed))
        gate = nn.sigmoid(dense(channels, name="fc2")(excited))
        return x * gate[:, None, None]


class ResNetBlock(nn.Module):
    """Residual block with two 3x3 convolutions, or the bottleneck 1x1, 3x3, 1x1: [b, h, w, c] -> [b, h, w, d].

    d is `channels`, or four times as many after a bottleneck. `resnet` documents the other options.
    """

    channels: int
    stride: int
    bottleneck: bool
    shortcut: str
    stride_in: str
    zero_init_residual: bool
    dtype: jnp.dtype
    groups: int = 1
    width_per_group: int = 64
    squeeze_excite: int | None = None
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, strength: float = 1.0) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, c']."""
        norm = functools.partial(batch_norm, train=train, dtype=self.dtype)
        layers = self._layers()
        y = x
        for i, (features, size, stride, groups) in enumerate(layers, 1):
            last = i == len(layers)
            y = Conv(features, size, stride, groups, dtype=self.dtype, name=f"conv{i}")(y)
            y = norm(name=f"norm{i}", zero=last and self.zero_init_residual)(y)
            y = y if last else nn.relu(y)
        if self.squeeze_excite:
            y = SqueezeExcite(self.squeeze_excite, self.dtype, name="se")(y)
        y = DropPath(self.drop_path)(y, strength, train)
        if self.shortcut == "none":
            return nn.relu(y)
        if x.shape != y.shape or self.shortcut == "C":
            x = self._shortcut(x, y.shape[-1], norm)
        return nn.relu(x + y)

    def _shortcut(self, x: jax.Array, features: int, norm: functools.partial) -> jax.Array:
        """[b, h, w, c] -> [b, h, w, features]."""
        stride = self.stride
        if self.shortcut in ZERO_CHANNELS:
            zeros = features - x.shape[-1]
            before = zeros // 2 if self.shortcut == "zeros_centred" else 0
            return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (before, zeros - before)))
        if self.shortcut == "D" and stride > 1:
            x, stride = avg_pool(x), 1
        return norm(name="shortcut_norm")(Conv(features, 1, stride, dtype=self.dtype, name="shortcut_conv")(x))

    def _layers(self) -> list[tuple[int, int, int, int]]:
        """(features, kernel size, stride, groups) of each convolution."""
        if not self.bottleneck:
            return [(self.channels, 3, self.stride, 1), (self.channels, 3, 1, 1)]
        first, second = (1, self.stride) if self.stride_in == "3x3" else (self.stride, 1)
        inner = self.channels * self.width_per_group // 64 * self.groups
        return [(inner, 1, first, 1), (inner, 3, second, self.groups), (4 * self.channels, 1, 1, 1)]


class ResNetStage(nn.Module):
    """Blocks of one resolution; the first one strides.

    Attributes:
      strengths: Strengths of stochastic depth in [0, 1], one for each block.
      stride: Stride of the first block.
      block: Factory of a block, without stride and name.
    """

    strengths: tuple[float, ...]
    stride: int
    block: functools.partial

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, c'] through its blocks."""
        for i, strength in enumerate(self.strengths):
            x = self.block(stride=self.stride if i == 0 else 1, name=f"block{i + 1}")(x, train, strength)
        return x
