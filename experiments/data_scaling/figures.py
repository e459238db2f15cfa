"""The figures of the study, and the lines of the report that show them."""

from pathlib import Path

from jaxvision.analysis import scaling_plots as plots
from jaxvision.analysis.crossing import Crossing
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
    """Draws figures/*.svg and .png in `out`. Returns a line of Markdown for each.

    Args:
      rows: Results of all runs.
      out: Folder of the study.
      p: Preset of the runs.
      costs: Parameters and MFLOPs of each arm.
      fits: Fitted scaling law of each arm.
      crossings: Crossing of each pair.
      measures: Measures of each pair.
    """
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    top1 = tables.cells(rows, p, "val/top1")
    errors = {arm: tables.errors(sizes) for arm, sizes in top1.items()}
    lines = []

    def show(name: str, caption: str) -> Path:
        lines.append(f"![{caption}](figures/{name}.png)\n")
        return folder / name

    pair = p.pairs[0]
    gap = f"{pair.resnet} minus {pair.vit}"
    gaps = {gap: {n: difference.interval for n, difference in measures[pair].points.items()}}
    if measures[pair].loss:
        gaps["the same at equal training loss"] = {n: d.interval for n, d in measures[pair].loss.items()}
    arms = {arm: errors[arm] for arm in _matched(p)}
    path = show("overview", f"accuracy against training examples, and {gap}")
    plots.accuracy_and_gaps(arms, gaps, path, chance=1 / p.data["classes"])
    path = show("data_curves", "accuracy and error against training examples, with the fits and their bands")
    plots.accuracy_and_error(errors, path, fits=fits)
    for pair, crossing in crossings.items():
        names = pair.resnet, pair.vit
        plots.gap(crossing, show(f"gap_{'_'.join(names)}", f"{names[0]} minus {names[1]}"), names)
    plots.residuals(fits, show("residuals", "residuals of the fits"))
    if p.lengths:
        path = show("compute", "error against the compute of a run at several sizes: the lowest curve is the frontier")
        plots.against_compute(_compute(rows, p, costs), path)
    if shots := _few_shot(rows, p):
        path = show("few_shot", "few-shot accuracy against the examples of pre-training")
        elsewhere = (p.evals | p.measures).get("fewshot", {}).get("data")
        plots.few_shot(shots, path, chance=None if elsewhere else 1 / p.data["classes"])
    if curves := _learning_curves(rows, out, p):
        plots.learning_curves(curves, show("learning_curves", "validation accuracy during training"))
    return lines


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
