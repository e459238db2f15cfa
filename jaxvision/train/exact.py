"""Sums that are not rounded, so that they can be put aside and gone on with."""

import math

import numpy as np

_LEAST = 1126  # every float64 is a whole multiple of 2**-1126 with 53 bits: the smallest, 2**-1074, is 2**52 of them
_HALF = 27  # bits of the lower part of those 53, so that billions of the parts can be added in an int64


class ExactSum:
    """The sum of float values, and how many they are.

    The mean is that of `math.fsum(values) / len(values)` to the last bit, in whatever portions the values came: both
    round the one true sum once, to the nearest float.

    >>> whole, parts = ExactSum(), ExactSum()
    >>> whole.add([1e100, 1.0, -1e100, 0.1])
    >>> parts.add([1e100, 1.0])
    >>> parts = ExactSum.read(parts.written())
    >>> parts.add([-1e100, 0.1])
    >>> whole.mean() == parts.mean() == math.fsum([1e100, 1.0, -1e100, 0.1]) / 4
    True
    """

    def __init__(self) -> None:
        self.count = 0
        self._units = 0  # of 2**-1126
        self._odd = 0.0  # sum of what is not finite

    def add(self, values: np.ndarray | list[float]) -> None:
        """Adds values of any float or integer type, [n]."""
        values = np.asarray(values, np.float64)
        self.count += len(values)
        finite = np.isfinite(values)
        if not finite.all():
            with np.errstate(invalid="ignore"):  # inf and -inf make nan
                self._odd += float(values[~finite].sum())
            values = values[finite]
        fractions, exponents = np.frexp(values)
        wholes = np.ldexp(fractions, 53).astype(np.int64)
        upper, lower = wholes >> _HALF, wholes & ((1 << _HALF) - 1)
        for exponent in np.unique(exponents):
            chosen = exponents == exponent
            total = (int(upper[chosen].sum()) << _HALF) + int(lower[chosen].sum())
            self._units += total << (int(exponent) - 53 + _LEAST)

    def mean(self) -> float:
        """Mean of the values; not finite where one of them is not, or where there is none."""
        if self.count == 0:
            return math.nan
        if self._odd != 0.0:  # nan, too
            return self._odd
        try:
            return self._units / (1 << _LEAST) / self.count
        except OverflowError:
            return math.copysign(math.inf, self._units)

    def written(self) -> dict[str, int | str]:
        """The sum as JSON: a text of some 20 to 80 characters, whatever the number of values."""
        zeros = (self._units & -self._units).bit_length() - 1 if self._units else 0
        text = f"{self._units >> zeros:#x}p{zeros - _LEAST}"
        return {"count": self.count, "sum": text} | ({"odd": repr(self._odd)} if self._odd != 0.0 else {})

    @classmethod
    def read(cls, written: dict[str, int | str]) -> "ExactSum":
        """What `written` gave."""
        made = cls()
        number, _, exponent = str(written["sum"]).partition("p")
        made.count, made._units = int(written["count"]), int(number, 16) << (int(exponent) + _LEAST)
        made._odd = float(written.get("odd", 0.0))
        return made
