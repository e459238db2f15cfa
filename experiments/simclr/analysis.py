"""The report of the study in words, and its criteria."""

from pathlib import Path

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.statistics import t_interval
from jaxvision.analysis.words import ONE_SEED, gain, percent, sentence
from jaxvision.commands.study import Row, records, sibling

presets = sibling(__file__, "presets")
tables = sibling(__file__, "tables")
figures = sibling(__file__, "figures")

CRITERIA = {"crop alone": "crop", "colour alone": "colour", "head": "no_head", "learns": "random"}  # full minus these
CLAIMS = {
    "crop alone": "crops with colour distortion teach more than crops alone, by a linear classifier on the features",
    "colour alone": "crops with colour distortion teach more than colour distortion alone",
    "head": "a nonlinear head between the features and the loss gives better features than none",
    "learns": "the features are better than those of random weights",
    "inversion": "without colour distortion the contrastive task is easier, and yet the features are worse",
}
EXPECTED = (
    "Chen et al. 2020 (SimCLR, arXiv 2002.05709, sec. 3.1 and 4.2): crops with colour distortion are far better than "
    "either alone, and a nonlinear head gains more than 10 points over none."
)


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
            *opening(_answer(results, verdicts, p), EXPECTED, tally(verdicts)),
            "## Arms\n",
            _setting(p),
            *tables.arms(results, {tables.MAIN[name]: arm for name, arm in p.main.items()}, p),
            "Contrastive top-1 is the share of views whose nearest view is the other view of the same image; the "
            "effective rank is that of g(h). Both are means over the training batches of the last tenth of training.\n",
            "## Criteria\n",
            *section(verdicts),
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
        f"95 % t-interval. Differences are paired by seed. {ONE_SEED} "
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
        criterion: Verdict(
            {f"full minus {tables.MAIN[name]}": results.minus(arms["full"], arms[name])}, claim=CLAIMS[criterion]
        )
        for criterion, name in CRITERIA.items()
        if name in arms
    }
    if "crop" not in arms:
        return judged
    easier = results.minus(arms["crop"], arms["full"], tables.CONTRASTIVE)
    also = {"for the probe see crop alone": judged["crop alone"].met}
    judged["inversion"] = Verdict(
        {"contrastive top-1, crop only minus full": easier}, further=also, claim=CLAIMS["inversion"]
    )
    return judged


def _answer(results: tables.Results, verdicts: dict[str, Verdict], p: presets.Preset) -> str:
    """The answer in two sentences."""
    value = percent(t_interval([*results.of(p.main["full"]).values()]))

    def told(criterion: str, better: str, worse: str, whether: str) -> str:
        found = results.minus(p.main["full"], p.main[CRITERIA[criterion]]).interval
        by = gain(found)
        return verdicts[criterion].tell(better.format(by), worse.format(by), whether, f"{percent(found)} points")

    random = "on random weights"
    more, fewer = (f"that is {{}} {word} than {random}" for word in ("more", "fewer"))
    learned = told("learns", more, fewer, f"that is more than {random}")
    changes = {"crop alone": "distorting colours", "colour alone": "cropping", "head": "a nonlinear head"}
    parts = [
        told(name, f"{what} gains {{}}", f"{what} costs {{}}", f"{what} gains anything")
        for name, what in changes.items()
        if name in verdicts
    ]
    return (
        "A linear classifier on the features of contrastive learning (SimCLR: two views of each image, made by crops "
        f"and colour distortion) is right on {value} %, and {learned}. {sentence('; '.join(parts))}"
    )
