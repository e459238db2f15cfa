"""The report of the study in words, its criteria and fits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, scaling_laws, words
from jaxvision.analysis.crossing import Crossing, crossing
from jaxvision.analysis.scaling_laws import Fit
from jaxvision.analysis.statistics import paired_difference, t_interval
from jaxvision.commands.study import Row, records, sibling
from jaxvision.estimate import estimate

presets = sibling(__file__, "presets")
tables = sibling(__file__, "tables")
figures = sibling(__file__, "figures")
relations = sibling(__file__, "relations")

FORMS = ("power", "saturating", "shifted_saturating")
ENOUGH = 5  # fewest sizes that distinguish a form with a floor from one without


def write(rows: list[Row], out: Path, p: presets.Preset, configs: dict[str, Any]) -> str:
    """Writes report.md, report.html, summary.json and figures/ to `out`; returns the report.

    Args:
      rows: Rows of all runs, with "run", "protocol", "arm", "examples", "seed" and their results.
      out: Folder of the study, which also holds the records of the runs.
      p: Preset of the runs.
      configs: Config of one run of each arm.
    """
    rows = [row | _best(out, row["run"]) for row in rows]
    costs = {arm: _cost(config) for arm, config in configs.items()}
    top1 = tables.cells(rows, p, "val/top1")
    verdicts = {pair: _criteria(top1, pair) for pair in p.pairs if not p.crosses}
    forms = {arm: _form(sizes) for arm, sizes in top1.items()}
    fits = {arm: scaling_laws.fit(tables.errors(sizes), forms[arm]) for arm, sizes in top1.items()}
    crossings = {pair: _crossing(top1, pair, forms) for pair in p.pairs}
    if p.crosses:
        verdicts = {pair: relations.criteria(result, pair.sizes) for pair, result in crossings.items()}
    few_shot = (
        "; few-shot is the top-1 of a ridge regression on frozen features, mean over three draws of images it "
        f"is fitted to, which are {p.support}"
        if p.support
        else ""
    )
    lines = [
        f"# Data scaling: {p.title}\n",
        _setting(p),
        *tables.accuracy(top1, p, costs),
        *(_match(pair, costs) for pair in p.pairs),
        "\n## Criteria\n",
        *(line for pair, criteria in verdicts.items() for line in _verdicts(pair, criteria)),
        "\n## Do the arms cross?\n",
        *(f"{_name(pair)}: {result.words((pair.resnet, pair.vit))}\n" for pair, result in crossings.items()),
        "## Scaling laws\n",
        *_laws(fits, top1),
        *_selection(rows, p),
        "## Other measures\n",
        "Training accuracy is that on at most 5,000 images of the subset; loss is that on the validation split, in "
        f"nats{few_shot}.",
        *tables.measures(rows, p),
        *_tuned(rows, p),
        *_long(rows, p),
        *_transfer(rows, p),
        "## Figures\n",
        *figures.draw(rows, out, p, costs, fits, crossings),
    ]
    report = "\n".join(lines)
    name = lambda pair: f"{pair.resnet}, {pair.vit}"
    summary = {
        "data": p.title,
        "top1": top1,
        "costs": costs,
        "criteria": {
            f"{pair.resnet}, {pair.vit}": {k: met for k, (met, _) in v.items()} for pair, v in verdicts.items()
        },
        "gap": {name(pair): {n: d.each for n, d in c.lead.items()} for pair, c in crossings.items()},
        "fits": {arm: {"form": fit.form, **fit.parameters()} for arm, fit in fits.items()},
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", f"Data scaling: {p.title}")
    return report


def _best(out: Path, run: str) -> dict[str, float]:
    """The best evaluation during a run, if its records exist."""
    values = [line["val/top1"] for line in records(out, run) if "val/top1" in line]
    return {"best/top1": max(values)} if len(values) > 1 else {}


def _cost(config: Any) -> dict[str, float]:
    """Parameters, and millions of FLOPs of a training step per example."""
    cost = estimate(config)
    return {"parameters": cost.parameters, "mflops": cost.flops_per_step / config.data.batch_size / 1e6}


def _setting(p: presets.Preset) -> str:
    seen = p.steps * p.data["batch_size"]
    return (
        f"Top-1 on the validation split in %, mean over the seeds {_list(p.seeds)} with its 95 % t-interval; "
        f"differences are paired by seed. Every run takes {p.steps:,} steps of {p.data['batch_size']:,}: "
        f"{seen / p.sizes[0]:,.0f} passes over {p.sizes[0]:,} examples, {seen / p.sizes[-1]:,.1f} over {p.sizes[-1]:,}."
    )


def _match(pair: presets.Pair, costs: dict[str, dict[str, float]]) -> str:
    ratio = costs[pair.vit]["mflops"] / costs[pair.resnet]["mflops"]
    match = "a matched pair" if pair.matched else "not a matched pair"
    return f"- A training step of {pair.vit} costs {ratio:.2f} times that of {pair.resnet} in FLOPs: {match}."


def _criteria(top1: tables.Cells, pair: presets.Pair) -> dict[str, tuple[bool, str]]:
    """Criterion -> whether it is met, and the evidence."""
    first, last = pair.sizes[0], pair.sizes[-1]
    criteria = {}
    for arm in pair[:2]:
        gain = paired_difference(top1[arm][last], top1[arm][first])
        means = [t_interval(top1[arm][n]).mean for n in pair.sizes]
        met = gain.interval.low > 0 and means == sorted(means)
        criteria[f"rises ({arm})"] = met, f"{first:,} to {last:,} examples: {words.points(gain)}"
    small, large = tables.gap(top1, pair, first), tables.gap(top1, pair, last)
    change = paired_difference(small.each, large.each)
    criteria["positive"] = small.interval.low > 0, f"gap at {first:,} examples: {words.points(small)}"
    finding = f"that minus the gap at {last:,} examples, {words.percent(large.interval)}: {words.points(change)}"
    criteria["shrinks"] = change.interval.low > 0, finding
    return criteria


def _verdicts(pair: presets.Pair, criteria: dict[str, tuple[bool, str]]) -> list[str]:
    return [
        f"{_name(pair)}:",
        "",
        *(words.verdict(k, met, finding) for k, (met, finding) in criteria.items()),
        "",
    ]


def _name(pair: presets.Pair) -> str:
    return f"{pair.resnet} and {pair.vit}{'' if pair.matched else ', not matched'}"


def _form(sizes: dict[int, list[float]]) -> str:
    """The form that predicts the largest size best; the power law if there are too few sizes to tell."""
    return scaling_laws.select(tables.errors(sizes), FORMS)[0] if len(sizes) >= ENOUGH else "power"


def _crossing(top1: tables.Cells, pair: presets.Pair, forms: dict[str, str]) -> Crossing:
    first, second = ({n: tables.errors(top1[arm])[n] for n in pair.sizes} for arm in pair[:2])
    enough = len(pair.sizes) >= ENOUGH
    return crossing(first, second, tuple(forms[arm] if enough else "power" for arm in pair[:2]))


def _laws(fits: dict[str, Fit], top1: tables.Cells) -> list[str]:
    """Parameters of the fits, and how well each form predicts the largest size."""
    lines = ["Error (1 - top-1) over training examples n, weighted by the scatter of the seeds; 95 % intervals.\n"]
    few = [arm for arm, sizes in top1.items() if len(sizes) < ENOUGH]
    if few:
        lines.append(
            f"Fewer than {ENOUGH} sizes ({', '.join(few)}) cannot tell a floor of the error from a smaller exponent: "
            "only a n^-c is fitted there, and its predictions are no result.\n"
        )
    lines += [
        "| arm | form | parameters | lack of fit, p | error at ten times the largest size |",
        "|---|---|---|---:|---|",
    ]
    refused = []
    for arm, fit in fits.items():
        parameters = "; ".join(f"{k} = {v.mean:.3g} ({v.low:.3g} to {v.high:.3g})" for k, v in fit.parameters().items())
        far = [10 * max(top1[arm])]
        (low,), (high,), (mean,) = *fit.band(far), fit.predict(far)
        ahead = f"{100 * mean:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        refused += [arm] if fit.lack_of_fit < 0.05 else []
        lack = "" if np.isnan(fit.lack_of_fit) else f"{fit.lack_of_fit:.2f}"
        lines.append(f"| {arm} | {fit.form.replace('_', ' ')} | {parameters} | {lack} | {ahead} |")
    if refused:
        lines.append(
            f"\nThe means miss the curve by more than the seeds scatter ({', '.join(refused)}): it is not the law at "
            "these sizes, the intervals cover only the scatter of the seeds, and the predictions are no result."
        )
    asked = {arm: sizes for arm, sizes in top1.items() if len(sizes) >= ENOUGH}
    if asked:
        lines += [
            "\nThe form is the one that, fitted to the other sizes, predicts the error at the largest best. In "
            "brackets by how many standard errors of its mean it is missed:\n",
            "| arm | observed | " + " | ".join(form.replace("_", " ") for form in FORMS) + " |",
            "|---|---:|" + "---:|" * len(FORMS),
        ]
    for arm, sizes in asked.items():
        by_form, n = {row.form: row for row in scaling_laws.select(tables.errors(sizes), FORMS)[1]}, max(sizes)
        predictions = [
            f"{100 * by_form[f].predicted[n].mean:.1f} % ({by_form[f].error:.1f})" if by_form[f].predicted else ""
            for f in FORMS
        ]
        lines.append(f"| {arm} | {100 - 100 * float(np.mean(sizes[n])):.1f} % | " + " | ".join(predictions) + " |")
    return [*lines, ""]


def _selection(rows: Sequence[Row], p: presets.Preset) -> list[str]:
    if not any("best/top1" in row for row in rows):
        return []
    return [
        "## The last step and the best one\n",
        "The paper stops early: it reports the best validation accuracy during training. The best of ten evaluations "
        "on the images that chose it is optimistic. It is higher than that of the last step by, in points:",
        *tables.selection(rows, p),
    ]


def _tuned(rows: Sequence[Row], p: presets.Preset) -> list[str]:
    if not p.rates:
        return []
    best_rate = sibling(__file__, "study").best_rate
    fixed, other = tables.cells(rows, p, "val/top1"), tables.cells(rows, p, "val/top1", "tuned")
    rates = {arm: {n: best_rate(rows, arm, n) for n in p.tuned_sizes} for arm in p.pairs[0][:2]}
    # If the best rate is that of `fixed`, its runs serve as the tuned ones.
    tuned = {arm: {n: other.get(arm, {}).get(n, fixed[arm][n]) for n in p.tuned_sizes} for arm in rates}
    return [
        "## Tuned for every subset\n",
        f"The learning rate was chosen among {_list(p.rates)} by one run of seed {presets.TUNING_SEED}, on the "
        "validation split that is judged below too. A best rate at an end of that list may not be the best there is.",
        *tables.tuned(tuned, fixed, rates, p),
    ]


def _long(rows: Sequence[Row], p: presets.Preset) -> list[str]:
    long, n = tables.cells(rows, p, "val/top1", "long"), p.sizes[-1]
    if not long:
        return []
    fixed = tables.cells([row for row in rows if row["seed"] in p.long_seeds], p, "val/top1")
    train = tables.cells(rows, p, "train/top1", "long")
    lines = [f"## {p.long} times the steps on {n:,} examples\n", f"Seed {_list(p.long_seeds)}.\n"]
    for arm in long:
        gain = paired_difference(long[arm][n], fixed[arm][n])
        lines.append(
            f"- {arm}: top-1 {words.percent(t_interval(long[arm][n]))} %, on training images "
            f"{words.percent(t_interval(train[arm][n]))} %; {words.points(gain)} more than on the fixed schedule."
        )
    pair = p.pairs[0]
    return [*lines, f"- {pair.resnet} minus {pair.vit}: {words.points(tables.gap(long, pair, n))}.", ""]


def _transfer(rows: Sequence[Row], p: presets.Preset) -> list[str]:
    top1, t, n, pair = tables.cells(rows, p, "val/top1", "transfer"), p.transfer, p.sizes[-1], p.pairs[0]
    if not t:
        return []
    lines = [
        "## Transfer\n",
        f"Fine-tuned to {t.title}: {t.steps:,} steps of {t.data['batch_size']}, SGD with momentum, learning rate "
        f"{t.learning_rate:g}. Top-1 in %:\n",
        f"| arm | from random weights | from the run on {n:,} examples | gain |",
        "|---|---:|---:|---:|",
    ]
    for arm, sizes in top1.items():
        gain = words.percent(paired_difference(sizes[n], sizes[0]).interval)
        shown = [words.percent(t_interval(sizes[start])) for start in (0, n)]
        lines.append(f"| {arm} | {shown[0]} | {shown[1]} | {gain} |")
    gaps = [words.percent(tables.gap(top1, pair, start).interval) for start in (0, n)]
    return [*lines, f"| {pair.resnet} minus {pair.vit} | {gaps[0]} | {gaps[1]} | |", ""]


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
