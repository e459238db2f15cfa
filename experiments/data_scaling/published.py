"""The preset `paper`: error against compute in the numbers that Dosovitskiy et al. 2021 published.

Nothing is trained. published.csv holds tables 5 and 6 of arXiv 2010.11929v2, top-1 in percent after fine-tuning. Each
number is of one model, trained once, so nothing here tells how much it would change with another seed.

    compute   Table 6: 7 ResNets, 6 ViTs and 5 hybrids, pre-trained on JFT-300M. A power law a C^-c of the error over
              the compute C is fitted to each family. The ratio of two families is the compute of the one over that of
              the other where their curves have the same error, as the geometric mean over the errors that models of
              both reach. Its interval comes from a bootstrap over models (`jaxvision.analysis.equal_error`), which
              draws how far each is from the curve of its family: it tells how much the ratio owes to these models.
    average   The paper averages five data sets and does not name them in sec. 4.4. Its table 7 averages ImageNet,
              CIFAR-10, CIFAR-100, Pets and Flowers; so does this study. ImageNet ReaL is reported too.
    data      Table 5: for each data set the log of the error of ViT-B over that of ViT-L, mean over patches of 32 and
              16. Intervals are t-intervals over the five data sets: they tell whether the sets agree.

Criteria, fixed before any ratio was computed, though the numbers were known; intervals are 95 %:
    less          sec. 4.4: on the average, the ratio of ResNets to ViTs has an interval above 1
    two_to_four   sec. 4.4: this interval is within 2 to 4; whether it overlaps 2 to 4 is reported
    hybrid_less   sec. 4.4: at the largest error that both reach, the ratio of ViTs to hybrids has an interval above 1
    hybrid_fades  sec. 4.4: this ratio over the ratio at the smallest error that both reach has an interval above 1
    small_data    sec. 4.3: pre-trained on ImageNet, the log of the error of ViT-B over ViT-L has an interval below 0
    large_data    sec. 4.3: pre-trained on JFT-300M, it has an interval above 0
    overtakes     sec. 4.3: from ImageNet to JFT-300M it rises, with an interval above 0
"""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, words
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.equal_error import Family, Ratio, compute_ratio, fit_family, shared_errors
from jaxvision.analysis.statistics import Interval, paired_difference, t_interval
from jaxvision.commands.study import Row, sibling

figures = sibling(__file__, "published_figures")

TABLE = Path(__file__).with_name("published.csv")
SETS = {  # column of published.csv -> name
    "imagenet": "ImageNet",
    "imagenet_real": "ImageNet ReaL",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "pets": "Pets",
    "flowers": "Flowers",
}
FIVE = ("imagenet", "cifar10", "cifar100", "pets", "flowers")  # those that table 7 of the paper averages
FAMILIES = ("ResNet", "ViT", "hybrid")
PRETRAINED = ("ImageNet", "ImageNet-21k", "JFT-300M")
PATCHES = ("32", "16")
CLAIM = (2.0, 4.0)
CLAIMS = {  # criterion -> what the paper says
    "less": "ViTs need less compute than ResNets for the same error, a ratio above 1 (sec. 4.4)",
    "two_to_four": "they need 2 to 4 times less: the interval of this ratio is within 2 to 4 (sec. 4.4)",
    "hybrid_less": "hybrids need less compute than ViTs at small budgets, a ratio above 1 (sec. 4.4)",
    "hybrid_fades": "this advantage vanishes for larger models, so the ratio falls (sec. 4.4)",
    "small_data": "pre-trained on ImageNet, ViT-L has a larger error than ViT-B (sec. 4.3)",
    "large_data": "pre-trained on JFT-300M, ViT-L has a smaller error than ViT-B (sec. 4.3)",
    "overtakes": "from ImageNet to JFT-300M, ViT-L gains on ViT-B (fig. 3)",
}
EXPECTED = (
    "Dosovitskiy et al. 2021 (arXiv 2010.11929, sec. 4.4) say that ViTs need 2 to 4 times less compute than ResNets, "
    "and that hybrids are better at small budgets only."
)


class Result(NamedTuple):
    """Curves and ratios on one data set, or on the average of several; None for families that share no error."""

    curves: dict[str, Family]
    vit: Ratio | None  # compute of ResNets over that of ViTs
    hybrid: Ratio | None  # compute of ViTs over that of hybrids


def rows() -> list[Row]:
    """Reads published.csv as rows of results: one for each model, accuracies as shares in [0, 1]."""
    with TABLE.open(newline="") as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: dict[str, str]) -> Row:
    number = line["source"].rpartition(" ")[2]
    given = [line["model"], line["pretrained_on"], *([f"{line['epochs']} epochs"] if line["epochs"] else [])]
    named: Row = {"run": f"table {number}: {', '.join(given)}", "table": int(number)}
    named |= {key: line[key] for key in ("source", "family", "model", "pretrained_on")}
    named |= {key: int(line[key]) if line[key] else None for key in ("epochs", "exaflops")}
    return named | {f"{key}/top1": round(float(line[key]) / 100, 6) for key in SETS}


def write(rows: Sequence[Row], out: Path, *, resamples: int = 4000) -> str:
    """Writes report.md, report.html, summary.json and figures/ to `out`; returns the report.

    Args:
      rows: Rows of the published numbers, see the function `rows`.
      out: Folder of the study.
      resamples: Number of refits of each curve.
    """
    models = [row for row in rows if row["table"] == 6]
    average = compare(models, FIVE, resamples=resamples)
    single = {name: compare(models, (key,), resamples=resamples) for key, name in SETS.items()}
    results = {"average": average} | single
    larger = larger_models(rows)
    verdicts = judge(average, larger)
    lines = [
        "# The published numbers: error against compute\n",
        *opening(_answer(average), EXPECTED, tally(verdicts)),
        "A re-analysis of tables 5 and 6 of Dosovitskiy et al. 2021, arXiv 2010.11929v2. Nothing was trained for it. "
        "Each number is of one model, trained once: the intervals tell how much a result owes to the models at hand, "
        "not how much it would change with another seed. All intervals are 95 %.\n",
        *figures.draw(models, results, larger, SETS, out, _ratio),
        "## Criteria\n",
        *section(verdicts),
        "\n## Compute for the same error\n",
        "A power law of the error over the compute is fitted to each family. A ratio is the compute of one family over "
        "that of another where their curves have the same error: the geometric mean over the errors that models of "
        "both reach, and the ratio at the largest and the smallest of these errors. The average is over "
        f"{', '.join(SETS[key] for key in FIVE)}.",
        *_ratios("ResNets / ViTs", results, lambda one: one.vit, ("ResNet", "ViT")),
        *_ratios("ViTs / hybrids", results, lambda one: one.hybrid, ("ViT", "hybrid")),
        "Exponents c of the power laws a C^-c, and in brackets the standard deviation of the models around the curve, "
        "as a share of the error:",
        *words.table(
            "data set",
            FAMILIES,
            {name: [_exponent(one.curves[f]) for f in FAMILIES] for name, one in results.items()},
        ),
        "## Does the ratio depend on the analysis?\n",
        "ResNets over ViTs, on the average:",
        *words.table("changed", ["ratio"], _sensitivity(models, resamples)),
        "## Larger models and more data\n",
        "Error of ViT-B over that of ViT-L after fine-tuning, geometric mean over patches of 32 and 16; above 1 the "
        "larger model is better. The last line is the mean over the five data sets. In table 5, ViT-L/16 saw JFT-300M "
        "for 14 epochs, the others for 7.",
        *words.table("data set", [f"pre-trained on {name}" for name in PRETRAINED], _data_table(larger)),
    ]
    report = "\n".join(lines)
    summary = {
        "criteria": {name: verdict.met for name, verdict in verdicts.items()},
        "ratios": {
            name: {"ResNets / ViTs": _plain(one.vit), "ViTs / hybrids": _plain(one.hybrid)}
            for name, one in results.items()
        },
        "exponents": {
            name: {family: curve.exponent() for family, curve in one.curves.items()} for name, one in results.items()
        },
        "larger_models": larger,
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", "The published numbers: error against compute")
    return report


def compare(
    models: Sequence[Row], sets: Sequence[str], form: str = "power", families: Sequence[str] = FAMILIES, **options: Any
) -> Result:
    """Fits the families to the mean error over data sets, and compares them.

    Args:
      models: Rows of the published numbers, of which those of table 6 are used.
      sets: Keys of SETS.
      form: Key of `scaling_laws.FORMS`.
      families: Families to fit, of FAMILIES.
      **options: Further arguments of `fit_family`.
    """
    curves = {}
    for family in families:
        members = [row for row in models if row["table"] == 6 and row["family"] == family]
        errors = [1 - float(np.mean([row[f"{key}/top1"] for key in sets])) for row in members]
        curves[family] = fit_family([row["exaflops"] for row in members], errors, form, **options)
    return Result(curves, _shared(curves, "ResNet", "ViT"), _shared(curves, "ViT", "hybrid"))


def _shared(curves: dict[str, Family], first: str, second: str) -> Ratio | None:
    if not {first, second} <= set(curves):
        return None
    largest, smallest = shared_errors(curves[first], curves[second])
    return compute_ratio(curves[first], curves[second]) if largest > smallest else None


def larger_models(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Returns data set -> pre-training set -> log of the error of ViT-B over that of ViT-L, mean over patches.

    Args:
      rows: Rows of the published numbers, of which those of table 5 are used.
    """
    error = {
        (row["model"], row["pretrained_on"], key): 1 - row[f"{key}/top1"]
        for row in rows
        if row["table"] == 5
        for key in SETS
    }
    return {
        key: {
            on: float(np.mean([np.log(error[f"ViT-B/{p}", on, key] / error[f"ViT-L/{p}", on, key]) for p in PATCHES]))
            for on in PRETRAINED
        }
        for key in SETS
    }


def criteria(rows: Sequence[Row], *, resamples: int = 4000) -> dict[str, Verdict]:
    """Judges the criteria of the published numbers, by name.

    Args:
      rows: Rows of the published numbers, see the function `rows`.
      resamples: Number of refits of each curve.
    """
    models = [row for row in rows if row["table"] == 6]
    return judge(compare(models, FIVE, resamples=resamples), larger_models(rows))


def judge(average: Result, data: dict[str, dict[str, float]]) -> dict[str, Verdict]:
    """Returns the verdict on each criterion; what must exceed 1 or 2 is a ratio.

    Args:
      average: Comparison of the families on the average of FIVE.
      data: Result of `larger_models`.
    """
    assert average.vit is not None  # on the average, models of all families reach the same errors
    assert average.hybrid is not None
    ratio, early, change = average.vit.mean, average.hybrid.at[0], average.hybrid.change
    fades = Interval(1 / change.mean, 1 / change.high, 1 / change.low, change.n)
    within, apart = CLAIM[0] <= ratio.low and ratio.high <= CLAIM[1], ratio.low > CLAIM[1] or ratio.high < CLAIM[0]
    lies = "is within" if within else "lies apart from" if apart else "overlaps, but is not within,"
    first, last = ([data[key][on] for key in FIVE] for on in (PRETRAINED[0], PRETRAINED[-1]))
    small, large = t_interval([-log for log in first]), t_interval(last)
    rise = paired_difference(last, first).interval
    largest, smallest = (f"an error of {100 * average.hybrid.errors[i]:.1f} %" for i in (0, -1))
    late = _ratio(average.hybrid.at[-1])
    further = {f"this interval {lies} {CLAIM[0]:g} to {CLAIM[1]:g}": within}

    def above(criterion: str, name: str, ratio: Interval, sample: str, least: float = 1.0, **more: Any) -> Verdict:
        claim = CLAIMS[criterion]
        return Verdict({name: ratio}, least, show=_ratio, claim=claim, sample=f"{ratio.n} {sample}", **more)

    verdicts = {
        "less": ("on the average, compute of ResNets over that of ViTs", ratio, "models"),
        "two_to_four": ("the same ratio", ratio, "models"),
        "hybrid_less": (f"at {largest}, compute of ViTs over that of hybrids", early, "models"),
        "hybrid_fades": (f"this over the ratio at {smallest}, which is {late}", fades, "models"),
        "small_data": ("pre-trained on ImageNet, error of ViT-L over that of ViT-B", _exp(small), "data sets"),
        "large_data": ("pre-trained on JFT-300M, error of ViT-B over that of ViT-L", _exp(large), "data sets"),
        "overtakes": ("this over the same after ImageNet", _exp(rise), "data sets"),
    }
    limits: dict[str, Any] = {"two_to_four": dict(least=CLAIM[0], further=further)}
    return {name: above(name, *evidence, **limits.get(name, {})) for name, evidence in verdicts.items()}


def _answer(average: Result) -> str:
    """The answer in two sentences, for the average of the data sets."""
    assert average.vit is not None  # as in `judge`
    assert average.hybrid is not None
    ratio, early, late = average.vit.mean, average.hybrid.at[0], average.hybrid.at[-1]
    models = f"{ratio.n} published models"
    told = Verdict({"ratio": ratio}, 1.0, sample=models).tell(
        f"ResNets need {_ratio(ratio)} times the compute of ViTs",
        f"ResNets need less compute than ViTs, {_ratio(ratio)} times theirs",
        "ResNets need more compute than ViTs",
        f"{_ratio(ratio)} times",
    )
    hybrids = Verdict({"ratio": early}, 1.0, sample=f"{early.n} models").tell(
        f"hybrids of both need less than ViTs: ViTs need {_ratio(early)} times their compute",
        f"hybrids of both need more than ViTs: ViTs need {_ratio(early)} times their compute",
        "hybrids of both need less than ViTs",
        f"{_ratio(early)} times",
    )
    where = [f"error of {100 * average.hybrid.errors[i]:.1f} %" for i in (0, -1)]
    return (
        f"{words.sentence(f'to reach the same error, on the average of {len(FIVE)} data sets, {told}')} At the largest "
        f"{where[0]} that both reach, {hybrids}; at the smallest, an {where[1]}, {_ratio(late)} times."
    )


def _sensitivity(models: Sequence[Row], resamples: int) -> dict[str, list[str]]:
    """What was changed -> the ratio of ResNets to ViTs on the average."""

    def ratio(
        rows: Sequence[Row] = models, sets: Sequence[str] = FIVE, form: str = "power", draws: int = resamples
    ) -> Interval:
        found = compare(rows, sets, form, ("ResNet", "ViT"), resamples=draws).vit
        assert found is not None  # on the average, models of both families reach the same errors
        return found.mean

    def ends(values: dict[str, float]) -> str:
        low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        return f"{values[low]:.2f} (without {low}) to {values[high]:.2f} (without {high})"

    few = 10  # the interval is not needed
    models_out = {
        _name(row): ratio([other for other in models if other is not row], draws=few).mean
        for row in models
        if row["family"] != "hybrid"
    }
    sets_out = {SETS[key]: ratio(sets=[other for other in FIVE if other != key], draws=few).mean for key in FIVE}
    return {
        "nothing": [_ratio(ratio())],
        "a floor of the error is fitted too, a C^-c + e": [_ratio(ratio(form="saturating"))],
        "only models pre-trained for 7 epochs": [_ratio(ratio([row for row in models if row["epochs"] == 7]))],
        "the average has ImageNet ReaL too": [_ratio(ratio(sets=tuple(SETS)))],
        "one model left out": [ends(models_out)],
        "one data set left out": [ends(sets_out)],
    }


def _ratios(
    name: str, results: dict[str, Result], pick: Callable[[Result], Ratio | None], families: tuple[str, str]
) -> list[str]:
    """A table of the ratios of two families on every data set."""
    lines, head = {}, ["errors compared", name, "at the largest error", "at the smallest error"]
    for key, one in results.items():
        ratio = pick(one)
        if ratio:
            errors = f"{100 * ratio.errors[0]:.1f} to {100 * ratio.errors[-1]:.1f} %"
            lines[key] = [errors, *map(_ratio, (ratio.mean, ratio.at[0], ratio.at[-1]))]
        else:
            said = " and ".join(
                f"{100 * one.curves[family].errors.max():.1f} to {100 * one.curves[family].errors.min():.1f}"
                for family in families
            )
            lines[key] = [f"none: {said} %", "", "", ""]
    return words.table("data set", head, lines)


def _data_table(data: dict[str, dict[str, float]]) -> dict[str, list[str]]:
    lines = {SETS[key]: [f"{np.exp(values[on]):.2f}" for on in PRETRAINED] for key, values in data.items()}
    means = [t_interval([data[key][on] for key in FIVE]) for on in PRETRAINED]
    return lines | {"the five": [_ratio(_exp(mean)) for mean in means]}


def _name(row: Row) -> str:
    return row["model"] + (f", {row['epochs']} epochs" if row["epochs"] != 7 else "")


def _exponent(curve: Family) -> str:
    c = curve.exponent()
    return f"{c.mean:.3f}, {c.low:.3f} to {c.high:.3f} ({100 * curve.scatter:.0f} %)"


def _exp(interval: Interval) -> Interval:
    return Interval(*np.exp(interval[:3]).tolist(), interval.n)


def _ratio(interval: Interval) -> str:
    """A ratio with its interval, such as "2.35 (1.50 to 12.3)"."""
    if not np.isfinite(interval.mean):
        return "not defined: a curve is flat"
    return f"{_digits(interval.mean)} ({_digits(interval.low)} to {_digits(interval.high)})"


def _digits(value: float) -> str:
    if value >= 1000:
        return "above 1,000"
    return "below 0.01" if value < 0.01 else f"{value:.2f}" if value < 10 else f"{value:.3g}"


def _plain(ratio: Ratio | None) -> dict[str, Any] | None:
    if ratio is None:
        return None
    ends = {"at_largest_error": ratio.at[0], "at_smallest_error": ratio.at[-1], "change": ratio.change}
    return {"errors": [float(ratio.errors[0]), float(ratio.errors[-1])], "mean": ratio.mean, **ends}
