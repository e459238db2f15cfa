"""The answer of the study in two sentences, and what was expected."""

from jaxvision.analysis import words
from jaxvision.analysis.criteria import Verdict
from jaxvision.analysis.crossing import Crossing
from jaxvision.analysis.statistics import Difference, paired_difference, t_interval
from jaxvision.commands.study import sibling

setting = sibling(__file__, "setting")
criteria = sibling(__file__, "criteria")
tables = sibling(__file__, "tables")

EXPECTED = (
    "Dosovitskiy et al. 2021 (arXiv 2010.11929, sec. 4.3, fig. 4): a ResNet is ahead of a ViT of the same cost when "
    "both are trained on few images, and the ViT catches up and overtakes it as the images become more."
)
CONSTRUCTED = (
    "The label is made for a crossing, as in Dosovitskiy et al. 2021 (arXiv 2010.11929, fig. 4): a ResNet should lead "
    "on few images, and the ViT on many."
)


def answer(top1: tables.Cells, p: setting.Preset, measures: criteria.Measures, crossing: Crossing) -> str:
    """Returns the answer for the first pair of a preset.

    Args:
      top1: Accuracy by arm and number of examples, see `tables.cells`.
      p: Preset of the runs.
      measures: Measures of the first pair.
      crossing: Crossing of the first pair.
    """
    pair = p.pairs[0]
    first, last = pair.sizes[0], pair.sizes[-1]
    resnet, vit = (words.percent(t_interval(top1[arm][first])) for arm in pair[:2])
    scores = (
        f"Trained on {first:,} images ({p.title}), {pair.resnet}, a ResNet, is right on {resnet} % of new images, and "
        f"{pair.vit}, a ViT of {'about the same' if pair.matched else 'another'} cost, on {vit} %"
    )
    leads = f"{_leads(measures.points[first])}, and on {last:,} images {_leads(measures.points[last])}"
    return f"{scores}: {leads}. {_crosses(crossing, pair) if p.crosses else _shrinks(measures, pair)}"


def _leads(gap: Difference) -> str:
    ahead, by = "the ResNet" if gap.interval.mean > 0 else "the ViT", words.gain(gap.interval)
    return Verdict({"gap": gap}).tell(f"the ResNet leads by {by}", f"the ViT leads by {by}", f"{ahead} leads", by)


def _shrinks(measures: criteria.Measures, pair: setting.Pair) -> str:
    first, last = pair.sizes[0], pair.sizes[-1]
    parts = [f"with as many steps for every size, {_change(measures.points, first, last)}"]
    if {first, last} <= set(measures.loss):
        parts.append(f"compared at equal training loss, {_change(measures.loss, first, last)}")
    return words.sentence("; ".join(parts))


def _change(gaps: dict[int, Difference], first: int, last: int) -> str:
    change = paired_difference(gaps[first].each, gaps[last].each)
    by, lead = words.gain(change.interval), "the ResNet's lead"
    evidence = f"a change of {words.percent(change.interval.negated())} points"
    return Verdict({"change": change}).tell(
        f"{lead} shrinks by {by}", f"{lead} grows by {by}", f"{lead} shrinks", evidence
    )


def _crosses(crossing: Crossing, pair: setting.Pair) -> str:
    first, last = pair.sizes[0], pair.sizes[-1]
    ahead, behind = ("ResNet", "ViT") if crossing.lead[first].interval.mean > 0 else ("ViT", "ResNet")
    match crossing.verdict:
        case "crosses":
            place = crossing.observed
            return (
                f"The {behind} overtakes the {ahead} at {place.mean:,.0f} images (95 % interval {place.low:,.0f} to "
                f"{place.high:,.0f})."
            )
        case "none":
            return f"They do not cross: the {ahead} is ahead from {first:,} to {last:,} images."
    return f"Whether they cross from {first:,} to {last:,} images is not settled."
