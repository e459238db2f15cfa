"""Activations by name, for options of models: "relu", "leaky_relu(0.1)", "gelu('tanh')", "maxout(2)".

A name is a spec of one operation (specs.py), so an unknown name or a wrong argument is an error that says the choices.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision import specs
from jaxvision.arguments import COUNT, POSITIVE, Range
from jaxvision.errors import UserError, shown
from jaxvision.models import transformer

ACTIVATIONS = specs.Registry("activation")


class Activation(NamedTuple):
    """What an activation does.

    Attributes:
      function: Function of x [..., d], and of `slopes` [d] if there is a `slope`, that returns [..., d / pieces].
      slope: Initial value of a learned number for each channel, or None if nothing is learned.
      pieces: Number of channels that become one.
    """

    function: Callable[..., jax.Array]
    slope: float | None = None
    pieces: int = 1


@ACTIVATIONS.register()
def identity() -> Activation:
    """x."""
    return Activation(lambda x: x)


@ACTIVATIONS.register()
def relu() -> Activation:
    """max(0, x), with derivative 0 at 0 (Nair & Hinton 2010)."""
    return Activation(jax.nn.relu)


@ACTIVATIONS.register()
def relu6() -> Activation:
    """min(max(0, x), 6) (Krizhevsky 2010; Howard et al. 2017)."""
    return Activation(jax.nn.relu6)


@ACTIVATIONS.register()
def leaky_relu(slope: Annotated[float, Range(0, 1)]) -> Activation:
    """x above 0, slope * x below (Maas et al. 2013).

    Args:
      slope: Slope below 0. It has no default, since libraries differ: 0.01 in the paper and in JAX, 0.3 in older Keras.
    """
    return Activation(lambda x: jax.nn.leaky_relu(x, slope))


@ACTIVATIONS.register()
def prelu(slope: float = 0.25) -> Activation:
    """x above 0, a * x below, with a learned number a for each channel (He et al. 2015, arXiv 1502.01852, eq. 1).

    Args:
      slope: Initial value of a.
    """
    return Activation(lambda x, slopes: jnp.where(x > 0, x, slopes * x), slope=slope)


@ACTIVATIONS.register()
def elu(alpha: POSITIVE = 1.0) -> Activation:
    """x above 0, alpha * (exp(x) - 1) below (Clevert et al. 2016, arXiv 1511.07289, eq. 15).

    Args:
      alpha: Distance of the limit at minus infinity from 0.
    """
    return Activation(lambda x: jax.nn.elu(x, alpha))


@ACTIVATIONS.register()
def softplus() -> Activation:
    """log(1 + exp(x)) (Dugas et al. 2001)."""
    return Activation(jax.nn.softplus)


@ACTIVATIONS.register()
def tanh() -> Activation:
    """Hyperbolic tangent."""
    return Activation(jnp.tanh)


@ACTIVATIONS.register()
def sigmoid() -> Activation:
    """1 / (1 + exp(-x))."""
    return Activation(jax.nn.sigmoid)


@ACTIVATIONS.register()
def silu() -> Activation:
    """x * sigmoid(x), also called swish (Ramachandran et al. 2017, arXiv 1710.05941)."""
    return Activation(jax.nn.silu)


@ACTIVATIONS.register()
def hard_swish() -> Activation:
    """x * relu6(x + 3) / 6 (Howard et al. 2019, arXiv 1905.02244, sec. 5.2)."""
    return Activation(jax.nn.hard_swish)


@ACTIVATIONS.register()
def gelu(form: Literal["exact", "tanh", "quick"] = "exact") -> Activation:
    """x times the normal distribution function of x (Hendrycks & Gimpel 2016, arXiv 1606.08415).

    Args:
      form: Form of that function: "exact", or its approximation "tanh" or "quick" (x * sigmoid(1.702 x)).
    """
    return Activation(lambda x: transformer.gelu(x, form))


@ACTIVATIONS.register()
def maxout(pieces: COUNT) -> Activation:
    """Largest of k channels that stand beside each other: [..., d] -> [..., d / k] (Goodfellow et al. 2013, sec. 3).

    Args:
      pieces: Number k of channels that become one; it divides the number of channels.
    """

    def largest(x: jax.Array) -> jax.Array:
        if x.shape[-1] % pieces:
            raise UserError(f"maxout({pieces}) needs a multiple of {pieces} channels, not {x.shape[-1]}")
        return x.reshape(*x.shape[:-1], -1, pieces).max(-1)

    return Activation(largest, pieces=pieces)


def activation(spec: str) -> Activation:
    """Returns an activation by its name.

    Args:
      spec: Name, with arguments if it takes any: "relu", "leaky_relu(0.1)".

    Raises:
      UserError: An unknown name, wrong arguments, or not exactly one operation.

    >>> activation("leaky_relu(0.1)").function(jnp.array([-8.0, 0.0, 8.0])).round(3).tolist()
    [-0.800000011920929, 0.0, 8.0]
    """
    found: list[Any] = ACTIVATIONS.build(spec)
    if len(found) != 1:
        raise UserError(f"an activation is one name, like 'relu' or 'leaky_relu(0.1)', not {shown(spec)}")
    return found[0]


class Activate(nn.Module):
    """Applies an activation: [..., d] -> [..., d / pieces]; its learned slopes, if any, are the parameter "slope".

    Attributes:
      spec: Name of the activation, as for `activation`.
    """

    spec: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [..., d] to [..., d / pieces]."""
        found = activation(self.spec)
        if found.slope is None:
            return found.function(x)
        slopes = self.param("slope", nn.initializers.constant(found.slope), (x.shape[-1],))
        return found.function(x, slopes.astype(x.dtype))


def silent_units(activations: jax.Array) -> jax.Array:
    """Tells which units are never active on a batch: dead ReLUs, which get no gradient and so never come back.

    Args:
      activations: Output of an activation that is 0 where a unit is silent, float [b, d] or [b, h, w, d].

    Returns:
      bool [d]: True for a unit that is 0 or below for every example and at every place.

    >>> int(silent_units(jnp.array([[0.0, 1.0], [0.0, 0.0]])).sum())
    1
    """
    return (activations <= 0).all(axis=tuple(range(activations.ndim - 1)))
