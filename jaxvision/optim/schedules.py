"""Learning-rate schedules: a peak, times warm-up, times the decay of a spec, times cooldown."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.arguments import Range
from jaxvision.errors import UserError
from jaxvision.specs import Registry

Duration = str | float
Schedule = Callable[[jax.typing.ArrayLike], jax.Array]

decays = Registry("schedule")


class Run(NamedTuple):
    """What a decay may know of the run: when warm-up ends, when the run ends, and how durations turn into steps."""

    warmup: int
    total: int
    steps: Callable[[Duration], int]

    def progress(self, step: jax.Array) -> jax.Array:
        """0 up to the end of warm-up, then linearly to 1 at the end of the run."""
        return jnp.clip((step - self.warmup) / max(self.total - self.warmup, 1), 0.0, 1.0)


@decays.register()
def constant():
    """No decay."""
    return lambda step, run: 1.0


@decays.register()
def linear(final: Annotated[float, Range(0)] = 0.0):
    """A straight line from 1 at the end of warm-up to `final` at the end of the run."""
    return lambda step, run: 1.0 + (final - 1.0) * run.progress(step)


@decays.register()
def cosine(final: Annotated[float, Range(0)] = 0.0):
    """Half a cosine from 1 at the end of warm-up to `final` (Loshchilov & Hutter 2017, eq. 5, without restarts)."""
    return lambda step, run: final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * run.progress(step)))


@decays.register()
def step(*boundaries: Duration, factor: Annotated[float, Range(0)] = 0.1):
    """Multiplied by `factor` at each boundary, a duration from the start of the run (He et al. 2016, sec. 3.4)."""
    return lambda step, run: factor ** sum(jnp.where(step >= run.steps(b), 1.0, 0.0) for b in boundaries)


@decays.register()
def rsqrt(timescale="10_000 steps"):
    """1 / sqrt(1 + t / timescale), t steps after warm-up (Zhai et al. 2022, sec. 3.5). The time scale is a duration.

    It does not depend on the length of the run, so that one run, cooled down from several of its
    checkpoints, gives results for several lengths.
    """
    return lambda step, run: 1.0 / jnp.sqrt(1.0 + jnp.maximum(step - run.warmup, 0) / run.steps(timescale))


def make(
    schedule: str,
    *,
    learning_rate: float,
    total: int,
    steps: Callable[[Duration], int],
    warmup: Duration = 0,
    cooldown: Duration = 0,
) -> Schedule:
    """The learning rate as a function of the step.

    Step s is the number of updates made before: the first update uses step 0, the last `total - 1`.
    Warm-up is linear from 0, `s / warmup`, and reaches the peak at step `warmup`; with a warm-up, the
    first update therefore changes no parameter. Cooldown is linear, `(total - s) / cooldown`, and would
    reach 0 at step `total`, one after the last update. Decays are described at their functions.

    Args:
      schedule: one call: "constant", "linear(final=0.0)", "cosine(final=0.0)",
        "step('30 epochs', '60 epochs', factor=0.1)" or "rsqrt(timescale='10_000 steps')".
      learning_rate: the peak.
      total: steps of the run.
      steps: turns a duration into steps.
      warmup: duration of the warm-up.
      cooldown: duration of the cooldown, the last part of the run.

    Returns:
      `step -> learning rate`, float32, for ints and traced arrays.

    Raises:
      UserError: an unknown schedule or argument, or a warm-up and cooldown longer than the run.

    >>> rate = make("cosine", learning_rate=0.1, total=100, steps=int, warmup=20)
    >>> [round(float(rate(s)), 4) for s in (0, 10, 20, 60, 100)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """
    built = decays.build(schedule)
    if len(built) != 1:
        raise UserError(f"schedule {schedule!r} must be one call, like 'cosine'; warmup and cooldown are given apart")
    decay, warmup, cooldown = built[0], steps(warmup), steps(cooldown)
    if warmup + cooldown > total:
        raise UserError(f"warmup of {warmup} and cooldown of {cooldown} steps do not fit into {total} steps")
    run = Run(warmup, total, steps)

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        value = learning_rate * decay(step, run)
        if warmup:
            value *= jnp.minimum(step / warmup, 1.0)
        if cooldown:
            value *= jnp.clip((total - step) / cooldown, 0.0, 1.0)
        return jnp.asarray(value, jnp.float32)

    rate(0)  # reads the durations inside the spec: a wrong one is an error here, not at the first step
    return rate
