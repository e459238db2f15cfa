"""What a network costs before it is trained: shapes, weights, multiply-adds, memory, receptive field.

One multiply-add counts as one, and only convolutions and matrix products count, as in the tables of the papers
(He et al. 2016, table 1); `step_costs.flops_of` counts two, and element-wise work too.
"""

from collections.abc import Callable, Collection, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
from jax.extend import core

from jaxvision.errors import UserError

PyTree = Any
PRODUCTS = ("dot_general", "conv_general_dilated")  # operations whose multiply-adds count


class Conv(NamedTuple):
    """A convolution of `size` x `size`, padded by `padding` on every side.

    Attributes:
      features: Number of output channels.
      size: Side of the kernel, in pixels.
      stride: Step between two output pixels, in input pixels.
      padding: Zeros added on each side, in pixels.
      groups: Number of groups that the channels are split into.
    """

    features: int
    size: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


class Pool(NamedTuple):
    """Max or average pooling. A mean over the whole map is a pooling whose size is that of the map.

    Attributes:
      size: Side of the window, in pixels.
      stride: Step between two output pixels, in input pixels.
      padding: Border added on each side, in pixels.
    """

    size: int
    stride: int
    padding: int = 0


class Dense(NamedTuple):
    """A matrix product with the flattened input.

    Attributes:
      features: Number of outputs.
    """

    features: int


class Cost(NamedTuple):
    """The cost of one layer.

    Attributes:
      shape: Shape of the output, (height, width, channels).
      weights: Number of weights, without biases.
      macs: Multiply-adds for one image.
      memory: Bytes of the output in float32.
    """

    shape: tuple[int, int, int]
    weights: int
    macs: int
    memory: int


def costs(layers: Sequence[Conv | Pool | Dense], shape: tuple[int, int, int]) -> list[Cost]:
    """Returns the cost of each layer in a chain of layers.

    The output of a convolution or a pooling has floor((n + 2 padding - size) / stride) + 1 pixels on a side. Kernel
    positions on the padding count, as in the papers.

    Args:
      layers: Layers, in the order in which they are applied.
      shape: Shape of the input image, (height, width, channels).

    Returns:
      One `Cost` for each layer.

    Raises:
      UserError: If a window is larger than the padded map, or if `groups` does not divide the channels.

    >>> costs([Conv(10, 5, padding=2), Dense(100)], (32, 32, 3))[0]
    Cost(shape=(32, 32, 10), weights=750, macs=768000, memory=40960)
    """
    rows = []
    for layer in layers:
        channels, weights = shape[2], 0
        if isinstance(layer, Dense):
            weights, shape = prod(shape) * layer.features, (1, 1, layer.features)
        else:
            pixels = [(n + 2 * layer.padding - layer.size) // layer.stride + 1 for n in shape[:2]]
            if min(pixels) < 1:
                raise UserError(f"{layer} does not fit on a map of {shape[0]}x{shape[1]} pixels")
            if isinstance(layer, Conv):
                if channels % layer.groups or layer.features % layer.groups:
                    raise UserError(f"{layer}: groups must divide its features and the {channels} channels it sees")
                weights, channels = layer.size**2 * channels // layer.groups * layer.features, layer.features
            shape = (pixels[0], pixels[1], channels)
        rows.append(Cost(shape, weights, weights * prod(shape[:2]), 4 * prod(shape)))
    return rows


def receptive_field(layers: Sequence[Conv | Pool]) -> int:
    """Returns the side, in pixels, of the square of the image that one output pixel sees.

    This is 1 + the sum over layers of (size - 1) * (product of the strides before the layer).

    Args:
      layers: Convolutions and poolings, in the order in which they are applied.

    Source: Araujo et al. 2019, "Computing receptive fields of convolutional neural networks", eq. 2.

    >>> [receptive_field([Conv(8, 3)] * n) for n in (1, 2, 3, 4)]
    [3, 5, 7, 9]
    """
    field, jump = 1, 1
    for layer in layers:
        field, jump = field + (layer.size - 1) * jump, jump * layer.stride
    return field


def macs(function: Callable, *args: PyTree) -> int:
    """Counts the multiply-adds of all convolutions and matrix products of a function.

    A scan counts as often as it runs, a `cond` as its most expensive branch, and the body of a `while_loop` once.

    Args:
      function: Function that JAX can trace.
      *args: Arguments of the function; `jax.ShapeDtypeStruct`s are enough.

    >>> image, kernel = jax.ShapeDtypeStruct((2, 64), "float32"), jax.ShapeDtypeStruct((64, 10), "float32")
    >>> macs(lambda x, w: jax.nn.softmax(x @ w), image, kernel)
    1280
    """
    return traced_macs(jax.make_jaxpr(function)(*args).jaxpr)


def traced_macs(jaxpr: core.Jaxpr, kinds: Collection[str] = PRODUCTS) -> int:
    """Counts the multiply-adds in a traced function, as `macs` does.

    Args:
      jaxpr: Traced function, such as `jax.jit(f).trace(x).jaxpr.jaxpr`.
      kinds: Names of the operations that count, of `PRODUCTS`.

    >>> image, kernel = jax.ShapeDtypeStruct((2, 64), "float32"), jax.ShapeDtypeStruct((64, 10), "float32")
    >>> traced = jax.jit(lambda x, w: x @ w).trace(image, kernel).jaxpr.jaxpr
    >>> traced_macs(traced), traced_macs(traced, ["conv_general_dilated"])
    (1280, 0)
    """
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        inputs: list[Any] = [variable.aval for variable in equation.invars]
        outputs: list[Any] = [variable.aval for variable in equation.outvars]
        size = outputs[0].size if outputs else 0  # a call may have no results
        if name in PRODUCTS and name not in kinds:
            continue
        if name == "dot_general":
            left = inputs[0].shape
            total += size * prod(left[axis] for axis in params["dimension_numbers"][0][0])
        elif name == "conv_general_dilated":
            kernel = inputs[1]  # rhs_spec[0] is its axis of output channels
            taps = kernel.size // kernel.shape[params["dimension_numbers"].rhs_spec[0]]
            total += size * taps // prod(params["lhs_dilation"])  # the gradient of a stride sees zeros in between
        elif name == "cond":
            total += max(traced_macs(branch.jaxpr, kinds) for branch in params["branches"])
        else:
            bodies: list[Any] = [
                value for value in params.values() if isinstance(value, (core.Jaxpr, core.ClosedJaxpr))
            ]
            times = params["length"] if name == "scan" else params["mesh"].size if name == "shard_map" else 1
            total += times * sum(traced_macs(getattr(body, "jaxpr", body), kinds) for body in bodies)
    return total
