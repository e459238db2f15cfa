"""The figures of the study, and the lines of the report that show them."""

from pathlib import Path

from jaxvision.analysis import scaling_plots as plots
from jaxvision.analysis import words
from jaxvision.analysis.crossing import Crossing
from jaxvision.analysis.gallery import Gallery, informative
from jaxvision.analysis.scaling_laws import Fit
from jaxvision.commands.study import Row, records, sibling

criteria = sibling(__file__, "criteria")
tables = sibling(__file__, "tables")
setting = sibling(__file__, "setting")


def draw(
    rows: list[Row],
    out: Path,
    p: setting.Preset,
    costs: dict[str, dict[str, float]],
    fits: dict[str, Fit],
    crossings: dict[setting.Pair, Crossing],
    measures: dict[setting.Pair, criteria.Measures],
) -> list[str]:
    """Draws figures/*.svg and .png in `out`. Returns a line of Markdown for each, also for those that are left out.

    Args:
      rows: Results of all runs.
      out: Folder of the study.
      p: Preset of the runs.
      costs: Parameters and MFLOPs of each arm.
      fits: Fitted scaling law of each arm.
      crossings: Crossing of each pair.
      measures: Measures of each pair.
    """
    gallery, n = Gallery(out), words.seeds(p.seeds)
    top1 = tables.cells(rows, p, "val/top1")
    errors = {arm: tables.errors(sizes) for arm, sizes in top1.items()}
    several = f"Dots are seeds, bars 95 % t-intervals of the mean over {n}."
    dots = several if len(p.seeds) > 1 else "One seed, so there are no intervals."

    pair = p.pairs[0]
    gap = f"{pair.resnet} minus {pair.vit}"
    gaps = {gap: {size: d.interval for size, d in measures[pair].points.items()}}
    if measures[pair].loss:
        gaps["the same at equal training loss"] = {size: d.interval for size, d in measures[pair].loss.items()}
    arms = {arm: errors[arm] for arm in _matched(p)}
    laws = {arm: fit for arm, fit in fits.items() if informative([fit.examples])}
    caption = (
        "Left: accuracy on the validation split over training examples, on a logarithmic axis; the dashed line is "
        f"chance. Right: {gap}, in points. {dots}"
    )
    if path := gallery.place("overview", f"accuracy against training examples, and {gap}", caption, arms.values()):
        plots.accuracy_and_gaps(arms, gaps, path, chance=1 / p.data["classes"])
    caption = (
        "Accuracy (left) and error on a logarithmic axis (right) over training examples. Lines are the fitted laws "
        f"with their 95 % bands, dashed beyond the sizes. {dots}"
    )
    what = "accuracy and error against training examples, with the fits and their bands"
    if path := gallery.place("data_curves", what, caption, errors.values()):
        plots.accuracy_and_error(errors, path, fits=laws)
    for pair, crossing in crossings.items():
        names = pair.resnet, pair.vit
        gap = f"{names[0]} minus {names[1]}"
        caption = (
            f"Accuracy of {gap}, in points, over training examples; above zero {names[0]} leads. Grey lines are seeds, "
            f"bars 95 % t-intervals of the mean over {n}; a green band is the interval of a crossing."
        )
        if path := gallery.place(f"gap_{'_'.join(names)}", gap, caption, [crossing.lead]):
            plots.gap(crossing, path, names)
    caption = (
        "Mean error minus the fitted law over training examples, in standard errors of the mean; a law that holds "
        f"stays in the grey band, from -2 to 2, nearly everywhere. {words.sentence(n)}"
    )
    if path := gallery.place("residuals", "residuals of the fits", caption, [fit.examples for fit in laws.values()]):
        plots.residuals(laws, path)
    if p.lengths:
        panels = _compute(rows, p, costs)
        caption = (
            "Error over the compute of one training run, both logarithmic, for schedules of several lengths; a panel "
            "for each number of examples. The lowest curve is the frontier. "
            f"{words.sentence(words.seeds(p.lengths.seeds))}"
        )
        curves = [curve for arms in panels.values() for curve in arms.values()]
        if path := gallery.place("compute", "error against the compute of a run, at several sizes", caption, curves):
            plots.against_compute(panels, path)
    if shots := _few_shot(rows, p):
        elsewhere = (p.evals | p.measures).get("fewshot", {}).get("data")
        caption = (
            "Accuracy of a ridge regression on frozen features, fitted to 1, 5, 10 and 25 labelled images of each "
            f"class, over the examples of pre-training. {dots}{'' if elsewhere else ' The dashed line is chance.'}"
        )
        curves = [curve for by_shots in shots.values() for curve in by_shots.values()]
        if path := gallery.place("few_shot", "few-shot accuracy against the examples of pre-training", caption, curves):
            plots.few_shot(shots, path, chance=None if elsewhere else 1 / p.data["classes"])
    if curves := _learning_curves(rows, out, p):
        caption = (
            "Accuracy on the validation split over training steps: a panel for each arm, a shade for each number of "
            f"training examples. Thick lines are means over {n}, thin lines single seeds."
        )
        points = [seed for sizes in curves.values() for seeds in sizes.values() for seed in seeds]
        if path := gallery.place("learning_curves", "validation accuracy during training", caption, _evaluated(points)):
            plots.learning_curves(curves, path)
    return gallery.lines


def _evaluated(runs: list[list[Row]]) -> list[list[float]]:
    """The accuracies of each run during training."""
    return [[line["val/top1"] for line in lines if "val/top1" in line] for lines in runs]


def _compute(rows: list[Row], p: setting.Preset, costs: dict[str, dict[str, float]]) -> dict[str, dict[str, list]]:
    """For each size and arm (training FLOPs, errors of the seeds) on schedules of every length."""
    batch = p.data["batch_size"]
    return {
        f"{n:,} examples": {
            arm: [(costs[arm]["mflops"] * 1e6 * steps * batch, [1 - v for v in top1]) for steps, top1 in by.items()]
            for arm, by in tables.by_steps(rows, p, n, "val/top1").items()
        }
        for n in p.lengths.sizes
    }


def _matched(p: setting.Preset) -> list[str]:
    """The arms that are compared with the first ViT."""
    return [*(pair.resnet for pair in p.pairs if pair.matched and pair.vit == p.pairs[0].vit), p.pairs[0].vit]


def _few_shot(rows: list[Row], p: setting.Preset) -> dict[str, dict[int, dict[int, list[float]]]]:
    by_shots = {shots: tables.cells(rows, p, tables.few_shot_key(shots)) for shots in setting.SHOTS}
    arms = {arm for sizes in by_shots.values() for arm in sizes}
    return {arm: {shots: sizes[arm] for shots, sizes in by_shots.items()} for arm in p.arms if arm in arms}


def _learning_curves(rows: list[Row], out: Path, p: setting.Preset) -> dict[str, dict[int, list]]:
    """The records of the runs that are compared with the first ViT, as far as they exist."""
    curves = {}
    for row in rows:
        lines = records(out, row["run"])
        if row["protocol"] == "fixed" and row["arm"] in _matched(p) and lines:
            curves.setdefault(row["arm"], {}).setdefault(row["examples"], []).append(lines)
    return curves
