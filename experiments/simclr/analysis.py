"""The report of the study in words, and its criteria."""

from pathlib import Path

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents
from jaxvision.analysis.criteria import Verdict
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
    results = tables.Results(with_training(rows, out))
    verdicts = criteria(results, p)
    report = "\n".join(
        [
            f"# SimCLR: {p.title}\n",
            _setting(p),
            *tables.arms(results, {tables.MAIN[name]: arm for name, arm in p.main.items()}, p),
            "Contrastive top-1 is the share of views whose nearest view is the other view of the same image; the "
            "effective rank is that of g(h). Both are means over the training batches of the last tenth of training.\n",
            "## Criteria\n",
            *(verdict.line(name) for name, verdict in verdicts.items()),
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
        "criteria": {name: verdict.met for name, verdict in verdicts.items()},
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", f"SimCLR: {p.title}")
    return report


def with_training(rows: list[Row], out: Path) -> list[Row]:
    """Returns the rows with training metrics from the last records of each run that took a step.

    Args:
      rows: Rows of all runs.
      out: Folder of the study.
    """
    return [_of_training(out, row["run"]) | row for row in rows]


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


def criteria(results: tables.Results, p: presets.Preset) -> dict[str, Verdict]:
    """Judges the criteria of study.py.

    Args:
      results: Results of all runs.
      p: Preset of the runs.
    """
    arms = p.main
    judged = {
        criterion: Verdict({f"full minus {tables.MAIN[name]}": results.minus(arms["full"], arms[name])})
        for criterion, name in CRITERIA.items()
        if name in arms
    }
    if "crop" not in arms:
        return judged
    easier = results.minus(arms["crop"], arms["full"], tables.CONTRASTIVE)
    also = {"for the probe see crop alone": judged["crop alone"].met}
    judged["inversion"] = Verdict({"contrastive top-1, crop only minus full": easier}, further=also)
    return judged
