"""Layers that two or more architectures share.

Parameters are float32 always. `dtype` is the type of the computation and of what a layer returns;
normalisation statistics and weight standardisation stay in float32 under bfloat16 too.
"""

import functools
import itertools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.convolution import Padding, convolution, pad_widths
from jaxvision.models.depthwise import depthwise_conv

BATCH_NORM_EPSILON = 1e-5  # torch's


def standardize_weight(kernel: jax.Array, epsilon: float = 1e-10) -> jax.Array:
    """Standardises weights: those of each output channel get mean 0 and variance 1.

    Args:
      kernel: Kernel of a convolution, float32 [kh, kw, c_in, c_out].
      epsilon: Number that is added to the variance.

    Returns:
      float32 [kh, kw, c_in, c_out].

    Source: Qiao et al. 2019, eq. 4-6; epsilon as in Kolesnikov et al. 2020's code.

    >>> standardize_weight(jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)).ravel().tolist()
    [-1.0, 1.0]
    """
    mean = kernel.mean(axis=(0, 1, 2))
    variance = kernel.var(axis=(0, 1, 2))
    return (kernel - mean) * jax.lax.rsqrt(variance + epsilon)


def max_pool(
    x: jax.Array, padding_value: float = -jnp.inf, size: int = 3, stride: int = 2, padding: Padding = None
) -> jax.Array:
    """Max pooling. Without options it is that of ResNet stems: 3x3 windows, stride 2, one pixel on every side.

    Args:
      x: Map, float [b, h, w, c].
      padding_value: Value of the padding; -inf never is the maximum. BiT was trained with 0.
      size: Side of the window in pixels.
      stride: Step in pixels, down and across.
      padding: Pixels around the map, see `convolution.pad_widths`; None for `size // 2` on every side.

    Returns:
      float [b, h', w', c]; without options ceil(h / 2) by ceil(w / 2).

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1), size=2, padding=0)[0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    # Maxima of shifted slices. `nn.max_pool` has the same values, but its gradient is a scatter, which XLA runs
    # 4.5 times slower on a CPU. The gradients differ only at ties: here the ties share it, there the first one gets it.
    pads = pad_widths(padding, (size, size), x.shape[1:3], stride)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=padding_value)
    h, w = ((side - size) // stride * stride + 1 for side in x.shape[1:3])
    x = functools.reduce(jnp.maximum, [x[:, i : i + h : stride] for i in range(size)])
    return functools.reduce(jnp.maximum, [x[:, :, j : j + w : stride] for j in range(size)])


def avg_pool(x: jax.Array, size: int = 2, stride: int = 2, padding: Padding = "CEIL") -> jax.Array:
    """Average pooling. Windows over the edge are averaged over the pixels inside.

    Args:
      x: Map, float [b, h, w, c].
      size: Side of the window in pixels.
      stride: Step in pixels, down and across.
      padding: Pixels around the map, see `convolution.pad_widths`.

    Returns:
      float [b, h', w', c]; without options ceil(h / 2) by ceil(w / 2).

    >>> avg_pool(jnp.arange(9.0).reshape(1, 3, 3, 1))[0, :, :, 0].tolist()
    [[2.0, 3.5], [6.5, 8.0]]
    """
    pads = pad_widths(padding, (size, size), x.shape[1:3], stride)
    h, w = ((side + sum(pad) - size) // stride * stride + 1 for side, pad in zip(x.shape[1:3], pads))

    def sums(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        if size == stride:
            x = x[:, : h + size - 1, : w + size - 1]
            return x.reshape(len(x), -1, size, x.shape[2] // size, size, x.shape[-1]).sum(axis=(2, 4))
        x = functools.reduce(jnp.add, [x[:, i : i + h : stride] for i in range(size)])
        return functools.reduce(jnp.add, [x[:, :, j : j + w : stride] for j in range(size)])

    return sums(x) / sums(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


def local_response_norm(
    x: jax.Array, size: int = 5, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> jax.Array:
    """Local response normalisation: x_i / (bias + alpha * sum of x_j^2) ** beta, over the `size` channels j around i.

    Channels beyond the first and the last count as 0. Torch and Caffe divide alpha by `size`: with a size of 5, the
    paper's alpha of 1e-4 is 5e-4 there.

    Args:
      x: Map, float [..., c].
      size: Number of channels in the sum, odd; n in the paper.
      bias: Number that is added to the sum; k in the paper.
      alpha: Factor of the sum.
      beta: Exponent.

    Returns:
      [..., c] of the type of x, computed in float32.

    Source: Krizhevsky et al. 2012, sec. 3.3, also for the default values.

    >>> local_response_norm(jnp.array([[1.0, 2.0]]), size=3, bias=1.0, alpha=0.6, beta=0.5).tolist()
    [[0.5, 1.0]]
    """
    squares = jnp.square(x.astype(jnp.float32))
    window = (1,) * (x.ndim - 1) + (size,)
    sums = jax.lax.reduce_window(squares, 0.0, jax.lax.add, window, (1,) * x.ndim, "SAME")
    return (x * (bias + alpha * sums) ** -beta).astype(x.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, like `nn.BatchNorm`: [..., c] -> [..., c].

    It computes x * a + b with a = scale / sqrt(variance + epsilon) and b = bias - mean * a. With (x - mean) * a + bias,
    XLA's CPU backend stores x - mean for the gradient (docs/performance.md). Where the mean of a channel is many
    deviations from 0, the form here has larger rounding errors. The running variance is the biased one; torch keeps the
    unbiased one.

    Source: Ioffe & Szegedy 2015, arXiv 1502.03167, alg. 1 and 2.

    Attributes:
      train: Mode: True to normalise with the statistics of the batch, and to update the running ones; False to
        normalise with the running ones.
      momentum: Share of the old running statistics in the new ones, in [0, 1).
      epsilon: Number that is added to the variance.
      use_bias: True for a learned offset.
      use_scale: True for a learned scale.
      scale_init: Initialiser of the scale.
      dtype: Type of the result, float32 or bfloat16; parameters and statistics are float32.
    """

    train: bool
    momentum: float
    epsilon: float
    use_bias: bool = True
    use_scale: bool = True
    scale_init: Callable = nn.initializers.ones
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [..., c] to the same shape."""
        channels = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_variance = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, variance = running_mean.value, running_variance.value
        if self.train:
            x32 = x.astype(jnp.float32)
            axes = tuple(range(x.ndim - 1))
            mean, mean_square = x32.mean(axes), jnp.square(x32).mean(axes)
            variance = jnp.maximum(mean_square - jnp.square(mean), 0.0)  # rounding may make it negative
            if not self.is_initializing():
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_variance.value = self.momentum * running_variance.value + (1 - self.momentum) * variance
        factor = jax.lax.rsqrt(variance + self.epsilon)
        if self.use_scale:
            factor *= self.param("scale", self.scale_init, channels)
        offset = -mean * factor
        if self.use_bias:
            offset += self.param("bias", nn.initializers.zeros, channels)
        return (x * factor + offset).astype(self.dtype)


def batch_norm(
    name: str, train: bool, dtype: jnp.dtype, zero: bool = False, bias: bool = True, scale: bool = True
) -> BatchNorm:
    """Makes a BatchNorm with torch's momentum (0.1 there is 0.9 here) and epsilon.

    Call it inside a module's compact method.

    Args:
      name: Name of its parameters and statistics.
      train: True to normalise with the statistics of the batch, False with the running ones.
      dtype: Type of the result, float32 or bfloat16.
      zero: True to start its scale at 0 instead of 1, so that a residual branch starts at 0.
      bias: True for a learned offset.
      scale: True for a learned scale.
    """
    return BatchNorm(
        train=train,
        momentum=0.9,
        epsilon=BATCH_NORM_EPSILON,
        dtype=dtype,
        use_bias=bias,
        use_scale=scale,
        scale_init=nn.initializers.zeros if zero else nn.initializers.ones,
        name=name,
    )


def global_mean(x: jax.Array) -> jax.Array:
    """Averages a map over all its places, in float32.

    Args:
      x: Map, float [b, h, w, c].

    Returns:
      float32 [b, c].

    >>> global_mean(jnp.array([[[[1.0], [2.0]]]])).tolist()
    [[1.5]]
    """
    # Without the barrier, XLA's CPU backend of jaxlib 0.12.0 fuses the mean with a convolution in bfloat16, and the
    # result is uninitialised memory.
    return jax.lax.optimization_barrier(x).mean(axis=(1, 2), dtype=jnp.float32)


class Conv(nn.Module):
    """Convolution: [b, h, w, c] -> [b, h', w', features], without bias unless asked.

    By default the padding is `size // 2` on every side, as in the papers and in torch, and the sides of the result are
    those of the map divided by the stride, rounded up; "SAME" would shift the result of a strided convolution by a
    pixel. The kernel is float32 [kh, kw, c / groups, features]: each output channel sees the input channels of its own
    group (Krizhevsky et al. 2012, sec. 3.5).

    Attributes:
      features: Number of output channels.
      size: Side of the kernel in pixels, or its height and width.
      stride: Step in pixels, down and across.
      groups: Number of groups; it divides the numbers of input and output channels.
      standardize: True to standardise the kernel, see `standardize_weight`.
      standardize_epsilon: Number that is then added to the variance.
      kernel_init: Initialiser of the kernel.
      dtype: Type of the computation, float32 or bfloat16.
      padding: Zeros around the map, see `convolution.pad_widths`.
      bias: True for a learned offset of each channel, 0 at the start.
    """

    features: int
    size: int | tuple[int, int] = 3
    stride: int = 1
    groups: int = 1
    standardize: bool = False
    standardize_epsilon: float = 1e-10
    kernel_init: Callable = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015, eq. 14
    dtype: jnp.dtype = jnp.float32
    padding: Padding = None
    bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', features]."""
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        kernel = self.param("kernel", self.kernel_init, (*size, x.shape[-1] // self.groups, self.features))
        if self.standardize:
            kernel = standardize_weight(kernel, self.standardize_epsilon)
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if size == (1, 1) and self.groups == 1 and not self.padding:
            # The same sums as a product of two matrices: 1.3 to 2.4 times faster on a CPU, forward and backward. With
            # four axes XLA transposes the map for the gradient, and a step of ResNet-50 takes 1.35 times as long.
            x = x[:, :: self.stride, :: self.stride]
            y = (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], self.features)
        elif self._is_depthwise(x.shape[-1], size):
            y = depthwise_conv(x, kernel)
        else:
            y = convolution(x, kernel, self.stride, self.groups, self.padding)
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype) if self.bias else y

    def _is_depthwise(self, channels: int, size: tuple[int, int]) -> bool:
        """Whether this is a convolution for which `depthwise_conv` is faster on a CPU."""
        plain = self.stride == 1 and self.padding is None and size[0] == size[1] and size[0] % 2 == 1
        return plain and 1 < self.groups == channels == self.features


class Dropout(nn.Module):
    """Sets each number of x to 0 with probability `rate` and scales up the rest, in training: [...] -> [...].

    It draws the same numbers as Linen's `Dropout`, from the "dropout" key; here the rate may be a traced number.

    Source: Srivastava et al. 2014, sec. 4; scaled in training rather than in evaluation.

    Attributes:
      rate: Probability in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or not self.rate:
            return x
        keep = 1 - self.rate
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
        return jnp.where(kept, x / jnp.asarray(keep, x.dtype), 0)


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch in training, for each example by itself, and scales up the rest.

    A branch is dropped with probability `rate * strength`. The strength, in [0, 1], may be a traced number; under the
    linear rule it is the block's place in the network. It draws from the "dropout" key.

    Source: Huang et al. 2016, sec. 3; scaled in training rather than in evaluation, as in timm.

    Attributes:
      rate: Probability in [0, 1) at strength 1.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, strength: float | jax.Array, train: bool) -> jax.Array:
        """Maps x [b, ...] to the same shape."""
        if not train or not self.rate:
            return x
        keep = 1 - self.rate * strength
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, (x.shape[0],) + (1,) * (x.ndim - 1))
        return jnp.where(kept, x / jnp.asarray(keep, x.dtype), 0)


class LayerScale(nn.Module):
    """Multiplies each channel of a residual branch by a learned number, near 0 at the start: [..., d] -> [..., d].

    Source: Touvron et al. 2021b (CaiT), sec. 2.

    Attributes:
      init: Initial value of the numbers.
      dtype: Type of the computation, float32 or bfloat16.
    """

    init: float  # type: ignore[assignment]  # the option's name, which hides `nn.Module.init`; nobody calls that here
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [..., d] to the same shape."""
        return x * self.param("scale", nn.initializers.constant(self.init), (x.shape[-1],)).astype(self.dtype)


def linear_decay(blocks: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Computes the strength of stochastic depth in each block of each stage: i / n for block i of n, from 1 on.

    So the first block is dropped sometimes, too; in timm, and in this project's ViT, the strengths are
    (i - 1) / (n - 1). With a rate of 0.5, (3 n - 1) / 4 blocks stay on average: 40.25 of 54.

    Args:
      blocks: Number of blocks of each stage.

    Returns:
      Strengths in (0, 1], a tuple per stage.

    Source: Huang et al. 2016, eq. 4.

    >>> linear_decay((2, 2))
    ((0.25, 0.5), (0.75, 1.0))
    """
    depth, starts = sum(blocks), itertools.accumulate(blocks, initial=0)
    return tuple(tuple((start + i + 1) / depth for i in range(n)) for start, n in zip(starts, blocks))
