"""The report of the study: tables, criteria and the figure."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, plots
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.gallery import Gallery
from jaxvision.analysis.statistics import Difference, paired_by_seed, t_interval
from jaxvision.analysis.words import gain, listed, percent, points, sentence, table
from jaxvision.analysis.words import seeds as seeds_in_words
from jaxvision.commands.study import Row, records, sibling

presets = sibling(__file__, "presets")

Seeds = dict[int, float]
PROBE = "probe/probe_lbfgs/top1"
MEASURES = {"k-NN": "knn/knn20_t0.07/top1", "probe": PROBE, "1 %": "few/probe_lbfgs/top1"}
SPREAD = "embedding_std"  # in the records of training
REFERENCE = "simclr"  # method that others are compared with, on the same backbone
EXPECTED = (
    "Chen et al. 2020 (SimCLR, arXiv 2002.05709) and the papers of the other methods that compare views: after long "
    "training they come near to training with labels by a linear classifier. MAE and SimMIM are judged after "
    "fine-tuning in theirs."
)


def write(rows: list[Row], out: Path, p: presets.Preset) -> str:
    """Writes report.md, report.html, summary.json and figures/ to `out`; returns the report.

    Args:
      rows: Rows of all runs, with their tags and results.
      out: Folder of the study, which also holds the records of the runs.
      p: Preset of the runs.
    """
    rows = [_spread(out, row["run"]) | row for row in rows]
    verdicts = criteria(rows, p)
    report = "\n".join(
        [
            f"# Pretraining: {p.title}\n",
            *opening(_answer(rows, verdicts, p), EXPECTED, tally(verdicts)),
            "## Arms\n",
            f"Top-1 on the validation split in %: the mean over the seeds {listed(p.seeds)} with its 95 % t-interval. "
            f"k-NN: 20 neighbours among {p.labels['knn']:,} training images; probe: a linear classifier, fitted to "
            f"{p.labels['probe']:,} labels; 1 %: fitted to {p.labels['few']:,}.",
            *_arms(rows, p),
            "## Compute\n",
            f"Every arm that is trained gets the FLOPs of {p.steps:,} steps of {p.reference}; `{SPREAD}` is that of "
            "what the loss compares (projections, keys, or DINO's bottleneck) in the last record of training, near 1 "
            "on a whole sphere and 0 after a collapse.",
            *_compute(rows, p),
            "## Criteria\n",
            *section(verdicts),
            "\n## Against SimCLR, and against labels\n",
            "By the linear probe, on the same backbone; not criteria.\n",
            *_against(rows, p),
            "\n## Figure\n",
            *_draw(rows, out, p),
        ]
    )
    summary = {
        "top1": {name: {measure: of(rows, name, key) for measure, key in MEASURES.items()} for name in p.arms},
        "criteria": {name: verdict.met for name, verdict in verdicts.items()},
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", f"Pretraining: {p.title}")
    return report


def criteria(rows: Sequence[Row], p: presets.Preset) -> dict[str, Verdict]:
    """Judges the criteria of study.py.

    Args:
      rows: Results of all runs, one row per run.
      p: Preset of the runs.
    """
    return {
        name: Verdict(
            {f"{name} minus random weights": minus(rows, name, _other(name, "random"))},
            claim=f"{_told(name)} gives better features than random weights, by a linear classifier",
        )
        for name in methods(p)
    }


def methods(p: presets.Preset) -> list[str]:
    """Returns the names of the arms that learn without labels.

    Args:
      p: Preset of the runs.
    """
    return [name for name in p.arms if name.split("/")[1] not in presets.BASELINES]


def of(rows: Sequence[Row], name: str, key: str = PROBE) -> Seeds:
    """Returns the values of an arm by ascending seed; empty if it was not run.

    Args:
      rows: Results of all runs.
      name: Name of the arm.
      key: Key of the result in a row.
    """
    found = {row["seed"]: row[key] for row in rows if f"{row['backbone']}/{row['arm']}" == name and key in row}
    return dict(sorted(found.items()))


def minus(rows: Sequence[Row], one: str, other: str, key: str = PROBE) -> Difference:
    """Returns one arm minus another over the seeds that both have.

    Args:
      rows: Results of all runs.
      one: Name of the arm.
      other: Name of the arm to subtract.
      key: Key of the result in a row.
    """
    return paired_by_seed(of(rows, one, key), of(rows, other, key))


def _other(name: str, arm: str) -> str:
    """The name of another arm on the same backbone."""
    return f"{name.split('/')[0]}/{arm}"


def _told(name: str) -> str:
    backbone, arm = name.split("/")
    return f"{arm} on {backbone}"


def _spread(out: Path, run: str) -> Row:
    """The spread of the projections in the last records of a run, if it has one."""
    lines = [line for line in records(out, run) if SPREAD in line]
    return {SPREAD: lines[-1][SPREAD]} if lines else {}


def _answer(rows: Sequence[Row], verdicts: dict[str, Verdict], p: presets.Preset) -> str:
    """The answer in two sentences."""
    told = []
    for name, verdict in verdicts.items():
        found = minus(rows, name, _other(name, "random")).interval
        what = _told(name)
        told.append(
            verdict.tell(
                f"{what} gains {gain(found)}",
                f"{what} costs {gain(found)}",
                f"{what} gains anything",
                f"{percent(found)} points",
            )
        )
    labels = []
    for backbone in dict.fromkeys(name.split("/")[0] for name in p.arms):
        with_labels = percent(t_interval([*of(rows, f"{backbone}/supervised").values()]))
        mine = [name for name in methods(p) if name.startswith(f"{backbone}/")]
        best = max(mine, key=lambda name: t_interval([*of(rows, name).values()]).mean)
        value = percent(t_interval([*of(rows, best).values()]))
        labels.append(f"{with_labels} % against {value} % of the best method, {_told(best)}")
    return (
        f"Over random weights, by a linear classifier and at equal compute, {'; '.join(told)}. "
        f"{sentence(f'training with all labels gives {listed(labels)}')}"
    )


def _arms(rows: Sequence[Row], p: presets.Preset) -> list[str]:
    lines = {}
    for name in p.arms:
        cells = [percent(t_interval([*of(rows, name, key).values()])) for key in MEASURES.values()]
        if name.split("/")[1] == "random":
            gains = [""] * len(MEASURES)
        else:
            random = _other(name, "random")
            gains = [percent(minus(rows, name, random, key).interval) for key in MEASURES.values()]
        lines[_told(name)] = [*cells, *gains]
    return table("arm", [*MEASURES, *(f"{measure}, minus random" for measure in MEASURES)], lines)


def _compute(rows: Sequence[Row], p: presets.Preset) -> list[str]:
    lines = {}
    for name in p.arms:
        mine = [row for row in rows if f"{row['backbone']}/{row['arm']}" == name]
        if not mine:
            continue
        steps, images, flops = (mine[0][key] for key in ("steps", "images", "flops"))
        each = f"{flops / steps / 1e9:.3g}" if steps else ""
        spread = [row[SPREAD] for row in mine if SPREAD in row]
        mean = f"{sum(spread) / len(spread):.2f}" if spread else ""
        lines[_told(name)] = [f"{steps:,}", f"{images:,}", each, f"{flops:.3g}", mean]
    return table("arm", ["steps", "images", "GFLOPs a step", "FLOPs", f"`{SPREAD}`"], lines)


def _against(rows: Sequence[Row], p: presets.Preset) -> Iterator[str]:
    for name in methods(p):
        for arm in (REFERENCE, "supervised"):
            if (other := _other(name, arm)) in p.arms and other != name:
                yield f"- {name} minus {other}: {points(minus(rows, name, other))}."


def _draw(rows: Sequence[Row], out: Path, p: presets.Preset) -> list[str]:
    """Draws figures/arms.svg and .png in `out`. Returns a line of Markdown for it, also if it is left out."""
    gallery, names = Gallery(out), [*p.arms]
    caption = (
        "Accuracy on the validation split by k-NN, by a linear probe, and by one that is fitted to 1 % of the labels. "
        f"Dots are runs, bars 95 % t-intervals of the mean over {seeds_in_words(p.seeds)}."
    )
    if path := gallery.place("arms", "top-1 of every arm, by three measures", caption, [names]):
        size = (10.0, 1.4 + 0.3 * len(names))
        with plots.canvas(path, 1, len(MEASURES), size, sharey=True) as axes:
            for axis, (measure, key) in zip(axes, MEASURES.items()):
                for y, name in enumerate(names):
                    values = [*of(rows, name, key).values()]
                    mean = t_interval(values)
                    colour = plots.COLOURS[name.split("/")[1] in presets.BASELINES]
                    axis.plot([100 * value for value in values], [y] * len(values), ".", color=colour, alpha=0.5)
                    axis.errorbar(100 * mean.mean, y, xerr=100 * mean.half, fmt="o", ms=4, capsize=3, color=colour)
                axis.set(title=measure, xlabel="top-1 (%)")
            axes[0].set_yticks(range(len(names)), list(map(_told, names)))
            axes[0].invert_yaxis()
    return gallery.lines
