"""The layers that the spec of `cnn` may name: convolution, pooling, dense, activations, ...

Each factory checks its arguments and returns a `Layer`, so a mistake in a spec is found before anything is compiled.
"""

import functools
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision import specs
from jaxvision.arguments import COUNT, Range
from jaxvision.models import pooling
from jaxvision.models.activations import ACTIVATIONS, Activate
from jaxvision.models.convolution import convolution
from jaxvision.models.drop_connect import DropConnectDense
from jaxvision.models.layers import Dropout, batch_norm, global_mean, local_response_norm
from jaxvision.models.linear import grey_channel
from jaxvision.models.options import MAX_UNITS, RATE
from jaxvision.specs import Call

LAYERS = specs.Registry("cnn layer")
UNITS = Annotated[int, Range(1, MAX_UNITS)]
PIXELS = Annotated[int, Range(1, 1024)]
MAP, VECTOR = "a map [b, h, w, c]", "a vector [b, d]"


class Context(NamedTuple):
    """What a layer needs besides its input.

    Attributes:
      name: Name of its parameters; empty if it has none.
      train: True in training.
      dtype: Type of the computation, float32 or bfloat16.
      kernel_init: Initialiser of kernels.
      make_rng: Function that returns a key of a name, as of a Linen module.
    """

    name: str
    train: bool
    dtype: jnp.dtype
    kernel_init: Callable
    make_rng: Callable[[str], jax.Array]


class Layer(NamedTuple):
    """One layer of the network.

    Attributes:
      apply: Function of x and a `Context` that returns the output.
      kind: First part of the name of its parameters, "conv" of "conv3"; None if it has none.
      name: Whole name of its parameters, if the spec gives one.
      takes: Form of the input, `MAP` or `VECTOR`; None for either.
      gives: Form of the output, or None for that of the input.
      weighs: True for a layer with a kernel, which begins a group of `layer_order`.
      ends_stage: True if its output is the last map of a stage.
    """

    apply: Callable[[jax.Array, Context], jax.Array]
    kind: str | None = None
    name: str | None = None
    takes: str | None = None
    gives: str | None = None
    weighs: bool = False
    ends_stage: bool = False


class BiasedConv(nn.Module):
    """Convolution with a bias and any padding: [b, h, w, c] -> [b, h', w', features]; `conv` documents the options."""

    features: int
    size: int
    stride: int
    padding: int
    groups: int
    bias: bool
    kernel_init: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h', w', features]."""
        shape = (self.size, self.size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        half = self.size // 2
        if self.size % 2 and self.padding >= half:
            more = self.padding - half
            x = jnp.pad(x, ((0, 0), (more, more), (more, more), (0, 0)))
            x = convolution(x, kernel, self.stride, self.groups)
        elif self.size % 2 and self.stride == 1 and min(x.shape[1:3]) + 2 * self.padding >= self.size:
            # The padded border is computed and cut off: `convolution` has the fast gradient on a CPU.
            cut = half - self.padding
            x = convolution(x, kernel, 1, self.groups)[:, cut:-cut, cut:-cut]
        else:
            x = jax.lax.conv_general_dilated(
                x,
                kernel,
                (self.stride, self.stride),
                [(self.padding, self.padding)] * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=self.groups,
            )
        if self.bias:
            x += self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return x


@LAYERS.register()
def conv(
    channels: UNITS,
    size: PIXELS = 3,
    stride: PIXELS = 1,
    padding: Annotated[int, Range(0, 1024)] | None = None,
    groups: COUNT = 1,
    bias: bool = True,
    name: str | None = None,
) -> Layer:
    """Convolution, [b, h, w, c] -> [b, h', w', channels] with h' = (h + 2 padding - size) // stride + 1.

    Args:
      channels: Number of output channels.
      size: Side of the kernel in pixels.
      stride: Step in pixels, down and across.
      padding: Number of zeros on every side; None for `size // 2`, which keeps the size, 0 for "valid".
      groups: Number of groups of channels; it divides the numbers of input and output channels.
      bias: True for a learned offset of each channel.
      name: Name of its parameters; None for "conv1", "conv2", ... in the order of the spec.
    """

    def apply(x: jax.Array, context: Context) -> jax.Array:
        pad = size // 2 if padding is None else padding
        options = channels, size, stride, pad, groups, bias, context.kernel_init, context.dtype
        return BiasedConv(*options, name=context.name)(x)

    return Layer(apply, "conv", name, takes=MAP, weighs=True)


@LAYERS.register()
def dense(units: UNITS, dropconnect: RATE = 0.0, name: str | None = None) -> Layer:
    """Fully connected layer, [b, d] -> [b, units].

    Args:
      units: Number of output units.
      dropconnect: Rate at which each weight is dropped in training, for each example by itself (Wan et al. 2013).
      name: Name of its parameters; None for "dense1", "dense2", ... in the order of the spec.
    """

    def apply(x: jax.Array, context: Context) -> jax.Array:
        layer = DropConnectDense(units, dropconnect, context.kernel_init, context.dtype, name=context.name)
        return layer(x, context.train)

    return Layer(apply, "dense", name, takes=VECTOR, weighs=True)


@LAYERS.register()
def norm(name: str | None = None) -> Layer:
    """BatchNorm over all axes but the channels.

    Args:
      name: Name of its parameters; None for "norm1", "norm2", ... in the order of the spec.
    """
    return Layer(lambda x, context: batch_norm(context.name, context.train, context.dtype)(x), "norm", name)


@LAYERS.register()
def lrn(size: COUNT = 5, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75) -> Layer:
    """Local response normalisation (Krizhevsky et al. 2012, sec. 3.3).

    Args:
      size: Number of channels in the sum.
      bias: Number that is added to the sum.
      alpha: Factor of the sum.
      beta: Exponent.
    """
    return Layer(lambda x, context: local_response_norm(x, size, bias, alpha, beta), takes=MAP)


@LAYERS.register()
def pool(
    size: PIXELS = 2, stride: PIXELS | None = None, padding: Annotated[int, Range(0, 1024)] = 0, mean: bool = False
) -> Layer:
    """Maximum or mean of windows, [b, h, w, c] -> [b, h', w', c] with h' = (h + 2 padding - size) // stride + 1.

    Args:
      size: Side of the windows in pixels.
      stride: Step in pixels; None for the side of the windows.
      padding: Number of pixels on every side, less than `size`, which are never the maximum; in a mean they count as 0.
      mean: True for the mean of a window, False for the maximum.
    """
    pooled = pooling.mean_pool_windows if mean else pooling.max_pool_windows
    step = size if stride is None else stride
    return Layer(lambda x, context: pooled(x, size, step, padding), takes=MAP, ends_stage=True)


@LAYERS.register()
def fractional_pool(
    ratio: Annotated[float, Range(1, 2)] = 2**0.5,
    order: Literal["random", "pseudorandom", "fixed"] = "pseudorandom",
    overlap: bool = False,
) -> Layer:
    """Fractional max pooling, [b, h, w, c] -> [b, h / ratio, w / ratio, c], the sides rounded (Graham 2014).

    Training draws new regions in every step. Evaluation has fixed ones, while the paper draws there too, and averages
    the predictions of several passes.

    Args:
      ratio: Factor by which each side shrinks.
      order: Order of the regions of one and two cells: "random", "pseudorandom" (spread evenly, with a random shift),
        or "fixed" to use in training those of evaluation.
      overlap: True for regions that share their border cells.
    """

    def apply(x: jax.Array, context: Context) -> jax.Array:
        rng = context.make_rng("dropout") if context.train and order != "fixed" else None
        return pooling.fractional_max_pool(x, ratio, rng, order, overlap)

    return Layer(apply, takes=MAP, ends_stage=True)


@LAYERS.register()
def global_pool() -> Layer:
    """Mean over all places, [b, h, w, c] -> [b, c]."""
    return Layer(lambda x, context: global_mean(x).astype(x.dtype), takes=MAP, gives=VECTOR)


@LAYERS.register()
def flatten() -> Layer:
    """All numbers of a map side by side, row by row, [b, h, w, c] -> [b, h * w * c]."""
    return Layer(lambda x, context: x.reshape(len(x), -1), takes=MAP, gives=VECTOR)


@LAYERS.register()
def dropout(rate: RATE) -> Layer:
    """Dropout of single numbers in training (Srivastava et al. 2014).

    Args:
      rate: Probability that a number is dropped.
    """
    return Layer(lambda x, context: Dropout(rate)(x, context.train))


@LAYERS.register()
def grey() -> Layer:
    """Mean of the channels, [b, h, w, c] -> [b, h, w, 1], for grey images, which are read with three equal channels."""
    return Layer(lambda x, context: grey_channel(x), takes=MAP)


def _of_activation(factory: Callable) -> Callable:
    """The factory of the layer that applies an activation, with the same name and arguments."""

    @functools.wraps(factory)
    def make(*args, **kwargs) -> Layer:
        factory(*args, **kwargs)  # for its own checks
        spec = str(Call(factory.__name__, args, kwargs))
        learned = factory(*args, **kwargs).slope is not None
        return Layer(lambda x, context: Activate(spec, name=context.name or None)(x), "act" if learned else None)

    return make


for _factory in ACTIVATIONS.factories.values():
    LAYERS.register()(_of_activation(_factory))
