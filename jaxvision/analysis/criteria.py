"""The criteria of studies: a difference meets one only if its interval excludes zero."""

import dataclasses
from collections.abc import Callable, Mapping

from jaxvision.analysis import words
from jaxvision.analysis.statistics import Difference, Interval


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a criterion is met, and the evidence.

    The verdict follows from intervals. A mean alone cannot meet a criterion: noise would do so half of the time.

    Args:
      gains: Differences, or other estimates with an interval, by their descriptions; at least one. The lower end of
        every interval must be above `least`. An unknown end, as from a single seed, meets no criterion.
      least: Value that the intervals must exceed.
      further: Conditions that must hold as well, by their descriptions.
      show: Function that formats one of `gains`; None for differences in percentage points.

    Raises:
      ValueError: There are no differences.

    >>> from jaxvision.analysis.statistics import paired_difference
    >>> Verdict({"ResNet minus ViT": paired_difference([0.52, 0.54, 0.56], [0.5, 0.5, 0.5])}).line("positive")
    '- positive: FAILED; ResNet minus ViT: 4.0 ± 5.0 points (by seed +2.0, +4.0, +6.0; permutation p 0.25).'
    """

    gains: Mapping[str, Difference | Interval]
    least: float = 0.0
    further: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    show: Callable[..., str] | None = None

    def __post_init__(self):
        if not self.gains:
            raise ValueError("a criterion needs a difference with an interval")

    @property
    def met(self) -> bool:
        """True if all intervals are above `least`, and all further conditions hold."""
        above = (_interval(gain).low > self.least for gain in self.gains.values())
        return all(map(bool, [*above, *self.further.values()]))

    @property
    def finding(self) -> str:
        """The evidence in words, without a full stop."""
        found = (f"{name}: {(self.show or _points)(gain)}" for name, gain in self.gains.items())
        return "; ".join([*found, *self.further])

    def line(self, name: str) -> str:
        """Formats the line of the criterion.

        Args:
          name: Name of the criterion.
        """
        return words.verdict(name, self.met, self.finding)


def _interval(gain: Difference | Interval) -> Interval:
    return gain.interval if isinstance(gain, Difference) else gain


def _points(gain: Difference | Interval) -> str:
    return words.points(gain) if isinstance(gain, Difference) else f"{words.percent(gain)} points"
