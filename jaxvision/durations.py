"""Durations as people write them, `'90 epochs'` or `'5 percent'`, turned into training steps."""

import math
from typing import Any

from jaxvision.errors import UserError, shown, unknown

MOST = 1e15  # steps; a float counts no further by ones
UNITS = ("steps", "epochs", "examples", "percent")
KEYS = {  # of a config, by section
    "train": ("total", "log_every", "checkpoint_every"),
    "optimizer": ("warmup", "cooldown"),
    "evals": ("every",),
}


def steps(duration: str | float, *, batch_size: int, examples: int | None = None, total: int | None = None) -> int:
    """The number of training steps in a duration.

    The result is rounded to the nearest step. A duration above zero is at least one step, so that
    an epoch of a tiny set, or a short warm-up, does not vanish. Zero is allowed, and needs no unit.

    Args:
      duration: `'90 epochs'`, `'10_000 steps'`, `'1e6 examples'`, `'5 percent'` of `total`, in the
        singular or the plural; or 0, which is the same in every unit.
      batch_size: examples of one step, over all devices and processes.
      examples: examples of one epoch; needed for epochs.
      total: steps of the whole run; needed for percent.

    Raises:
      UserError: not a number and a unit, a number without one, one that is negative or not finite, an unknown unit, or
        a unit that needs what is not known here.

    >>> steps("90 epochs", batch_size=1024, examples=1_281_167)
    112603
    >>> steps("5 percent", batch_size=1024, total=10_000)
    500
    >>> steps("1e6 examples", batch_size=250), steps(0, batch_size=250)
    (4000, 0)
    """
    amount, unit = _read(duration)
    if unit == "epochs" and examples is None:
        raise UserError(f"duration {shown(duration)}: the size of an epoch is not known; give it in steps or examples")
    if unit == "percent" and total is None:
        raise UserError(
            f"duration {shown(duration)}: percent of what? This one must be given in steps, epochs or examples"
        )
    if unit == "epochs":
        amount = amount * examples / batch_size
    elif unit == "examples":
        amount = amount / batch_size
    elif unit == "percent":
        amount = amount * total / 100
    if not amount < MOST:
        raise UserError(f"duration {shown(duration)} is more than {MOST:.0e} steps")
    return max(round(amount), 1) if amount else 0


def check(duration: str | float, key: str) -> None:
    """Raises UserError, with the key of the config, where `duration` cannot be read."""
    try:
        _read(duration)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def is_duration(key: str) -> bool:
    """Whether the value of a dotted key of a config is a duration.

    >>> is_duration("train.log_every"), is_duration("evals.val.every"), is_duration("task.every")
    (True, True, False)
    """
    *parents, leaf = key.split(".")
    return leaf in KEYS.get(parents[0] if parents else "", ())


def is_bare(value: Any) -> bool:
    """Whether a value is a number above zero without a unit, as a number or a text.

    >>> is_bare(5), is_bare("5"), is_bare("5 steps"), is_bare(0)
    (True, True, False, False)
    """
    try:
        return not isinstance(value, bool) and float(value) != 0
    except (TypeError, ValueError, OverflowError):
        return False


def _read(duration: str | float) -> tuple[float, str]:
    if is_bare(duration) and 0 < float(duration) < math.inf:
        number = shown(str(duration).strip())[1:-1]
        raise UserError(f"the duration {shown(duration)} has no unit: write {_listed(number)}")
    try:
        number, _, unit = str(duration).strip().partition(" ")
        amount = float(number)
    except ValueError:
        raise UserError(
            f"cannot read the duration {shown(duration)}: want a number and a unit, like '90 epochs'"
        ) from None
    if not 0 <= amount < math.inf:
        raise UserError(f"duration {shown(duration)} must be finite and not negative")
    names = {name.removesuffix("s"): name for name in UNITS}
    unit = unit.strip() or "steps"  # of zero
    if unit.removesuffix("s") not in names:
        raise unknown("unit of duration", unit, UNITS)
    return amount, names[unit.removesuffix("s")]


def _listed(number: str) -> str:
    words = [f"'{number} {unit}'" for unit in UNITS]
    return f"{', '.join(words[:-1])} or {words[-1]}"
