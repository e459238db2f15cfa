"""The measures of a pair of arms and its criteria, which study.py lists."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.analysis import words
from jaxvision.analysis.criteria import Verdict
from jaxvision.analysis.efficiency import DataRatio, at_equal_loss, data_ratio, log_odds
from jaxvision.analysis.statistics import Difference, Interval, paired_difference, t_interval
from jaxvision.commands.study import sibling

setting = sibling(__file__, "setting")
tables = sibling(__file__, "tables")

Records = Mapping[tuple[str, int, int], Sequence[Mapping[str, float]]]  # of each (arm, examples, seed) under `fixed`


class Measures(NamedTuple):
    """Gaps between the arms of a pair, ResNet minus ViT, by number of examples; and how much data each needs.

    Attributes:
      points: Gap of the accuracies.
      odds: Gap of the log odds.
      loss: Gap of the accuracies at equal training loss; empty if the runs have no records.
      levels: Least and largest training loss, over seeds, at which they are equal, in nats.
      data: How many times the ResNet's examples the ViT needs.
    """

    points: dict[int, Difference]
    odds: dict[int, Difference]
    loss: dict[int, Difference]
    levels: dict[int, tuple[float, float]]
    data: DataRatio


def measure(top1: tables.Cells, pair: setting.Pair, records: Records, seeds: Sequence[int]) -> Measures:
    """Computes the measures of a pair.

    Args:
      top1: Accuracy by arm and number of examples, see `tables.cells`.
      pair: Pair of arms.
      records: Records of the runs.
      seeds: Seeds of the runs, in the order of `top1`.
    """
    errors = {arm: {n: tables.errors(top1[arm])[n] for n in pair.sizes} for arm in pair[:2]}
    odds = {arm: {n: log_odds(values) for n, values in errors[arm].items()} for arm in errors}
    equal = {}
    for n in pair.sizes:
        runs = [[records.get((arm, n, seed), ()) for arm in pair[:2]] for seed in seeds]
        compared = [at_equal_loss(*both) for both in runs]
        if all(compared):
            equal[n] = np.array(compared)  # seeds, (loss, ResNet, ViT)
    return Measures(
        points={n: tables.gap(top1, pair, n) for n in pair.sizes},
        odds={n: paired_difference(odds[pair.resnet][n], odds[pair.vit][n]) for n in pair.sizes},
        loss={n: paired_difference(values[:, 1], values[:, 2]) for n, values in equal.items()},
        levels={n: (float(values[:, 0].min()), float(values[:, 0].max())) for n, values in equal.items()},
        data=data_ratio(errors[pair.resnet], errors[pair.vit]),
    )


def judge(top1: tables.Cells, pair: setting.Pair, m: Measures) -> dict[str, Verdict]:
    """Judges the criteria of a pair, by name.

    Args:
      top1: Accuracy by arm and number of examples, see `tables.cells`.
      pair: Pair of arms.
      m: Measures of the pair.
    """
    first, last = pair.sizes[0], pair.sizes[-1]
    lead, seeds = f"the lead of {pair.resnet} over {pair.vit}", f"{len(m.points[first].each)} seeds"
    verdicts = {}
    for arm in pair[:2]:
        sizes = sorted(top1[arm])  # also those of other pairs: an arm has one verdict
        gain = paired_difference(top1[arm][sizes[-1]], top1[arm][sizes[0]])
        means = [t_interval(top1[arm][n]).mean for n in sizes]
        rising = means == sorted(means)
        further = {"the means rise from size to size" if rising else "the means fall somewhere between": rising}
        verdicts[f"rises ({arm})"] = Verdict(
            {f"{sizes[0]:,} to {sizes[-1]:,} examples": gain},
            further=further,
            claim=f"the accuracy of {arm} rises with the data, and its mean never falls from one size to the next",
        )
    verdicts["positive"] = Verdict(
        {f"gap at {first:,} examples": m.points[first]}, claim=f"{pair.resnet} leads at {first:,} examples"
    )
    claim = f"{lead} is smaller at {last:,} examples than at {first:,}"
    verdicts["shrinks"] = _shrinks(m.points, first, last, words.points, claim)
    verdicts["shrinks, odds"] = _shrinks(m.odds, first, last, plain, f"in log odds, {claim}")
    verdicts["needs more data"] = Verdict(
        {f"for the accuracy of {pair.vit} at {last:,} examples it needs": m.data.end},
        least=1.0,
        show=m.data.words,
        claim=f"{pair.vit} needs more examples than {pair.resnet} for the same accuracy (a ratio above 1)",
        sample=seeds,
    )
    falls = m.data.change.negated()
    verdicts["ratio falls"] = Verdict(
        {f"the data ratio at the start over that at {last:,} examples": falls},
        show=_factor,
        claim=f"this ratio is smaller at {last:,} examples than at {first:,}",
        bound="1",
        sample=seeds,
    )
    if {first, last} <= set(m.loss):
        where = f"gap at {first:,} examples and a training loss of {nats(m.levels[first])}"
        verdicts["positive, loss"] = Verdict(
            {where: m.loss[first]},
            claim=f"{pair.resnet} leads at {first:,} examples when both have the same training loss",
        )
        claim = f"{lead} at equal training loss is smaller at {last:,} examples than at {first:,}"
        verdicts["shrinks, loss"] = _shrinks(m.loss, first, last, words.points, claim)
    return verdicts


def _shrinks(gaps: Mapping[int, Difference], first: int, last: int, show: Callable[..., str], claim: str) -> Verdict:
    """The gap at the smallest size must exceed that at the largest."""
    change = paired_difference(gaps[first].each, gaps[last].each)
    return Verdict({f"gap at {first:,} examples minus gap at {last:,}": change}, show=show, claim=claim)


def _factor(log: Interval) -> str:
    if log.low == log.high == 0:
        return "unknown, both are beyond the sizes"
    return f"{10**log.mean:.2g} (95 % interval {10**log.low:.2g} to {10**log.high:.2g})"


def nats(levels: tuple[float, float]) -> str:
    """Formats a range of losses.

    Args:
      levels: Least and largest loss, in nats.
    """
    low, high = (f"{level:.2f}" for level in levels)
    return f"{low} nats" if low == high else f"{low} to {high} nats"


def plain(difference: Difference) -> str:
    """Formats a difference without unit.

    Args:
      difference: Difference of two arms.
    """
    interval = difference.interval
    return f"{interval.mean:.2f}" + ("" if np.isnan(interval.half) else f" ± {interval.half:.2f}")
