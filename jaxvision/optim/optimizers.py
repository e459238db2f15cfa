"""Optimizers as optax chains, all with one layout:

clip the gradient -> the optimizer's own rule, with weight decay -> multipliers -> learning rate -> L1 -> freezing

Optimizers differ only in the middle, which is one small function in algorithms.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxvision import arguments, calls, paths, registry
from jaxvision.arguments import POSITIVE, Range
from jaxvision.errors import UserError, unknown
from jaxvision.optim import penalties, rules, schedules, thaw
from jaxvision.optim.algorithms import Parts, PyTree, Transform

NOT_NEGATIVE = Annotated[float, Range(0)]
RATE, DECAY = "learning_rate", "weight_decay"  # metrics


class Optimizer(NamedTuple):
    """An optimizer.

    Attributes:
      tx: Optax transformation of gradients; its updates are added to the parameters.
      learning_rate: Function `step -> rate`, before the multipliers of single parameters.
      frozen: Tree of bools with the structure of the parameters, True for parameters that never change.
      weight_decay: Function `step -> weight decay`, before the multipliers; None if it is the same in every step.
      of_weights: Function of the parameters that returns more metrics of a step, the penalties; None for none.
    """

    tx: Transform
    learning_rate: schedules.Schedule
    frozen: PyTree
    weight_decay: schedules.Schedule | None = None
    of_weights: Callable[[PyTree], dict[str, jax.Array]] | None = None

    def of_player(self, _name: str) -> "Optimizer":
        """Returns this optimizer, for a task without players; see `Optimizers.of_player`."""
        return self

    def rates(self, updates: int) -> dict[str, float]:
        """Returns the learning rate of the next update, and the weight decay if it has a schedule, by metric.

        Args:
          updates: Number of updates made so far, 0 before the first.
        """
        decay = {} if self.weight_decay is None else {DECAY: float(self.weight_decay(updates))}
        return {RATE: float(self.learning_rate(updates)), **decay}

    def every(self, steps: int) -> "Optimizer":
        """Returns this optimizer with schedules in steps of the run, for updates that are made in every n-th step.

        Args:
          steps: Number n of steps from one update to the next.
        """

        def slower(schedule: schedules.Schedule) -> schedules.Schedule:
            def at(step: Any) -> jax.Array:
                return schedule(step // steps)

            return at

        decay = None if self.weight_decay is None else slower(self.weight_decay)
        return self._replace(learning_rate=slower(self.learning_rate), weight_decay=decay)


class Optimizers(NamedTuple):
    """The optimizers of several players, such as generator and discriminator, each for its own parameters.

    Attributes:
      by_player: Optimizers by the names of their players.
      frozen: Tree of bools with the structure of all parameters, True for parameters that never change.
      of_weights: None: players have no metrics of their weights.
    """

    by_player: Mapping[str, Optimizer]
    frozen: PyTree
    of_weights: None = None

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
        """Returns the `rates` of all players, by the names of their metrics, `PLAYER_learning_rate`, ...

        Args:
          updates: Number of updates made so far, 0 before the first.
        """
        return {
            f"{name}_{metric}": value
            for name, player in self.by_player.items()
            for metric, value in player.rates(updates).items()
        }


_RANGES = {
    **dict.fromkeys(("b1", "b2", "b2_cap", "momentum"), Range(0, 1, below=True)),
    **dict.fromkeys(("eps", "initial_accumulator", "trust_coefficient"), Range(0)),
    **dict.fromkeys(("decay_exponent", "clip_threshold"), Range(0, above=True)),
    "min_dim_size_to_factor": Range(1),
}
DTYPES = ("float32", "bfloat16", "float16")  # of moments

OPTIMIZERS = registry.PartRegistry(
    "optimizer", [__package__], required=("parts",), usage='c.optimizer = dict(name="NAME", learning_rate=1e-3)'
)
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
    schedule_rules: Sequence[tuple[str, str]] = (),
    warmup: schedules.Duration = 0,
    cooldown: schedules.Duration = 0,
    clip_norm: POSITIVE | None = None,
    weight_decay: NOT_NEGATIVE = 0.0,
    weight_decay_schedule: str = "constant",
    decay_rules: Sequence[tuple[str, float]] = rules.DECAY_RULES,
    l1: NOT_NEGATIVE = 0.0,
    log_weights: bool = False,
    lr_rules: Sequence[tuple[str, float]] = (),
    layer_decay: float | Mapping[str, float] | None = None,
    freeze: Sequence[tuple[str, bool | schedules.Duration]] = (),
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
      schedule_rules: Rules for parameters with another schedule, such as `((r"^predictor/", "constant"),)` for a
        predictor whose rate is not decayed (Chen and He 2021, SimSiam, sec. 4.2). All others follow `schedule`, which
        is the one that is logged. Peak, warm-up and cooldown are the same.
      warmup: Duration of the linear warm-up from 0.
      cooldown: Duration of the linear cooldown to 0 at the end of the run.
      clip_norm: Limit above 0 of the global norm of the gradient of all trained parameters. None clips nothing.
      weight_decay: Strength of the weight decay, at least 0. Each optimizer documents where it is added. It is always
        multiplied by the learning rate and by the multipliers of the learning rate.
      weight_decay_schedule: Spec of a schedule of the weight decay over the whole run, such as "cosine(final=10.0)" for
        a rise to ten times `weight_decay`, as in DINO. It knows no warm-up and no cooldown, which are the learning
        rate's. See `schedules.make_schedule`.
      decay_rules: Rules for multipliers of the weight decay; by default 1 for kernels and 0 for everything else.
      l1: Strength of the L1 penalty, at least 0, a proximal step after every update that makes weights exactly zero
        (`penalties.py`). As the weight decay, it is multiplied by the multipliers of `decay_rules`, the learning rate
        and by the multipliers of the rate; adaptive optimizers do not scale it.
      log_weights: True to log the penalties of the weights that `decay_rules` names: `weights_l2`, the sum of their
        squares, `weights_l1`, of their absolute values, and `weights_zero`, the share that is exactly zero.
      lr_rules: Rules for multipliers of the learning rate; by default 1 for every parameter.
      layer_decay: Ratio of the learning rates of neighbouring layers, in (0, 1], or ratios by tower; see
        `rules.layer_decay`. None for equal rates.
      freeze: Rules for freezing, True for parameters that never change. They have no moments and do not count in the
        norm of the gradient. A duration, such as "1 epoch", freezes them that long from the start of the run: neither
        gradient nor decay changes them, and their moments begin afterwards (`thaw.py`). By default nothing is frozen.
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
    check_options(name, **options)
    if not arguments.fits((weight_decay, learning_rate), tuple[NOT_NEGATIVE, NOT_NEGATIVE]):
        raise UserError(f"learning_rate {learning_rate} and weight_decay {weight_decay} must not be negative")
    if not arguments.fits(l1, NOT_NEGATIVE):
        raise UserError(f"l1 {l1} must not be negative")
    if not arguments.fits(clip_norm, POSITIVE | None):
        raise UserError(f"clip_norm must be above 0, not {clip_norm}; None turns clipping off")
    freezes = paths.match(freeze or ((".*", False),), params, "freeze")
    frozen = jax.tree.map(lambda rule: rule is True, freezes)
    starts = jax.tree.map(lambda rule: 0 if isinstance(rule, bool) else _steps(rule, steps), freezes)
    if not jax.tree.leaves(params) and total > 0:
        raise UserError("there is nothing to train, since the model has no parameters: set train.total='0 steps'")
    if jax.tree.leaves(params) and all(jax.tree.leaves(frozen)):
        raise UserError("freeze: every parameter is frozen, nothing is left to train")

    decays = paths.match(decay_rules, params, "decay_rules", check_unused=decay_rules != rules.DECAY_RULES)
    multipliers = paths.match(lr_rules or ((".*", 1.0),), params, "lr_rules")
    if layer_decay is not None:
        multipliers = jax.tree.map(lambda a, b: a * b, multipliers, rules.layer_decay(params, layer_decay, order()))

    of_rate: dict[str, Any] = dict(
        learning_rate=learning_rate, total=total, steps=steps, warmup=warmup, cooldown=cooldown
    )
    rate = schedules.make_schedule(schedule, **of_rate)
    others = [(pattern, schedules.make_schedule(spec, **of_rate)) for pattern, spec in schedule_rules]
    rates = paths.match((*others, (".*", rate)), params, "schedule_rules")
    decay_rate = None
    if weight_decay_schedule != "constant":
        decay_rate = schedules.make_schedule(
            weight_decay_schedule, learning_rate=weight_decay, total=total, steps=steps, key="weight_decay_schedule"
        )

    def updates_from(start: int) -> list[Transform]:
        """Makes the chain, without clipping, of the parameters that are trained from a step on."""

        # Frozen leaves are MaskedNode inside selective_transform, those of another start inside partition; trees of
        # values must have them in the same places.
        def mine(values: PyTree) -> PyTree:
            return jax.tree.map(lambda x, f, s: optax.MaskedNode() if f or s != start else x, values, frozen, starts)

        decay = weight_decay if decay_rate is None else thaw.later(decay_rate, start)
        parts = Parts(
            decay=_add_decay(decay, mine(decays)),
            rate=optax.chain(_multiply(mine(multipliers)), _descend(mine(rates), start)),
            decayed=jax.tree.map(bool, mine(decays)),
        )
        chain = OPTIMIZERS.resolve(name)(parts, **options)
        if l1:
            scaled = jax.tree.map(lambda decay, multiplier: decay * multiplier, mine(decays), mine(multipliers))
            chain = [*chain, penalties.shrink(l1, scaled, mine(rates), start)]
        return chain

    clip = [] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]
    if not any(jax.tree.leaves(starts)):
        tx = optax.chain(*clip, *updates_from(0))
    else:
        of_trained = jax.tree.map(lambda s, f: optax.MaskedNode() if f else s, starts, frozen)
        tx = thaw.in_turn(lambda start: optax.chain(*updates_from(start)), of_trained, clip)
    if freeze:
        tx = optax.selective_transform(tx, freeze_mask=frozen)

    def of_weights(params: PyTree) -> dict[str, jax.Array]:
        measures = {"l2": penalties.l2, "l1": penalties.l1, "zero": penalties.zeros}
        trained = jax.tree.map(lambda multiplier, f: 0.0 if f else multiplier, decays, frozen)
        return {f"weights_{key}": measure(params, trained) for key, measure in measures.items()}

    return Optimizer(tx, rate, frozen, decay_rate, of_weights if log_weights else None)


def check_options(name: str, **options: Any) -> None:
    """Checks the name of an optimizer and its own options.

    Args:
      name: Name of the optimizer.
      **options: Options; those of every optimizer, which `make_optimizer` checks, are ignored.

    Raises:
      UserError: The optimizer is unknown, or does not take an option or its value.
    """
    common = calls.options(make_optimizer, (*GIVEN, "options")) or {}
    options = {key: value for key, value in options.items() if key not in common}
    words = calls.Options(f"optimizer {name!r}")
    calls.check(OPTIMIZERS.resolve(name), options, words, program=OPTIMIZERS.required, others=common)
    for key, value in options.items():
        if key in _RANGES:
            arguments.check_value(f"optimizer {name!r}: {key}", value, Annotated[float, _RANGES[key]])
        elif key.endswith("dtype") and value is not None and value not in DTYPES:
            raise unknown(f"{key} of optimizer {name!r}", value, DTYPES)


def _steps(duration: schedules.Duration, steps: Callable[[schedules.Duration], int]) -> int:
    try:
        return steps(duration)
    except UserError as error:
        raise UserError(f"freeze: True, False or a duration is needed: {error}") from None


def _add_decay(weight_decay: float | schedules.Schedule, multipliers: PyTree) -> Transform:
    def add(updates: PyTree, params: PyTree, strength: Any) -> PyTree:
        def one(update: jax.Array, param: jax.Array, multiplier: float) -> jax.Array:
            return update if multiplier == 0 else update + strength * multiplier * param

        return jax.tree.map(one, updates, params, multipliers)

    if not callable(weight_decay):
        return optax.stateless(lambda u, params: add(u, params, weight_decay) if weight_decay else u)

    def init(params: PyTree) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: optax.ScaleByScheduleState, params: PyTree = None) -> tuple:
        count = optax.safe_increment(state.count)
        return add(updates, params, weight_decay(state.count)), optax.ScaleByScheduleState(count)

    return Transform(init, update)


def _multiply(multipliers: PyTree) -> Transform:
    return optax.stateless(lambda updates, _: jax.tree.map(lambda u, m: u * m, updates, multipliers))


def _descend(rates: PyTree, start: int) -> Transform:
    """Multiplies each update by minus its learning rate, a function of the step; updates are counted from `start`."""

    def update(updates: PyTree, state: optax.ScaleByScheduleState, params: PyTree = None) -> tuple:
        del params
        step = lambda update, rate: -rate(start + state.count).astype(update.dtype) * update
        return jax.tree.map(step, updates, rates), optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return Transform(lambda params: optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)), update)
