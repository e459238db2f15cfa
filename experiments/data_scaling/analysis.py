"""The report of the study in words, its criteria and fits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, scaling_laws, words
from jaxvision.analysis.criteria import Verdict, notes, opening, tally
from jaxvision.analysis.crossing import Crossing, crossing
from jaxvision.analysis.scaling_laws import Fit
from jaxvision.analysis.statistics import paired_difference, t_interval
from jaxvision.commands.study import Row, records, sibling
from jaxvision.estimate import estimate

setting = sibling(__file__, "setting")
answers = sibling(__file__, "answer")
criteria = sibling(__file__, "criteria")
relations = sibling(__file__, "relations")
tables = sibling(__file__, "tables")
figures = sibling(__file__, "figures")

FORMS = ("power", "saturating", "shifted_saturating")
ENOUGH = 5  # fewest sizes that distinguish a form with a floor from one without


def write(rows: list[Row], out: Path, p: setting.Preset, configs: dict[str, Any]) -> str:
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
    measures = measure_pairs(rows, out, p)
    verdicts = judge(rows, measures, p)
    forms = {arm: _form(sizes) for arm, sizes in top1.items()}
    fits = {arm: scaling_laws.fit(tables.errors(sizes), forms[arm]) for arm, sizes in top1.items()}
    crossings = {pair: _crossing(top1, pair, forms) for pair in p.pairs}
    lines = [
        f"# Data scaling: {p.title}\n",
        *opening(
            answers.answer(top1, p, measures[p.pairs[0]], crossings[p.pairs[0]]),
            answers.CONSTRUCTED if p.crosses else answers.EXPECTED,
            " ".join(f"{_name(pair)}: {tally(judged)}" for pair, judged in verdicts.items()),
        ),
        "## Accuracy\n",
        _setting(p),
        *tables.accuracy(top1, p, costs),
        *(_match(pair, costs) for pair in p.pairs),
        "\n## Criteria\n",
        *_criteria(verdicts),
        "## How much data, and the gap in other measures\n",
        *_measures(measures),
        *_families(top1, p),
        "\n## Do the arms cross?\n",
        *(f"{_name(pair)}: {result.words((pair.resnet, pair.vit))}\n" for pair, result in crossings.items()),
        "## Scaling laws\n",
        *_laws(fits, top1),
        *_selection(rows, p),
        "## Other measures\n",
        f"Training accuracy is that on at most {p.seen:,} images of the subset; loss is that on the validation split, "
        "in nats." + f" Few-shot is the top-1 of a ridge regression on frozen features {p.support}." * bool(p.support),
        *tables.measures(rows, p),
        *_plain(rows, p),
        *_tuned(rows, p),
        *_lengths(rows, p),
        *_transfer(rows, p),
        "## Figures\n",
        *figures.draw(rows, out, p, costs, fits, crossings, measures),
    ]
    report = "\n".join(lines)
    name = lambda pair: f"{pair.resnet}, {pair.vit}"
    summary = {
        "data": p.title,
        "top1": top1,
        "costs": costs,
        "criteria": {name(pair): {k: v.met for k, v in judged.items()} for pair, judged in verdicts.items()},
        "gap": {name(pair): {n: d.each for n, d in c.lead.items()} for pair, c in crossings.items()},
        "gap in log odds": {name(pair): {n: d.each for n, d in m.odds.items()} for pair, m in measures.items()},
        "gap at equal training loss": {
            name(pair): {n: d.each for n, d in m.loss.items()} for pair, m in measures.items()
        },
        "data ratio": {
            name(pair): {"start": m.data.start, "end": m.data.end, "range": m.data.range}
            for pair, m in measures.items()
        },
        "fits": {arm: {"form": fit.form, **fit.parameters()} for arm, fit in fits.items()},
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", f"Data scaling: {p.title}")
    return report


def judge(
    rows: Sequence[Row], measures: dict[setting.Pair, criteria.Measures], p: setting.Preset
) -> dict[setting.Pair, dict[str, Verdict]]:
    """Judges the criteria of every pair.

    Args:
      rows: Rows of all runs.
      measures: Measures of every pair.
      p: Preset of the runs.
    """
    top1 = tables.cells(rows, p, "val/top1")
    if p.crosses:
        return {pair: relations.judge(_crossing(top1, pair, {})) for pair in p.pairs}
    return {pair: criteria.judge(top1, pair, m) for pair, m in measures.items()}


def measure_pairs(rows: Sequence[Row], out: Path | None, p: setting.Preset) -> dict[setting.Pair, criteria.Measures]:
    """Computes the measures of every pair.

    Args:
      rows: Rows of all runs.
      out: Folder of the study, which also holds the records of the runs; None to do without records.
      p: Preset of the runs.
    """
    top1, fixed = tables.cells(rows, p, "val/top1"), [row for row in rows if row["protocol"] == "fixed"]
    curves = {(row["arm"], row["examples"], row["seed"]): records(out, row["run"]) for row in fixed if out}
    return {pair: criteria.measure(top1, pair, curves, p.seeds) for pair in p.pairs}


def _best(out: Path, run: str) -> dict[str, float]:
    """The best evaluation during a run, if its records exist."""
    values = [line["val/top1"] for line in records(out, run) if "val/top1" in line]
    return {"best/top1": max(values)} if len(values) > 1 else {}


def _cost(config: Any) -> dict[str, float]:
    """Parameters, and millions of FLOPs of a training step per example."""
    cost = estimate(config)
    return {"parameters": cost.parameters, "mflops": cost.flops_per_step / config.data.batch_size / 1e6}


def _setting(p: setting.Preset) -> str:
    seen = p.steps * p.data["batch_size"]
    steps = f"{p.steps:,} steps of {p.data['batch_size']:,}"
    passes = [f"{seen / p.sizes[0]:,.0f} passes over {p.sizes[0]:,}", f"{seen / p.sizes[-1]:,.1f} over {p.sizes[-1]:,}"]
    return (
        "Top-1 on the validation split in %, by number of training examples: the mean over the seeds "
        f"{_list(p.seeds)} with its 95 % t-interval; differences are paired by seed. Every run takes {steps}: "
        f"{passes[0]} examples, {passes[1]}."
    )


def _match(pair: setting.Pair, costs: dict[str, dict[str, float]]) -> str:
    ratio = costs[pair.vit]["mflops"] / costs[pair.resnet]["mflops"]
    match = "a matched pair" if pair.matched else "not a matched pair"
    return f"- A training step of {pair.vit} costs {ratio:.2f} times that of {pair.resnet} in FLOPs: {match}."


def _criteria(verdicts: dict[setting.Pair, dict[str, Verdict]]) -> list[str]:
    """The lines of all pairs; what few seeds allow is said once, after them."""
    lines = []
    for pair, judged in verdicts.items():
        lines += [f"{_name(pair)}:", "", *(verdict.line(name) for name, verdict in judged.items()), ""]
    note = notes({f"{pair}{name}": verdict for pair, judged in verdicts.items() for name, verdict in judged.items()})
    shared = {arm for pair in verdicts for arm in pair[:2] if sum(arm in other[:2] for other in verdicts) > 1}
    if shared:
        note.append(f"Pairs that share an arm ({words.listed(sorted(shared))}) are not independent confirmations.")
    return [*lines, *(f"{line}\n" for line in note)]


def _measures(measures: dict[setting.Pair, criteria.Measures]) -> list[str]:
    """The data ratios and the gaps of every pair in words and a table."""
    lines = [
        "The data ratio says how many times the ResNet's examples the ViT needs for the same accuracy. Log odds are "
        "log(p / (1 - p)) of the accuracy p. At equal training loss both runs of a seed are compared at the lowest "
        "loss that both reach. The one that reaches it earlier is then in the middle of its schedule, where its "
        "learning rate is still high. So the comparison favours the slower arm, and more so where it is slower: read "
        "the shrinkage as an upper bound. Intervals are over seeds; all share one validation set.\n"
    ]
    for pair, m in measures.items():
        first, last = pair.sizes[0], pair.sizes[-1]
        lines += [
            f"- {_name(pair)}: for the accuracy of {pair.resnet} at {first:,} examples, {pair.vit} needs "
            f"{m.data.words(m.data.start)} as many; for that of {pair.vit} at {last:,}, {m.data.words(m.data.end)}."
        ]
        cells = [words.percent(m.points[n].interval) for n in pair.sizes]
        odds = [criteria.plain(m.odds[n]) for n in pair.sizes]
        equal = [
            f"{words.percent(m.loss[n].interval)} at {criteria.nats(m.levels[n])}" if n in m.loss else ""
            for n in pair.sizes
        ]
        rows = {"gap, points": cells, "gap, log odds": odds, "gap at equal training loss, points": equal}
        lines += words.table(_name(pair), [f"{n:,}" for n in pair.sizes], rows)
    return lines


def _families(top1: tables.Cells, p: setting.Preset) -> list[str]:
    """Where the two families of ResNets differ, and what that does to the gap."""
    if not p.families:
        return []
    lines = [
        "## The two families of ResNets\n",
        "BiT's form (pre-activation, GroupNorm, weight standardisation) minus that with BatchNorm, in points. The last "
        "column is the change from the smallest to the largest size: by so much the gaps to a ViT change differently.",
    ]
    differences = {pair: tables.difference(top1, *pair) for pair in p.families}
    sizes = sorted({n for by_size in differences.values() for n in by_size})
    rows = {}
    for (one, other), by_size in differences.items():
        change = paired_difference(by_size[max(by_size)].each, by_size[min(by_size)].each)
        cells = [words.percent(by_size[n].interval) if n in by_size else "" for n in sizes]
        rows[f"{one} minus {other}"] = [*cells, words.percent(change.interval)]
    lines += words.table("arms", [*(f"{n:,}" for n in sizes), "change"], rows)
    for (one, other), by_size in differences.items():
        ahead = [f"{n:,}" for n, d in by_size.items() if d.interval.low > 0]
        behind = [f"{n:,}" for n, d in by_size.items() if d.interval.high < 0]
        found = [f"{arm} is ahead at {words.listed(at)}" for arm, at in ((one, ahead), (other, behind)) if at]
        lines.append(f"- {'; '.join(found) or f'{one} and {other} cannot be told apart at any size'}.")
    return lines


def _name(pair: setting.Pair) -> str:
    return f"{pair.resnet} and {pair.vit}{'' if pair.matched else ', not matched'}"


def _form(sizes: dict[int, list[float]]) -> str:
    """The form that predicts the largest size best; the power law if there are too few sizes to tell."""
    return scaling_laws.select(tables.errors(sizes), FORMS)[0] if len(sizes) >= ENOUGH else "power"


def _crossing(top1: tables.Cells, pair: setting.Pair, forms: dict[str, str]) -> Crossing:
    first, second = ({n: tables.errors(top1[arm])[n] for n in pair.sizes} for arm in pair[:2])
    enough = len(pair.sizes) >= ENOUGH
    return crossing(first, second, tuple(forms.get(arm, "power") if enough else "power" for arm in pair[:2]))


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


def _selection(rows: Sequence[Row], p: setting.Preset) -> list[str]:
    if not any("best/top1" in row for row in rows):
        return []
    return [
        "## The last step and the best one\n",
        "The paper stops early: it reports the best validation accuracy during training. The best evaluation "
        "on the images that chose it is optimistic. It is higher than that of the last step by, in points:",
        *tables.selection(rows, p),
    ]


def _tuned(rows: Sequence[Row], p: setting.Preset) -> list[str]:
    if not p.rates:
        return []
    best_rate = sibling(__file__, "study").best_rate
    fixed, other = tables.cells(rows, p, "val/top1"), tables.cells(rows, p, "val/top1", "tuned")
    rates = {arm: {n: best_rate(rows, arm, n) for n in p.tuned_sizes} for arm in p.pairs[0][:2]}
    # If the best rate is that of `fixed`, its runs serve as the tuned ones.
    tuned = {arm: {n: other.get(arm, {}).get(n, fixed[arm][n]) for n in p.tuned_sizes} for arm in rates}
    return [
        "## Tuned for every subset\n",
        f"The learning rate was chosen among {_list(p.rates)} by one run of seed {setting.TUNING_SEED}, on the "
        "validation split that is judged below too. A best rate at an end of that list may not be the best there is.",
        *tables.tuned(tuned, fixed, rates, p),
    ]


def _plain(rows: Sequence[Row], p: setting.Preset) -> list[str]:
    """The first pair without crops and flips."""
    if not p.plain_sizes:
        return []
    with_crops, plain = tables.cells(rows, p, "val/top1"), tables.cells(rows, p, "val/top1", "plain")
    pair, shown = p.pairs[0], {}
    for arm in pair[:2]:
        gains = [paired_difference(with_crops[arm][n], plain[arm][n]).interval for n in p.plain_sizes]
        shown[f"{arm}, top-1 without"] = [words.percent(t_interval(plain[arm][n])) for n in p.plain_sizes]
        shown[f"{arm}, gain by crops and flips"] = [words.percent(gain) for gain in gains]
    gaps = [words.percent(tables.gap(plain, pair, n).interval) for n in p.plain_sizes]
    shown[f"{pair.resnet} minus {pair.vit}, both without"] = gaps
    table = words.table("arm", [f"{n:,}" for n in p.plain_sizes], shown)
    return ["## Without crops and flips\n", "Top-1 in %, and differences in points, by number of examples.", *table]


def _lengths(rows: Sequence[Row], p: setting.Preset) -> list[str]:
    """Accuracy against the length of the schedule at several sizes: lack of data and lack of steps told apart."""
    if not p.lengths:
        return []
    pair = p.pairs[0]
    lines = [
        "## Shorter and longer schedules\n",
        f"Each schedule is planned as a whole; seed {_list(p.lengths.seeds)}.{_one(p.lengths.seeds)} Top-1 in % on the "
        "validation split, and in brackets on training images. Where more steps help and both are alike, steps are "
        "lacking. Where the second is far above the first and more steps do not help, data are lacking.",
    ]
    steps = tables.steps_of(p)
    for n in p.lengths.sizes:
        values, train = (tables.by_steps(rows, p, n, key) for key in ("val/top1", "train/top1"))
        shown = {
            arm: [f"{words.percent(t_interval(by[s]))} ({100 * float(np.mean(train[arm][s])):.0f})" for s in steps]
            for arm, by in values.items()
        }
        gaps = [paired_difference(values[pair.resnet][s], values[pair.vit][s]).interval for s in steps]
        shown[f"{pair.resnet} minus {pair.vit}"] = [words.percent(gap) for gap in gaps]
        lines += words.table(f"{n:,} examples", [f"{s:,} steps" for s in steps], shown)
    return lines


def _transfer(rows: Sequence[Row], p: setting.Preset) -> list[str]:
    if not p.transfer:
        return []
    top1, t, n, pair = tables.cells(rows, p, "val/top1", "transfer"), p.transfer, p.sizes[-1], p.pairs[0]
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


def _one(seeds: Sequence[int]) -> str:
    return f" {words.ONE_SEED}" if len(seeds) == 1 else ""


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
