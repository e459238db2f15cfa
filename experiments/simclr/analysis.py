"""The report of the study in words, and its criteria."""

from pathlib import Path

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents
from jaxvision.analysis.words import points, verdict
from jaxvision.commands.study import Row, records, sibling

presets = sibling(__file__, "presets")
tables = sibling(__file__, "tables")
figures = sibling(__file__, "figures")

CRITERIA = {"crop alone": "crop", "colour alone": "colour", "head": "no_head", "learns": "random"}  # full minus these


def write(rows: list[Row], out: Path, p: presets.Preset) -> str:
    """Writes report.md, report.html, summary.json and figures/ to `out`; returns the report.

    Args:
      rows: Rows of all runs.
      out: Folder of the study, which also holds the records of the runs.
      p: Preset of the runs.
    """
    results = tables.Results([_of_training(out, row["run"]) | row for row in rows])
    criteria = _criteria(results, p)
    report = "\n".join(
        [
            f"# SimCLR: {p.title}\n",
            _setting(p),
            *tables.arms(results, {tables.MAIN[name]: arm for name, arm in p.main.items()}, p),
            "Contrastive top-1 is the share of views whose nearest view is the other view of the same image; the "
            "effective rank is that of g(h). Both are means over the training batches of the last tenth of training.\n",
            "## Criteria\n",
            *(verdict(name, met, finding) for name, (met, finding) in criteria.items()),
            "\n## Heads, h and g(h)\n",
            *tables.heads(results, p),
            *(line for field in tables.AXES for line in tables.axis(results, field, p)),
            *tables.batches(results, p),
            *tables.grid(results, p),
            "## Figures\n",
            *figures.draw(results, out, p),
        ]
    )
    summary = {
        "top1": {name: {"h": results.of(arm), "g(h)": results.of(arm, tables.G)} for name, arm in p.main.items()},
        "criteria": {name: met for name, (met, _) in criteria.items()},
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", f"SimCLR: {p.title}")
    return report


def _of_training(out: Path, run: str) -> dict[str, float]:
    """Returns training metrics from the last records of a run; empty if it took no step."""
    lines = [line for line in records(out, run) if tables.CONTRASTIVE in line]
    return {key: lines[-1][key] for key in (tables.CONTRASTIVE, tables.RANK) if key in lines[-1]} if lines else {}


def _setting(p: presets.Preset) -> str:
    full, steps, seeds = p.full, round(p.images / p.full.batch_size), ", ".join(map(str, p.seeds))
    return (
        f"Results are top-1 of a linear probe on the validation split in %: the mean over the seeds {seeds} with its "
        "95 % t-interval. Differences are paired by seed. A result without an interval comes from one seed. "
        f"`full`: {steps:,} steps of {full.batch_size:,} images, colour strength "
        f"{full.strength:g}, temperature {full.temperature:g}, {full.width} dimensions in the loss."
    )


def _criteria(results: tables.Results, p: presets.Preset) -> dict[str, tuple[bool, str]]:
    """Returns for each criterion whether it is met, and the evidence."""
    arms, judged = p.main, {}
    for criterion, name in CRITERIA.items():
        gain = results.minus(arms["full"], arms[name])
        judged[criterion] = bool(gain.interval.low > 0), f"full minus {tables.MAIN[name]}: {points(gain)}"
    easier = results.minus(arms["crop"], arms["full"], tables.CONTRASTIVE)
    finding = f"contrastive top-1, crop only minus full: {points(easier)}; for the probe see crop alone"
    judged["inversion"] = bool(easier.interval.low > 0 and judged["crop alone"][0]), finding
    return judged
