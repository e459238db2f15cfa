"""Layers that two or more architectures share.

Parameters are float32 always. `dtype` is the type of the computation and of what a layer returns;
normalisation statistics and weight standardisation stay in float32 under bfloat16 too.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


def standardize_weight(kernel: jax.Array, epsilon: float = 1e-10) -> jax.Array:
    """Weight standardisation: each output channel's weights get mean 0 and variance 1.

    Args:
      kernel: float32 [kh, kw, c_in, c_out].
      epsilon: added to the variance.

    Returns:
      float32 [kh, kw, c_in, c_out].

    Source: Qiao et al. 2019, eq. 4-6; epsilon as in Kolesnikov et al. 2020's code.

    >>> standardize_weight(jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)).ravel().tolist()
    [-1.0, 1.0]
    """
    mean = kernel.mean(axis=(0, 1, 2))
    variance = kernel.var(axis=(0, 1, 2))
    return (kernel - mean) * jax.lax.rsqrt(variance + epsilon)


def max_pool(x: jax.Array, padding_value: float = -jnp.inf) -> jax.Array:
    """Max pooling of ResNet stems: 3x3 windows, stride 2, one pixel of padding on every side.

    Args:
      x: float [B, H, W, C].
      padding_value: what is padded; -inf takes no part in the maximum.

    Returns:
      float [B, ceil(H / 2), ceil(W / 2), C].

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    # Maxima of shifted slices. `nn.max_pool` has the same values, but its gradient is a scatter, which XLA runs
    # 4.5 times slower on a CPU. The gradients differ at ties alone: shared here, the first one's there.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=padding_value)
    h, w = x.shape[1] - 2, x.shape[2] - 2
    x = jnp.maximum(jnp.maximum(x[:, 0:h:2], x[:, 1 : h + 1 : 2]), x[:, 2 : h + 2 : 2])
    return jnp.maximum(jnp.maximum(x[:, :, 0:w:2], x[:, :, 1 : w + 1 : 2]), x[:, :, 2 : w + 2 : 2])


class Conv(nn.Module):
    """Convolution without bias: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features].

    The padding is `size // 2` on every side, as in the papers and in torch; "SAME" would shift the
    result of a strided convolution by a pixel. The kernel is float32 [size, size, C, features].
    """

    features: int
    size: int = 3
    stride: int = 1
    standardize: bool = False
    kernel_init: Callable = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015, eq. 14
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, x.shape[-1], self.features))
        if self.standardize:
            kernel = standardize_weight(kernel)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.size == 1:
            # The same sums as a matrix product: 1.3 to 2.4 times faster on a CPU, forward and backward.
            return x[:, :: self.stride, :: self.stride] @ kernel[0, 0]
        padding = [(self.size // 2, self.size // 2)] * 2
        return jax.lax.conv_general_dilated(
            x, kernel, (self.stride, self.stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch, for each example by itself, and scales up what it keeps.

    The rate is `rate * strength`, where `strength` in [0, 1] may be a traced number: the block's
    place in the network under the linear rule. Draws from the "dropout" key.

    Source: Huang et al. 2016, sec. 3; scaled in training rather than in evaluation, as in timm.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, strength: float | jax.Array, train: bool) -> jax.Array:
        if self.rate == 0 or not train:
            return x
        keep = 1 - self.rate * strength
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, (x.shape[0],) + (1,) * (x.ndim - 1))
        return jnp.where(kept, x / jnp.asarray(keep, x.dtype), 0)
