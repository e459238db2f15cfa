"""Schedules of learning rate and weight decay: a peak, times warm-up, times the decay of a spec, times cooldown."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.arguments import Range
from jaxvision.errors import UserError
from jaxvision.specs import Registry

Duration = str | float
Schedule = Callable[[jax.typing.ArrayLike], jax.Array]

decays = Registry("schedule", usage='c.optimizer.schedule = "CALL"')


class Timing(NamedTuple):
    """The times that a decay may depend on.

    Attributes:
      warmup: Number of steps of the warm-up.
      total: Number of steps of the run.
      steps: Function that turns a duration into steps.
    """

    warmup: int
    total: int
    steps: Callable[[Duration], int]

    def progress(self, step: jax.Array) -> jax.Array:
        """Returns the share of the run after warm-up that is over: 0 up to the end of warm-up, then linearly to 1.

        Args:
          step: Number of updates made before, float32 scalar.

        Returns:
          float32 scalar in [0, 1].
        """
        return jnp.clip((step - self.warmup) / max(self.total - self.warmup, 1), 0.0, 1.0)


Decay = Callable[[jax.Array, Timing], jax.Array | float]  # the learning rate at a step, divided by its peak


@decays.register()
def constant() -> Decay:
    """No decay: the learning rate stays at its peak."""
    return lambda step, timing: 1.0


@decays.register()
def linear(final: Annotated[float, Range(0)] = 0.0) -> Decay:
    """A straight line from 1 at the end of warm-up to `final` at the end of the run.

    Args:
      final: Factor of the peak at the end of the run, at least 0.
    """
    return lambda step, timing: 1.0 + (final - 1.0) * timing.progress(step)


@decays.register()
def cosine(final: Annotated[float, Range(0)] = 0.0) -> Decay:
    """Half a cosine from 1 at the end of warm-up to `final` (Loshchilov & Hutter 2017, eq. 5, without restarts).

    Args:
      final: Factor of the peak at the end of the run, at least 0.
    """
    return lambda step, timing: final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * timing.progress(step)))


@decays.register()
def step(*boundaries: Duration, factor: Annotated[float, Range(0)] = 0.1) -> Decay:
    """Stairs: the learning rate is multiplied by `factor` at each boundary (He et al. 2016, sec. 3.4).

    Args:
      *boundaries: Durations from the start of the run, such as "30 epochs".
      factor: Factor at each boundary, at least 0; 0.1 as in the paper.
    """
    return lambda step, timing: factor ** sum(jnp.where(step >= timing.steps(b), 1.0, 0.0) for b in boundaries)


@decays.register()
def rsqrt(timescale="10_000 steps") -> Decay:
    """1 / sqrt(1 + t / timescale), with t the steps since the end of warm-up (Zhai et al. 2022, sec. 3.5).

    It does not depend on the length of the run. So one run can be cooled down from several of its checkpoints, which
    gives results for several lengths.

    Args:
      timescale: Duration of the time scale; the larger, the slower the decay.
    """
    return lambda step, timing: 1.0 / jnp.sqrt(1.0 + jnp.maximum(step - timing.warmup, 0) / timing.steps(timescale))


def make_schedule(
    schedule: str,
    *,
    learning_rate: float,
    total: int,
    steps: Callable[[Duration], int],
    warmup: Duration = 0,
    cooldown: Duration = 0,
    key: str = "schedule",
) -> Schedule:
    """Builds the learning rate, or the weight decay, as a function of the step.

    Step s is the number of updates made before: the first update uses step 0, the last `total - 1`. Warm-up is linear
    from 0, `s / warmup`, and reaches the peak at step `warmup`. So with a warm-up, the first update changes no
    parameter. Cooldown is linear, `(total - s) / cooldown`, and would reach 0 at step `total`, one after the last
    update. The decay is one of the functions above.

    Args:
      schedule: Spec of the decay, one call: "constant", "linear(final=0.0)", "cosine(final=0.0)",
        "step('30 epochs', '60 epochs', factor=0.1)" or "rsqrt(timescale='10_000 steps')". A `final` above 1 makes it
        rise.
      learning_rate: Peak of the learning rate, or the initial weight decay, at least 0.
      total: Number of steps of the run.
      steps: Function that turns a duration into steps.
      warmup: Duration of the warm-up; 0 for none.
      cooldown: Duration of the cooldown, the last part of the run; 0 for none.
      key: Key of the config that holds the spec, for messages.

    Returns:
      Function `step -> learning rate`, float32 scalar, for ints and traced arrays.

    Raises:
      UserError: An unknown schedule or argument, or a warm-up and cooldown longer than the run.

    >>> rate = make_schedule("cosine", learning_rate=0.1, total=100, steps=int, warmup=20)
    >>> [round(float(rate(s)), 4) for s in (0, 10, 20, 60, 100)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """
    built = decays.build(schedule)
    if len(built) != 1:
        raise UserError(f"{key} {schedule!r} must be one call, like 'cosine'; warmup and cooldown are other keys")
    decay, warmup_steps, cooldown_steps = built[0], steps(warmup), steps(cooldown)
    if warmup_steps + cooldown_steps > total:
        raise UserError(
            f"warmup of {warmup_steps} and cooldown of {cooldown_steps} steps do not fit into {total} steps"
        )
    timing = Timing(warmup_steps, total, steps)

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        value = learning_rate * decay(step, timing)
        if warmup_steps:
            value *= jnp.minimum(step / warmup_steps, 1.0)
        if cooldown_steps:
            value *= jnp.clip((total - step) / cooldown_steps, 0.0, 1.0)
        return jnp.asarray(value, jnp.float32)

    rate(0)  # a wrong duration inside the spec is an error now, not at the first step
    return rate
