"""Optimizers as optax chains, all with one layout:

clip the gradient -> the optimizer's own rule, with weight decay -> multipliers -> learning rate -> freezing

Optimizers differ only in the middle. Each is one small function below: it takes the `Parts` that all optimizers share
and its own options, and returns the middle of the chain, from the clipped gradient to the update of the parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxvision import arguments, calls, found, paths
from jaxvision.arguments import POSITIVE, Range
from jaxvision.errors import UserError, unknown
from jaxvision.optim import rules, schedules

NOT_NEGATIVE = Annotated[float, Range(0)]
PyTree = Any
RATE = "learning_rate"  # the metric
Transform: TypeAlias = optax.GradientTransformation


class Optimizer(NamedTuple):
    """An optimizer.

    Attributes:
      tx: Optax transformation of gradients; its updates are added to the parameters.
      learning_rate: Function `step -> rate`, before the multipliers of single parameters.
      frozen: Tree of bools with the structure of the parameters, True for parameters that never change.
    """

    tx: Transform
    learning_rate: schedules.Schedule
    frozen: PyTree

    def of_player(self, _name: str) -> "Optimizer":
        """Returns this optimizer, for a task without players; see `Optimizers.of_player`."""
        return self

    def rates(self, updates: int) -> dict[str, float]:
        """Returns the learning rate of the next update, by the name of its metric.

        Args:
          updates: Number of updates made so far, 0 before the first.
        """
        return {RATE: float(self.learning_rate(updates))}


class Optimizers(NamedTuple):
    """The optimizers of several players, such as generator and discriminator, each for its own parameters.

    Attributes:
      by_player: Optimizers by the names of their players.
      frozen: Tree of bools with the structure of all parameters, True for parameters that never change.
    """

    by_player: Mapping[str, Optimizer]
    frozen: PyTree

    @property
    def tx(self) -> dict[str, Transform]:
        """The optax transformations by player."""
        return {name: optimizer.tx for name, optimizer in self.by_player.items()}

    def of_player(self, name: str) -> Optimizer:
        """Returns the optimizer of a player.

        Args:
          name: Name of the player.
        """
        return self.by_player[name]

    def rates(self, updates: int) -> dict[str, float]:
        """Returns the learning rates of the next update, by the names of their metrics, `PLAYER_learning_rate`.

        Args:
          updates: Number of updates made so far, 0 before the first.
        """
        return {f"{name}_{RATE}": float(player.learning_rate(updates)) for name, player in self.by_player.items()}


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


@found.part("optimizer")
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


@found.part("optimizer")
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


@found.part("optimizer")
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


@found.part("optimizer")
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


@found.part("optimizer")
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


@found.part("optimizer")
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


@found.part("optimizer")
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


@found.part("optimizer")
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


@found.part("optimizer")
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
_RANGES = {
    **dict.fromkeys(("b1", "b2", "b2_cap", "momentum"), Range(0, 1, below=True)),
    **dict.fromkeys(("eps", "initial_accumulator", "trust_coefficient"), Range(0)),
    **dict.fromkeys(("decay_exponent", "clip_threshold"), Range(0, above=True)),
    "min_dim_size_to_factor": Range(1),
}
DTYPES = ("float32", "bfloat16", "float16")  # of moments

OPTIMIZERS = found.Parts("optimizer", [__package__], given=("parts",))
GIVEN = ("params", "total", "steps", "order")  # arguments that the program passes to `make_optimizer`; no config may


def make_optimizer(
    *,
    name: str,
    learning_rate: NOT_NEGATIVE,
    params: PyTree,
    total: int,
    steps: Callable[[schedules.Duration], int],
    order: Callable[[], rules.LayerOrder] = lambda: {},
    schedule: str = "constant",
    warmup: schedules.Duration = 0,
    cooldown: schedules.Duration = 0,
    clip_norm: POSITIVE | None = None,
    weight_decay: NOT_NEGATIVE = 0.0,
    decay_rules: Sequence[tuple[str, float]] = rules.DECAY_RULES,
    lr_rules: Sequence[tuple[str, float]] = (),
    layer_decay: float | Mapping[str, float] | None = None,
    freeze: Sequence[tuple[str, bool]] = (),
    **options: Any,
) -> Optimizer:
    """Builds an optimizer.

    Rules are pairs (regular expression, value) over the paths of parameters. The first match wins, and every parameter
    must match one (see `jaxvision.paths`). In a scanned model the weights of all layers are one array, so lamb and lars
    take one norm for all of them.

    Args:
      name: Name of a built-in optimizer, a key of `OPTIMIZERS`, or "package.module:function" for one of your own.
      learning_rate: Peak of the schedule, at least 0.
      params: Parameters; only their paths and shapes are read, so `ShapeDtypeStruct`s will do.
      total: Number of steps of the run.
      steps: Function that turns a duration ("5 epochs", "10 percent", a number of steps) into steps.
      order: Function that returns the order of the model's layers; called only if there is a `layer_decay`.
      schedule: Spec of the decay after warm-up, such as "cosine"; see `schedules.make_schedule`.
      warmup: Duration of the linear warm-up from 0.
      cooldown: Duration of the linear cooldown to 0 at the end of the run.
      clip_norm: Limit above 0 of the global norm of the gradient of all trained parameters. None clips nothing.
      weight_decay: Strength of the weight decay, at least 0. Each optimizer documents where it is added. It is always
        multiplied by the learning rate and by the multipliers of the learning rate.
      decay_rules: Rules for multipliers of the weight decay; by default 1 for kernels and 0 for everything else.
      lr_rules: Rules for multipliers of the learning rate; by default 1 for every parameter.
      layer_decay: Ratio of the learning rates of neighbouring layers, in (0, 1], or ratios by tower; see
        `rules.layer_decay`. None for equal rates.
      freeze: Rules for freezing, True for parameters that never change. They have no moments and do not count in the
        norm of the gradient. By default nothing is frozen.
      **options: Options of the optimizer itself; see its function.

    Raises:
      UserError: An unknown optimizer, an option that it does not take, a value out of range, or wrong rules.

    >>> import numpy as np
    >>> weights = {"bias": np.ones(1), "kernel": np.ones(1)}
    >>> tx, *_ = make_optimizer(name="sgd", learning_rate=0.5, weight_decay=0.5, params=weights, total=10, steps=int)
    >>> updates, _ = tx.update({"bias": np.zeros(1), "kernel": np.zeros(1)}, tx.init(weights), weights)
    >>> updates["bias"].tolist(), updates["kernel"].tolist()
    ([-0.0], [-0.25])
    """
    _check_options(name, options)
    if not arguments.fits((weight_decay, learning_rate), tuple[NOT_NEGATIVE, NOT_NEGATIVE]):
        raise UserError(f"learning_rate {learning_rate} and weight_decay {weight_decay} must not be negative")
    if not arguments.fits(clip_norm, POSITIVE | None):
        raise UserError(f"clip_norm must be above 0, not {clip_norm}; None turns clipping off")
    frozen = paths.match(freeze or ((".*", False),), params, "freeze")
    if all(jax.tree.leaves(frozen)):
        raise UserError("freeze: every parameter is frozen, nothing is left to train")

    # Inside selective_transform frozen leaves are MaskedNode; trees of values must have them in the same places.
    def of_trained(values: PyTree) -> PyTree:
        return jax.tree.map(lambda value, f: optax.MaskedNode() if f else value, values, frozen)

    decays = of_trained(paths.match(decay_rules, params, "decay_rules", check_unused=decay_rules != rules.DECAY_RULES))
    multipliers = paths.match(lr_rules or ((".*", 1.0),), params, "lr_rules")
    if layer_decay is not None:
        multipliers = jax.tree.map(lambda a, b: a * b, multipliers, rules.layer_decay(params, layer_decay, order()))

    rate = schedules.make_schedule(
        schedule, learning_rate=learning_rate, total=total, steps=steps, warmup=warmup, cooldown=cooldown
    )
    parts = Parts(
        decay=_add_decay(weight_decay, decays),
        rate=optax.chain(_multiply(of_trained(multipliers)), optax.scale_by_learning_rate(rate)),
        decayed=jax.tree.map(bool, decays),
    )
    clip = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    tx = optax.chain(*clip, *OPTIMIZERS.resolve(name)(parts, **options))
    if freeze:
        tx = optax.selective_transform(tx, freeze_mask=frozen)
    return Optimizer(tx, rate, frozen)


def _check_options(name: str, options: dict[str, Any]) -> None:
    """Raises UserError if the optimizer is unknown, or if it does not take an option or its value."""
    common = calls.options(make_optimizer, (*GIVEN, "options")) or {}
    words = calls.Options(f"optimizer {name!r}")
    calls.check(OPTIMIZERS.resolve(name), options, words, program=OPTIMIZERS.given, others=common)
    for key, value in options.items():
        if key in _RANGES:
            arguments.check_value(f"optimizer {name!r}: {key}", value, Annotated[float, _RANGES[key]])
        elif key.endswith("dtype") and value is not None and value not in DTYPES:
            raise unknown(f"{key} of optimizer {name!r}", value, DTYPES)


def _trace(momentum: float, nesterov: bool) -> list[Transform]:
    if not 0 <= momentum < 1:
        raise UserError(f"momentum must be at least 0 and below 1, not {momentum!r}")
    if nesterov and not momentum:
        raise UserError("nesterov needs a momentum above 0")
    return [optax.trace(momentum, nesterov)] if momentum else []


def _add_decay(weight_decay: float, multipliers: PyTree) -> Transform:
    def add(update: jax.Array, param: jax.Array, multiplier: float) -> jax.Array:
        if multiplier == 0 or not weight_decay:
            return update
        return update + weight_decay * multiplier * param

    return optax.stateless(lambda updates, params: jax.tree.map(add, updates, params, multipliers))


def _multiply(multipliers: PyTree) -> Transform:
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, m: u * m, updates, multipliers))
