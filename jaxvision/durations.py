"""Durations as people write them, `'90 epochs'` or `'5 percent'`, turned into training steps."""

import math
import operator

from jaxvision.errors import UserError, unknown

UNITS = ("steps", "epochs", "examples", "percent")


def steps(duration: str | int, *, batch_size: int, examples: int | None = None, total: int | None = None) -> int:
    """The number of training steps in a duration.

    The result is rounded to the nearest step. A duration above zero is at least one step, so that
    an epoch of a tiny set, or a short warm-up, does not vanish. Zero is allowed.

    Args:
      duration: `'90 epochs'`, `'10_000 steps'`, `'1e6 examples'`, `'5 percent'` of `total`, in the
        singular or the plural; a bare number, as int or string, is steps.
      batch_size: examples of one step, over all devices and processes.
      examples: examples of one epoch; needed for epochs.
      total: steps of the whole run; needed for percent.

    Raises:
      UserError: not a number and a unit, a number that is negative or not finite, an unknown unit,
        or a unit that needs what is not known here.

    >>> steps("90 epochs", batch_size=1024, examples=1_281_167)
    112603
    >>> steps("5 percent", batch_size=1024, total=10_000)
    500
    >>> steps("1e6 examples", batch_size=250), steps(7, batch_size=250)
    (4000, 7)
    """
    amount, unit = _read(duration)
    if unit == "epochs" and examples is None:
        raise UserError(f"duration {duration!r}: the size of an epoch is not known; give it in steps or examples")
    if unit == "percent" and total is None:
        raise UserError(f"duration {duration!r}: percent of what? This one must be given in steps, epochs or examples")
    if unit == "epochs":
        amount = amount * examples / batch_size
    elif unit == "examples":
        amount = amount / batch_size
    elif unit == "percent":
        amount = amount * total / 100
    return max(round(amount), 1) if amount else 0


def _read(duration: str | int) -> tuple[float, str]:
    if isinstance(duration, str):
        number, _, unit = duration.strip().partition(" ")
    else:
        number, unit = duration, "steps"
    try:
        amount = float(number) if isinstance(duration, str) else operator.index(number)
    except (TypeError, ValueError):
        raise UserError(f"cannot read the duration {duration!r}: want a number and a unit, like '90 epochs'") from None
    if not 0 <= amount < math.inf:
        raise UserError(f"duration {duration!r} must be finite and not negative")
    names = {name.removesuffix("s"): name for name in UNITS}
    unit = unit.strip() or "steps"
    if unit.removesuffix("s") not in names:
        raise unknown("unit of duration", unit, UNITS)
    return amount, names[unit.removesuffix("s")]
