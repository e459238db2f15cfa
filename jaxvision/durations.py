"""Converts durations as people write them, `'90 epochs'` or `'5 percent'`, to training steps."""

import math
from typing import Any

from jaxvision.errors import UserError, shown, unknown

MOST = 1e15  # most steps: a float64 cannot count much further in ones
UNITS = ("steps", "epochs", "examples", "percent")
KEYS = {  # section of a config -> its keys that are durations
    "train": ("total", "log_every", "checkpoint_every"),
    "optimizer": ("warmup", "cooldown"),
    "evals": ("every",),
}


def steps(duration: str | float, *, batch_size: int, examples: int | None = None, total: int | None = None) -> int:
    """Returns the number of training steps in a duration.

    The result is rounded to the nearest step. A duration above zero is at least one step, so that
    an epoch of a tiny set, or a short warm-up, does not vanish. Zero is allowed, and needs no unit.

    Args:
      duration: `'90 epochs'`, `'10_000 steps'`, `'1e6 examples'`, `'5 percent'` of `total`, in the
        singular or the plural; or 0, which is the same in every unit.
      batch_size: Examples in one step, over all devices and processes.
      examples: Examples in one epoch; needed for epochs.
      total: Steps of the whole run; needed for percent.

    Raises:
      UserError: If the duration is not a number with a unit, the number is negative or not finite, the unit is unknown,
        or the unit needs `examples` or `total` and that is None.

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
    if unit == "epochs" and examples is not None:
        amount = amount * examples / batch_size
    elif unit == "examples":
        amount = amount / batch_size
    elif unit == "percent" and total is not None:
        amount = amount * total / 100
    if not amount < MOST:
        raise UserError(f"duration {shown(duration)} is more than {MOST:.0e} steps")
    return max(round(amount), 1) if amount else 0


def check(duration: str | float, key: str) -> None:
    """Checks that a duration of a config can be read.

    Args:
      duration: Value of the key.
      key: Dotted key, for the message.

    Raises:
      UserError: If the value is not a duration.

    >>> check("5", "train.total")
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: train.total: the duration '5' has no unit: write '5 steps', '5 epochs', ...
    """
    try:
        _read(duration)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None


def is_duration(key: str) -> bool:
    """Checks whether the value of a dotted key of a config is a duration.

    Args:
      key: Dotted key.

    >>> is_duration("train.log_every"), is_duration("evals.val.every"), is_duration("task.every")
    (True, True, False)
    """
    *parents, leaf = key.split(".")
    return leaf in KEYS.get(parents[0] if parents else "", ())


def is_bare(value: Any) -> bool:
    """Checks whether a value is a nonzero number without a unit, as a number or a text.

    Args:
      value: Value of any type.

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
            f"cannot read the duration {shown(duration)}: write a number and a unit, like '90 epochs'"
        ) from None
    if not 0 <= amount < math.inf:
        raise UserError(f"duration {shown(duration)} must be finite and not negative")
    names = {name.removesuffix("s"): name for name in UNITS}
    unit = unit.strip() or "steps"  # only zero has no unit here
    if unit.removesuffix("s") not in names:
        raise unknown("unit of duration", unit, UNITS)
    return amount, names[unit.removesuffix("s")]


def _listed(number: str) -> str:
    words = [f"'{number} {unit}'" for unit in UNITS]
    return f"{', '.join(words[:-1])} or {words[-1]}"
