"""The algorithms of optimizers: each takes the `Parts` that all optimizers share and its own options.

It returns the middle of the chain of optimizers.py, from the clipped gradient to the update of the parameters.
"""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxvision import registry
from jaxvision.errors import UserError, unknown

PyTree = Any
Transform: TypeAlias = optax.GradientTransformation


class Parts(NamedTuple):
    """The transformations that every optimizer puts somewhere in its chain.

    Attributes:
      decay: Transformation that adds `weight_decay * multiplier * parameter` to the update.
      rate: Transformation that multiplies the update by minus the learning rate and by the parameter's multipliers.
      decayed: Tree of bools with the structure of the parameters, True for parameters with weight decay.
    """

    decay: Transform
    rate: Transform
    decayed: PyTree


@registry.part("optimizer")
def sgd(parts: Parts, *, momentum: float = 0.9, nesterov: bool = False, decay: str = "coupled") -> list[Transform]:
    """Stochastic gradient descent: v = momentum * v + g; w -= rate * v (Sutskever et al. 2013, sec. 2).

    Args:
      parts: Parts of the chain that all optimizers share.
      momentum: Factor of the running sum of gradients, in [0, 1). 0 is plain gradient descent without that state.
      nesterov: True for Nesterov's momentum, w -= rate * (g + momentum * v); it needs a momentum above 0.
      decay: Place of the weight decay. "coupled" is L2 regularisation, added to the gradient before the momentum, as
        in He et al. 2016 and torch. "decoupled" is added to the update (Loshchilov & Hutter 2019, alg. 1). Without
        momentum the two are equal.

    Returns:
      Optax transformations, in the order of the chain.

    Raises:
      UserError: Another place of the decay, a momentum out of range, or Nesterov's without momentum.
    """
    trace = _trace(momentum, nesterov)
    orders = {"coupled": [parts.decay, *trace, parts.rate], "decoupled": [*trace, parts.decay, parts.rate]}
    if decay not in orders:
        raise unknown("decay of sgd", decay, orders)
    return orders[decay]


@registry.part("optimizer")
def adagrad(parts: Parts, *, initial_accumulator: float = 0.0, eps: float = 1e-10) -> list[Transform]:
    """AdaGrad: divides by the root of the sum of all squared gradients (Duchi et al. 2011, fig. 1). Coupled decay.

    Args:
      parts: Parts of the chain that all optimizers share.
      initial_accumulator: Value at which the sum of squared gradients starts, at least 0; 0 as in the paper and torch.
      eps: Number that is added to the root, at least 0. It is outside the root, as in the paper (its delta) and torch,
        so that the first step has the size of the learning rate, however small the gradient is. `optax.adagrad` adds
        it inside. The default is torch's.

    Returns:
      Optax transformations, in the order of the chain.
    """

    def init(params: PyTree) -> optax.ScaleByRssState:
        return optax.ScaleByRssState(optax.tree.full_like(params, initial_accumulator))

    def update(updates: PyTree, state: optax.ScaleByRssState, params: PyTree = None) -> tuple:
        sums = jax.tree.map(lambda g, s: s + jnp.square(g), updates, state.sum_of_squares)
        divided = jax.tree.map(lambda g, s: jnp.where(s > 0, g / (jnp.sqrt(s) + eps), 0.0), updates, sums)
        return divided, optax.ScaleByRssState(sums)

    return [parts.decay, Transform(init, update), parts.rate]


@registry.part("optimizer")
def rmsprop(parts: Parts, *, b2: float = 0.9, eps: float = 1e-8, momentum: float = 0.0) -> list[Transform]:
    """RMSProp: divides by the root of a moving average of squared gradients. Coupled decay.

    Source: Tieleman & Hinton 2012, lecture 6.5 of their course.

    Args:
      parts: Parts of the chain that all optimizers share.
      b2: Decay rate of the average of squared gradients, in [0, 1); 0.9 as in the lecture. (torch: 0.99.)
      eps: Number that is added to the root, at least 0; outside the root, as in torch.
      momentum: Factor of a running sum of the divided gradients, in [0, 1). 0 keeps no such sum.

    Returns:
      Optax transformations, in the order of the chain.
    """
    scale = optax.scale_by_rms(b2, eps, eps_in_sqrt=False)
    return [parts.decay, scale, *_trace(momentum, nesterov=False), parts.rate]


@registry.part("optimizer")
def adam(
    parts: Parts,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    mu_dtype: str | None = None,
    bias_correction: bool = True,
) -> list[Transform]:
    """Adam (Kingma & Ba 2015, alg. 1) with L2 regularisation: the decay is added to the gradient.

    Args:
      parts: Parts of the chain that all optimizers share.
      b1: Decay rate of the average of gradients, the first moment, in [0, 1). The defaults are the paper's.
      b2: Decay rate of the average of squared gradients, the second moment, in [0, 1).
      eps: Number that is added to the root of the second moment, at least 0.
      mu_dtype: Type of the first moment: "float32", "bfloat16" or "float16". bfloat16 halves its memory. None for the
        type of the parameters.
      bias_correction: True to correct both moments for their start at 0 (sec. 3 of the paper). Without it the first
        step is (1 - b1) / sqrt(1 - b2) times the learning rate instead of 1 time: 3.16 times, by default. Many courses
        begin with this form.

    Returns:
      Optax transformations, in the order of the chain.
    """
    corrected = optax.scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype)
    if bias_correction:
        return [parts.decay, corrected, parts.rate]
    # Together both corrections are one factor of the step (end of sec. 2), except for the size of eps. Undo it.
    undo = optax.scale_by_schedule(lambda t: (1 - b1 ** (t + 1)) / jnp.sqrt(1 - b2 ** (t + 1)))
    return [parts.decay, corrected, undo, parts.rate]


@registry.part("optimizer")
def adamw(
    parts: Parts, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, mu_dtype: str | None = None
) -> list[Transform]:
    """AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019, alg. 2).

    As in torch, the decay is multiplied by the learning rate: w -= rate * (update + weight_decay * w).

    Args:
      parts: Parts of the chain that all optimizers share.
      b1: Decay rate of the average of gradients, the first moment, in [0, 1). The defaults are Adam's.
      b2: Decay rate of the average of squared gradients, the second moment, in [0, 1).
      eps: Number that is added to the root of the second moment, at least 0.
      mu_dtype: Type of the first moment: "float32", "bfloat16" or "float16". bfloat16 halves its memory. None for the
        type of the parameters.

    Returns:
      Optax transformations, in the order of the chain.
    """
    return [optax.scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype), parts.decay, parts.rate]


@registry.part("optimizer")
def lion(parts: Parts, *, b1: float = 0.9, b2: float = 0.99, mu_dtype: str | None = None) -> list[Transform]:
    """Lion: the sign of a momentum (Chen et al. 2023, alg. 2), with decoupled weight decay.

    Every entry of the update is 1 or -1, so a good learning rate is several times smaller than AdamW's, and the weight
    decay as many times larger.

    Args:
      parts: Parts of the chain that all optimizers share.
      b1: Share of the momentum in the sum whose sign is taken, in [0, 1). The defaults are the paper's.
      b2: Decay rate of the momentum that is kept, in [0, 1).
      mu_dtype: Type of the momentum: "float32", "bfloat16" or "float16". bfloat16 halves its memory. None for the type
        of the parameters.

    Returns:
      Optax transformations, in the order of the chain.
    """
    return [optax.scale_by_lion(b1, b2, mu_dtype), parts.decay, parts.rate]


@registry.part("optimizer")
def lamb(parts: Parts, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6) -> list[Transform]:
    """LAMB: Adam with decay, rescaled in every layer to the norm of the layer's weights (You et al. 2020, alg. 2).

    As in the authors' code, parameters without weight decay are not rescaled.

    Args:
      parts: Parts of the chain that all optimizers share.
      b1: Decay rate of the average of gradients, the first moment, in [0, 1).
      b2: Decay rate of the average of squared gradients, the second moment, in [0, 1).
      eps: Number that is added to the root of the second moment, at least 0; 1e-6 as in the authors' code.

    Returns:
      Optax transformations, in the order of the chain.
    """
    trust_ratio = optax.masked(optax.scale_by_trust_ratio(), parts.decayed)
    return [optax.scale_by_adam(b1, b2, eps), parts.decay, trust_ratio, parts.rate]


@registry.part("optimizer")
def lars(
    parts: Parts,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    trust_coefficient: float = 0.001,
    variant: str = "simclr",
) -> list[Transform]:
    """LARS: the gradient with decay, rescaled in every layer to the norm of the layer's weights, then momentum.

    With g the gradient, b the decay and eta the trust coefficient, the rescaled update of a layer is (g + b w) times

        "simclr"    eta |w| / |g + b w|         SimCLR's code, lars_optimizer.py, which BYOL and others follow
        "you2017"   eta |w| / (|g| + b |w|)     You et al. 2017, alg. 1

    In both, the learning rate is applied before the momentum. As in SimCLR's code, parameters without weight decay
    (biases, norms) are neither decayed nor rescaled. A layer is not rescaled either if its weights or its update are 0.

    Args:
      parts: Parts of the chain that all optimizers share.
      momentum: Factor of the running sum of rescaled updates, in [0, 1).
      nesterov: True for Nesterov's momentum; it needs a momentum above 0.
      trust_coefficient: Ratio eta of the norm of a layer's update to the norm of its weights at a learning rate of 1,
        at least 0. 0.001 as in You et al. 2017 and SimCLR's code.
      variant: Name of the formula above, "simclr" or "you2017".

    Returns:
      Optax transformations, in the order of the chain.

    Raises:
      UserError: Another variant, a momentum out of range, or Nesterov's without momentum.
    """
    if variant == "simclr":
        scale = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient), parts.decayed)
        decay_and_scale = [parts.decay, scale]
    elif variant == "you2017":
        decay_and_scale = [_lars_of_paper(parts, trust_coefficient)]
    else:
        raise unknown("variant of lars", variant, ("simclr", "you2017"))
    return [*decay_and_scale, parts.rate, *_trace(momentum, nesterov)]


def _lars_of_paper(parts: Parts, trust_coefficient: float) -> Transform:
    def rescale(gradient: jax.Array, update: jax.Array, param: jax.Array, decayed: bool) -> jax.Array:
        if not decayed:
            return update
        # The update is g + b w, so update - gradient is the decay b w.
        weights, norms = jnp.linalg.norm(param), jnp.linalg.norm(gradient) + jnp.linalg.norm(update - gradient)
        usable = (weights > 0) & (norms > 0)
        return update * jnp.where(usable, trust_coefficient * weights / jnp.where(usable, norms, 1), 1)

    def decay_and_rescale(gradients: PyTree, params: PyTree) -> PyTree:
        updates, _ = parts.decay.update(gradients, optax.EmptyState(), params)
        return jax.tree.map(rescale, gradients, updates, params, parts.decayed)

    return optax.stateless(decay_and_rescale)


@registry.part("optimizer")
def adafactor(
    parts: Parts,
    *,
    momentum: float = 0.9,
    momentum_dtype: str = "bfloat16",
    decay_exponent: float = 0.8,
    b2_cap: float = 0.999,
    clip_threshold: float | None = None,
    min_dim_size_to_factor: int = 32,
) -> list[Transform]:
    """Adafactor (Shazeer & Stern 2018) as Zhai et al. 2022, sec. 3.4, use it for large ViTs.

    The second moment of a matrix is kept as one sum per row and one per column. There is a momentum, and the updates
    are not multiplied by the scale of the parameter. The weight decay is decoupled and multiplied by the learning rate.

    Args:
      parts: Parts of the chain that all optimizers share.
      momentum: Decay rate of the average of updates, in [0, 1).
      momentum_dtype: Type of that average: "float32", "bfloat16" or "float16". bfloat16, as in Zhai et al., halves its
        memory.
      decay_exponent: Number c above 0: at step t, from 1, the second moment decays by `1 - t ** -c`. 0.8 as
        Shazeer & Stern propose.
      b2_cap: Upper limit of that decay rate, in [0, 1).
      clip_threshold: Limit above 0 of the root mean square of each parameter's update. None, as in big_vision's
        `scale_by_adafactor`, clips nothing; 1.0 is Shazeer & Stern's alg. 4 with their d = 1.
      min_dim_size_to_factor: Least size of both sides of a matrix whose second moment is factored, at least 1.

    Returns:
      Optax transformations, in the order of the chain.
    """

    def b2(step: jax.Array, exponent: float) -> jax.Array:
        return jnp.minimum(1.0 - (step + 1.0) ** -exponent, b2_cap)

    scale = optax.scale_by_factored_rms(
        decay_rate=decay_exponent, min_dim_size_to_factor=min_dim_size_to_factor, decay_rate_fn=b2
    )
    average = optax.ema(momentum, debias=False, accumulator_dtype=momentum_dtype)
    clip = [] if clip_threshold is None else [optax.clip_by_block_rms(clip_threshold)]
    return [scale, *clip, average, parts.decay, parts.rate]


# Allowed values of the optimizers' own arguments, by name; a user's own optimizer is checked too.


def _trace(momentum: float, nesterov: bool) -> list[Transform]:
    if not 0 <= momentum < 1:
        raise UserError(f"momentum must be at least 0 and below 1, not {momentum!r}")
    if nesterov and not momentum:
        raise UserError("nesterov needs a momentum above 0")
    return [optax.trace(momentum, nesterov)] if momentum else []
