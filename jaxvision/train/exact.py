"""Sums without rounding, so that a run can store them and resume them."""

import math

import numpy as np

# Every float64 is an integer of 53 bits times a power of 2, the least of which is
# 2**-1126: the smallest float64, 2**-1074, is 2**52 * 2**-1126.
_LEAST = 1126
_HALF = 27  # number of bits in the lower half of those 53; an int64 can hold the sum of billions of such halves


class ExactSum:
    """The exact sum of floats, and their number.

    The mean equals `math.fsum(values) / len(values)` to the last bit, however the values were split into calls of
    `add`: both round the true sum once, to the nearest float.

    >>> whole, split = ExactSum(), ExactSum()
    >>> whole.add([1e100, 1.0, -1e100, 0.1])
    >>> split.add([1e100, 1.0])
    >>> split = ExactSum.read(split.written())
    >>> split.add([-1e100, 0.1])
    >>> whole.mean() == split.mean() == math.fsum([1e100, 1.0, -1e100, 0.1]) / 4
    True
    """

    def __init__(self) -> None:
        self.count = 0
        self._units = 0  # the sum, in units of 2**-1126
        self._odd = 0.0  # sum of the values that are not finite

    def add(self, values: np.ndarray | list[float]) -> None:
        """Adds values.

        Args:
          values: Numbers, [n], of any float or integer type.
        """
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
        """Returns the mean of the values, which is not finite if one of them is not, and NaN if there are none."""
        if self.count == 0:
            return math.nan
        if self._odd != 0.0:  # nan, too
            return self._odd
        try:
            return self._units / (1 << _LEAST) / self.count
        except OverflowError:
            return math.copysign(math.inf, self._units)

    def written(self) -> dict[str, int | str]:
        """Returns the sum as JSON. The text of the sum has 20 to 80 characters, whatever the number of values."""
        zeros = (self._units & -self._units).bit_length() - 1 if self._units else 0
        text = f"{self._units >> zeros:#x}p{zeros - _LEAST}"
        written: dict[str, int | str] = {"count": self.count, "sum": text}
        return written | ({"odd": repr(self._odd)} if self._odd != 0.0 else {})

    @classmethod
    def read(cls, written: dict[str, int | str]) -> "ExactSum":
        """Restores a sum.

        Args:
          written: JSON that `written` returned.
        """
        exact = cls()
        number, _, exponent = str(written["sum"]).partition("p")
        exact.count, exact._units = int(written["count"]), int(number, 16) << (int(exponent) + _LEAST)
        exact._odd = float(written.get("odd", 0.0))
        return exact
