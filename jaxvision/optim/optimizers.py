"""Optimizers as optax chains, all with one layout:

clip the gradient -> the optimizer's own rule, with weight decay -> multipliers -> learning rate -> freezing

What differs between optimizers is the middle: one small function each, below.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

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
Transform = optax.GradientTransformation


class Optimizer(NamedTuple):
    """An optimizer.

    Attributes:
      tx: the optax transformation; its updates are added to the parameters.
      learning_rate: `step -> rate`, before the multipliers of single parameters.
      frozen: a tree like the parameters, True for those that are never changed.
    """

    tx: Transform
    learning_rate: schedules.Schedule
    frozen: PyTree

    def of_player(self, _name: str) -> "Optimizer":
        """Itself: the task has no players."""
        return self

    def rates(self, updates: int) -> dict[str, float]:
        """The learning rate of the update before which so many were made, by the name of its metric."""
        return {RATE: float(self.learning_rate(updates))}


class Optimizers(NamedTuple):
    """The optimizers of several players, each of a part of the parameters.

    Attributes:
      of: Optimizers by player.
      frozen: Tree like all parameters, True for those that are never changed.
    """

    of: Mapping[str, Optimizer]
    frozen: PyTree

    @property
    def tx(self) -> dict[str, Transform]:
        """The optax transformations by player."""
        return {name: optimizer.tx for name, optimizer in self.of.items()}

    def of_player(self, name: str) -> Optimizer:
        """The optimizer of a player."""
        return self.of[name]

    def rates(self, updates: int) -> dict[str, float]:
        """The learning rates after so many steps were taken, by the names of their metrics: `NAME_learning_rate`."""
        return {f"{name}_{RATE}": rate for name, one in self.of.items() for rate in one.rates(updates).values()}


class Parts(NamedTuple):
    """What every optimizer puts somewhere in its chain.

    Attributes:
      decay: adds `weight_decay * multiplier * parameter` to the update.
      rate: multiplies by minus the learning rate and the multipliers.
      decayed: a tree of bools, True where the decay rules decay.
    """

    decay: Transform
    rate: Transform
    decayed: PyTree


@found.part("optimizer")
def sgd(parts: Parts, *, momentum: float = 0.9, nesterov: bool = False, decay: str = "coupled") -> list[Transform]:
    """Stochastic gradient descent: v = momentum * v + g; w -= rate * v (Sutskever et al. 2013, sec. 2).

    `decay="coupled"`, L2 regularisation, adds the decay to the gradient before the momentum, as in
    He et al. 2016 and torch; `"decoupled"` adds it to the update (Loshchilov & Hutter 2019, alg. 1).
    Without momentum the two are equal.
    """
    trace = _trace(momentum, nesterov)
    orders = {"coupled": [parts.decay, *trace, parts.rate], "decoupled": [*trace, parts.decay, parts.rate]}
    if decay not in orders:
        raise unknown("decay of sgd", decay, orders)
    return orders[decay]


@found.part("optimizer")
def adagrad(parts: Parts, *, initial_accumulator: float = 0.0, eps: float = 1e-10) -> list[Transform]:
    """Divides by the root of the sum of all squared gradients. Coupled decay.

    `eps` is added outside the root, as in Duchi et al. 2011, fig. 1 (their delta), and torch: the first step is
    the rate, however small the gradient. `optax.adagrad` adds it inside.
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
    """Divides by the root of a moving average of squared gradients (Tieleman & Hinton 2012). Coupled decay.

    `eps` is added outside the root, as in torch.
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
    """Adam (Kingma & Ba 2015, alg. 1), with L2 regularisation: the decay is added to the gradient.

    `mu_dtype="bfloat16"` halves the memory of the first moment. Without `bias_correction` the first step is
    (1 - b1) / sqrt(1 - b2) times the rate, 3.16 by default, where it is 1 with it; many courses begin with this form.
    """
    corrected = optax.scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype)
    if bias_correction:
        return [parts.decay, corrected, parts.rate]
    # Sec. 2: both corrections together are one factor of the step, up to the size of eps. This takes it back.
    undo = optax.scale_by_schedule(lambda t: (1 - b1 ** (t + 1)) / jnp.sqrt(1 - b2 ** (t + 1)))
    return [parts.decay, corrected, undo, parts.rate]


@found.part("optimizer")
def adamw(
    parts: Parts, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, mu_dtype: str | None = None
) -> list[Transform]:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, alg. 2).

    As in torch, the decay is multiplied by the learning rate: w -= rate * (update + weight_decay * w).
    """
    return [optax.scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype), parts.decay, parts.rate]


@found.part("optimizer")
def lion(parts: Parts, *, b1: float = 0.9, b2: float = 0.99, mu_dtype: str | None = None) -> list[Transform]:
    """The sign of a momentum (Chen et al. 2023, alg. 2), with decoupled weight decay."""
    return [optax.scale_by_lion(b1, b2, mu_dtype), parts.decay, parts.rate]


@found.part("optimizer")
def lamb(parts: Parts, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6) -> list[Transform]:
    """Adam with decay, rescaled in every layer to the norm of its weights (You et al. 2020, alg. 2).

    As in the authors' code, parameters without weight decay are not rescaled.
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
    """Gradient with decay, rescaled in every layer to the norm of its weights, then momentum.

    With g the gradient, b the decay and eta the trust coefficient, the rescaled update of a layer is (g + b w) times

        "simclr"    eta |w| / |g + b w|         SimCLR's code, lars_optimizer.py, which BYOL and others follow
        "you2017"   eta |w| / (|g| + b |w|)     You et al. 2017, alg. 1

    In both the learning rate enters before the momentum. As in SimCLR's code, parameters without weight decay
    (biases, norms) are neither decayed nor rescaled, and nor is a layer whose norm, or that of its update, is 0.
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
        weights, norms = jnp.linalg.norm(param), jnp.linalg.norm(gradient) + jnp.linalg.norm(update - gradient)
        usable = (weights > 0) & (norms > 0)
        return update * jnp.where(usable, trust_coefficient * weights / jnp.where(usable, norms, 1), 1)

    def of(gradients: PyTree, params: PyTree) -> PyTree:
        updates, _ = parts.decay.update(gradients, optax.EmptyState(), params)
        return jax.tree.map(rescale, gradients, updates, params, parts.decayed)

    return optax.stateless(of)


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
    """Adafactor (Shazeer & Stern 2018) as Zhai et al. 2022, sec. 3.4 use it for large ViTs.

    Momentum kept in bfloat16, the decay of the second moment `1 - t ** -decay_exponent` capped at
    `b2_cap`, updates not multiplied by the scale of the parameter. Decoupled weight decay, times the
    learning rate. As in their code, big_vision's `scale_by_adafactor`, single updates are not clipped;
    `clip_threshold=1.0` limits the root mean square of each, Shazeer & Stern's alg. 4 with their d = 1.
    """

    def b2(step: jax.Array, exponent: float) -> jax.Array:
        return jnp.minimum(1.0 - (step + 1.0) ** -exponent, b2_cap)

    scale = optax.scale_by_factored_rms(
        decay_rate=decay_exponent, min_dim_size_to_factor=min_dim_size_to_factor, decay_rate_fn=b2
    )
    average = optax.ema(momentum, debias=False, accumulator_dtype=momentum_dtype)
    clip = [] if clip_threshold is None else [optax.clip_by_block_rms(clip_threshold)]
    return [scale, *clip, average, parts.decay, parts.rate]


# The values that arguments of optimizers may have, whichever takes them.
_RANGES = {
    **dict.fromkeys(("b1", "b2", "b2_cap", "momentum"), Range(0, 1, below=True)),
    **dict.fromkeys(("eps", "initial_accumulator", "trust_coefficient"), Range(0)),
    **dict.fromkeys(("decay_exponent", "clip_threshold"), Range(0, above=True)),
    "min_dim_size_to_factor": Range(1),
}
DTYPES = ("float32", "bfloat16", "float16")  # of moments

OPTIMIZERS = found.Parts("optimizer", [__package__], given=("parts",))
GIVEN = ("params", "total", "steps", "order")  # what the program gives to `make`, so that no config may


def make(
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
    **own: Any,
) -> Optimizer:
    """Builds an optimizer.

    All rules are pairs (regular expression, value) over parameter paths, first match wins, and must
    cover every parameter (see `jaxvision.paths`). Under a scanned model a layer's weights are one
    array with those of all layers, and so is their norm in lamb and lars.

    Args:
      name: a key of `OPTIMIZERS`, or "package.module:function" of one of your own.
      learning_rate: the peak of the schedule.
      params: the parameters; only paths are read, so `ShapeDtypeStruct`s will do.
      total: steps of the run.
      steps: turns a duration into steps.
      order: Function that returns the order of the model's layers, called where there is a `layer_decay`.
      schedule, warmup, cooldown: see `schedules.make`.
      clip_norm: limit of the global norm of the gradient of all trained parameters.
      weight_decay: strength; where it enters is said at each optimizer. It is always multiplied by the
        learning rate and its multipliers.
      decay_rules: multipliers of the strength; by default kernels are decayed and nothing else.
      lr_rules: multipliers of the learning rate; none by default.
      layer_decay: further multipliers, falling from the head to the input; see `rules.layer_decay`.
      freeze: True for parameters that are never changed. They have no moments and do not count in the
        norm of the gradient.
      **own: the optimizer's own arguments; see its function.

    Raises:
      UserError: an unknown optimizer, an argument it does not take, a value out of range, or wrong rules.

    >>> import numpy as np
    >>> weights = {"bias": np.ones(1), "kernel": np.ones(1)}
    >>> tx, *_ = make(name="sgd", learning_rate=0.5, weight_decay=0.5, params=weights, total=10, steps=int)
    >>> updates, _ = tx.update({"bias": np.zeros(1), "kernel": np.zeros(1)}, tx.init(weights), weights)
    >>> updates["bias"].tolist(), updates["kernel"].tolist()
    ([-0.0], [-0.25])
    """
    _check_own(name, own)
    if not arguments.fits((weight_decay, learning_rate), tuple[NOT_NEGATIVE, NOT_NEGATIVE]):
        raise UserError(f"learning_rate {learning_rate} and weight_decay {weight_decay} must not be negative")
    if not arguments.fits(clip_norm, POSITIVE | None):
        raise UserError(f"clip_norm must be above 0, not {clip_norm}; None turns clipping off")
    frozen = paths.match(freeze or ((".*", False),), params, "freeze")
    if all(jax.tree.leaves(frozen)):
        raise UserError("freeze: every parameter is frozen, nothing is left to train")

    # Inside selective_transform frozen leaves are MaskedNode, so they must be in the trees of values too.
    def of_trained(values: PyTree) -> PyTree:
        return jax.tree.map(lambda value, f: optax.MaskedNode() if f else value, values, frozen)

    decays = of_trained(paths.match(decay_rules, params, "decay_rules", check_unused=decay_rules != rules.DECAY_RULES))
    multipliers = paths.match(lr_rules or ((".*", 1.0),), params, "lr_rules")
    if layer_decay is not None:
        multipliers = jax.tree.map(lambda a, b: a * b, multipliers, rules.layer_decay(params, layer_decay, order()))

    rate = schedules.make(
        schedule, learning_rate=learning_rate, total=total, steps=steps, warmup=warmup, cooldown=cooldown
    )
    parts = Parts(
        decay=_add_decay(weight_decay, decays),
        rate=optax.chain(_multiply(of_trained(multipliers)), optax.scale_by_learning_rate(rate)),
        decayed=jax.tree.map(bool, decays),
    )
    clip = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    tx = optax.chain(*clip, *OPTIMIZERS.resolve(name)(parts, **own))
    if freeze:
        tx = optax.selective_transform(tx, freeze_mask=frozen)
    return Optimizer(tx, rate, frozen)


def _check_own(name: str, own: dict[str, Any]) -> None:
    """UserError where the optimizer is unknown, or an argument of its own is none that it takes, or of a wrong kind."""
    common = calls.options(make, (*GIVEN, "own"))
    words = calls.Options(f"optimizer {name!r}")
    calls.check(OPTIMIZERS.resolve(name), own, words, program=OPTIMIZERS.given, others=common)
    for key, value in own.items():
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
