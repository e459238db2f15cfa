"""The criteria of studies: a difference meets one only if its interval excludes zero; and how a report begins."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np

from jaxvision.analysis import words
from jaxvision.analysis.statistics import Difference, Interval, least_p

Outcome = Literal["met", "open", "opposite", "mixed", "condition", "unknown"]
TOLD: dict[Outcome, str] = {  # how a summary of several criteria names each outcome
    "met": "met",
    "open": "not settled",
    "opposite": "the opposite holds",
    "mixed": "the opposite holds in part",
    "condition": "failed by a further condition",
    "unknown": "not known from one seed",
}


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
      claim: Statement that must hold, in words, without a full stop; empty to leave it out.
      bound: `least` in words, such as "20 points"; empty for "zero", or the number.
      sample: Source of the intervals, such as "13 models"; empty for the number of seeds, if `gains` tell it.

    Raises:
      ValueError: There are no differences.

    >>> from jaxvision.analysis.statistics import paired_difference
    >>> gain = paired_difference([0.52, 0.54, 0.56], [0.5, 0.5, 0.5])
    >>> print(Verdict({"A minus B": gain}, claim="A is better than B").line("better"))
    - `better`: A is better than B. **FAILED**, not settled by 3 seeds (the interval includes zero); A minus B: \
4.0 ± 5.0 points (by seed +2.0, +4.0, +6.0; permutation p 0.25).
    """

    gains: Mapping[str, Difference | Interval]
    least: float = 0.0
    further: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    show: Callable[..., str] | None = None
    claim: str = ""
    bound: str = ""
    sample: str = ""

    def __post_init__(self):
        if not self.gains:
            raise ValueError("a criterion needs a difference with an interval")

    @property
    def met(self) -> bool:
        """True if all intervals are above `least`, and all further conditions hold."""
        above = (_interval(gain).low > self.least for gain in self.gains.values())
        return all(map(bool, [*above, *self.further.values()]))

    @property
    def outcome(self) -> Outcome:
        """Why the criterion is met or not.

        "met"; "opposite" if all intervals are wholly below `least`; "mixed" if one of several is; "unknown" if one has
        no ends, as from a single seed; "open" if an interval includes `least`; "condition" if all are above it, but a
        further condition does not hold.
        """
        if self.met:
            return "met"
        intervals = [_interval(gain) for gain in self.gains.values()]
        below = [i.high < self.least for i in intervals]
        if any(below):
            return "opposite" if all(below) else "mixed"
        if any(np.isnan(i.low) or np.isnan(i.high) for i in intervals):
            return "unknown"
        return "condition" if all(i.low > self.least for i in intervals) else "open"

    @property
    def finding(self) -> str:
        """The evidence in words, without a full stop."""
        found = (f"{name}: {(self.show or _points)(gain)}" for name, gain in self.gains.items())
        return "; ".join([*found, *self.further])

    @property
    def judgement(self) -> str:
        """The verdict in words, and if it is not met, why."""
        several, bound = len(self.gains) > 1, self._bound
        an, are = ("an interval", "the intervals are") if several else ("the interval", "the interval is")
        why = {
            "open": f"not settled{_by(self._sample)} ({an} includes {bound})",
            "opposite": "the opposite holds" if bound in ("zero", "1") else f"{an} is wholly below {bound}",
            "mixed": f"one of the intervals is wholly below {bound}",
            "condition": f"a further condition fails ({are} above {bound})",
            "unknown": "not known: one seed has no interval",
        }
        return "**met**" if self.met else f"**FAILED**, {why[self.outcome]}"

    def tell(self, met: str, opposite: str, whether: str, evidence: str = "") -> str:
        """Chooses the words for a result, for the answer of a report.

        Args:
          met: Words for a result above the bound.
          opposite: Words for one that is wholly below it.
          whether: Words for one that is not settled, to follow "whether".
          evidence: Estimate, which follows in brackets if the result is not settled.

        >>> verdict = Verdict({"a": Interval(0.1, -0.1, 0.3, 5)}, sample="5 sets")
        >>> verdict.tell("A leads by 0.1", "B leads by 0.1", "A leads", "0.1 ± 0.2")
        'whether A leads is not settled by 5 sets (0.1 ± 0.2)'
        """
        told = f" ({evidence})" if evidence else ""
        match self.outcome:
            case "opposite":
                return opposite
            case "mixed":
                return f"it is not true throughout that {whether}{told}"
            case "open":
                return f"whether {whether} is not settled{_by(self._sample)}{told}"
            case "unknown":
                return f"whether {whether} is not known from one seed{told}"
        return met

    def line(self, name: str) -> str:
        """Formats the line of the criterion: its name, what must hold, the verdict, the evidence.

        Args:
          name: Name of the criterion.
        """
        claim = f"{self.claim}. " if self.claim else ""
        return f"- {words.code(name)}: {claim}{self.judgement}; {self.finding}."

    @property
    def _bound(self) -> str:
        return self.bound or (f"{self.least:g}" if self.least else "zero")

    @property
    def _sample(self) -> str:
        sizes = {len(gain.each) for gain in self.gains.values() if isinstance(gain, Difference)}
        return self.sample or (f"{min(sizes)} seeds" if sizes else "")


def opening(answer: str, expected: str, summary: str = "") -> list[str]:
    """Returns the first paragraphs of a report: the answer, what was expected, and the criteria in sum.

    Args:
      answer: Answer in two sentences, with its numbers.
      expected: Sentence on what was expected, and from which paper.
      summary: Summary of the criteria, see `tally`; empty if nothing was judged.
    """
    parts = {"Answer": answer, "Expected": expected, "Criteria": summary}
    return [f"**{name}.** {text}\n" for name, text in parts.items() if text]


def tally(verdicts: Mapping[str, Verdict]) -> str:
    """Sums up several verdicts: how many are met, and the names of the others by outcome.

    Args:
      verdicts: Verdicts by name, at least one.

    >>> tally({"a": Verdict({"x": Interval(2, 1, 3, 5)}), "b": Verdict({"x": Interval(2, -1, 5, 5)})})
    '1 of 2 is met; not settled: `b`.'
    """
    met = sum(verdict.met for verdict in verdicts.values())
    count = f"{met} of {len(verdicts)}" if met else f"None of {len(verdicts)}"
    parts = [f"{count} {'is' if met <= 1 else 'are'} met"]
    for outcome, told in TOLD.items():
        names = [words.code(name) for name, verdict in verdicts.items() if verdict.outcome == outcome]
        parts += [f"{told}: {', '.join(names)}"] if names and outcome != "met" else []
    return f"{'; '.join(parts)}."


def section(verdicts: Mapping[str, Verdict]) -> list[str]:
    """Returns the lines of a report on its criteria: one for each, then `notes` on all of them.

    Args:
      verdicts: Verdicts by name.
    """
    return [*(verdict.line(name) for name, verdict in verdicts.items()), *(f"\n{note}" for note in notes(verdicts))]


def notes(verdicts: Mapping[str, Verdict]) -> list[str]:
    """Says once what the number of seeds allows, if the evidence has values of p.

    Args:
      verdicts: Verdicts by name.
    """
    reported = [verdict for verdict in verdicts.values() if words.PERMUTATION in verdict.finding]
    note = least_p_note(gain for verdict in reported for gain in verdict.gains.values())
    return [note] if note else []


def least_p_note(gains: Iterable[Difference | Interval]) -> str:
    """Says what the least p of the permutation test is with so few seeds; empty if no difference has several.

    Args:
      gains: Differences whose p is reported.

    >>> from jaxvision.analysis.statistics import paired_difference
    >>> least_p_note([paired_difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])])
    'With 3 seeds, the two-sided permutation test cannot give a p below 0.25, however large the difference.'
    """
    sizes = sorted({len(gain.each) for gain in gains if isinstance(gain, Difference) and len(gain.each) > 1})
    if not sizes:
        return ""
    seeds = " or ".join(map(str, sizes))
    least = " or ".join(f"{least_p(n):.2{'f' if n < 8 else 'g'}}" for n in sizes)
    return (
        f"With {seeds} seeds, the two-sided permutation test cannot give a p below {least}, however large the "
        "difference."
    )


def _interval(gain: Difference | Interval) -> Interval:
    return gain.interval if isinstance(gain, Difference) else gain


def _by(sample: str) -> str:
    return f" by {sample}" if sample else ""


def _points(gain: Difference | Interval) -> str:
    return words.points(gain) if isinstance(gain, Difference) else f"{words.percent(gain)} points"
