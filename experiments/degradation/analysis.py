"""The report of the study: tables, criteria and the figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, plots
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.gallery import Gallery, informative_panels
from jaxvision.analysis.statistics import Difference, Interval, paired_by_seed, paired_difference, t_interval
from jaxvision.analysis.words import percent, sentence, table
from jaxvision.analysis.words import seeds as seeds_in_words
from jaxvision.commands.study import Row, records, sibling

presets = sibling(__file__, "presets")

LOSS, ACCURACY = "train_loss", "train_top1"
RECORDED = {LOSS: "loss", ACCURACY: "top1"}  # key in a row -> key in the records of training
EXPECTED = (
    "He et al. 2016 (arXiv 1512.03385, sec. 4.2, fig. 6): deeper plain networks fit even their training images worse, "
    "and networks with shortcuts fit them better the deeper they are."
)


def write(rows: list[Row], out: Path, p: presets.Preset) -> str:
    """Writes report.md, report.html, summary.json and figures/ to `out`; returns the report.

    Args:
      rows: Rows of all runs, with "run", "kind", "depth", "seed" and their results.
      out: Folder of the study, which also holds the records of the runs.
      p: Preset of the runs.
    """
    rows = with_training(rows, out)
    verdicts = criteria(rows, p)
    steps = p.train["total"].replace("_", ",")
    report = "\n".join(
        [
            f"# Degradation: {p.title}\n",
            *opening(_answer(rows, p), EXPECTED, tally(verdicts)),
            "## Networks\n",
            f"Means over the seeds {', '.join(map(str, p.seeds))} with their 95 % t-intervals; differences are paired "
            f"by seed. Every run takes {steps} of {p.data['batch_size']} images. Training loss (nats) and training "
            "error (%) are those of the last training batches, with crops and flips; validation error (%) is that on "
            f"{p.validation}, after the last step.",
            *_table(rows, p),
            "## Criteria\n",
            *section(verdicts),
            "\n## Figure\n",
            *_draw(rows, out, p),
        ]
    )
    summary = {
        "train_loss": {f"{k}{d}": of(rows, k, d, LOSS) for k in presets.KINDS for d in p.depths},
        "criteria": {name: verdict.met for name, verdict in verdicts.items()},
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", f"Degradation: {p.title}")
    return report


def with_training(rows: Sequence[Row], out: Path) -> list[Row]:
    """Returns the rows with training loss and accuracy from the last records of each run.

    Args:
      rows: Rows of all runs.
      out: Folder of the study.
    """
    completed = []
    for row in rows:
        lines = [line for line in records(out, row["run"]) if "loss" in line]
        trained = {key: lines[-1][name] for key, name in RECORDED.items() if name in lines[-1]} if lines else {}
        completed.append(trained | row)
    return completed


def criteria(rows: Sequence[Row], p: presets.Preset) -> dict[str, Verdict]:
    """Judges the criteria of study.py.

    Args:
      rows: Rows of all runs, with their training loss.
      p: Preset of the runs.
    """
    shallow, deep = p.depths[0], p.depths[-1]
    plain, residual = (_minus(rows, kind, deep, shallow, LOSS) for kind in ("plain", "residual"))
    cured = paired_difference(plain.each, residual.each)
    worse = bool(residual.interval.low > 0)
    also = {f"residual, {deep} minus {shallow} layers: {nats(residual)}": not worse}
    return {
        "degrades": Verdict(
            {f"training loss, plain, {deep} minus {shallow} layers": plain},
            show=nats,
            claim=f"without shortcuts, {deep} layers end with a higher training loss than {shallow}",
        ),
        "cured": Verdict(
            {"that minus the same of residual": cured},
            further=also,
            show=nats,
            claim="shortcuts make this difference smaller, and with them it is not above zero",
        ),
        "gains": Verdict(
            {f"training loss, residual, {shallow} minus {deep} layers": _minus(rows, "residual", shallow, deep, LOSS)},
            show=nats,
            claim=f"with shortcuts, {deep} layers end with a lower training loss than {shallow}",
        ),
    }


def _answer(rows: Sequence[Row], p: presets.Preset) -> str:
    """The answer in two sentences."""
    shallow, deep = p.depths[0], p.depths[-1]

    def deeper(kind: str) -> str:
        more = _minus(rows, kind, deep, shallow, LOSS)
        by = f"{_number(more.interval if more.interval.mean >= 0 else more.interval.negated())} nats"
        return Verdict({"more": more}).tell(
            f"{deep} layers end with a training loss that is {by} higher than that of {shallow}",
            f"{deep} layers end with a training loss that is {by} lower than that of {shallow}",
            f"{deep} layers end with a {'higher' if more.interval.mean > 0 else 'lower'} training loss than {shallow}",
            f"a difference of {by}",
        )

    return " ".join(
        sentence(f"{what} shortcuts, {deeper(kind)}") for what, kind in (("without", "plain"), ("with", "residual"))
    )


def nats(difference: Difference) -> str:
    """Formats a difference of losses, with each seed.

    Args:
      difference: Difference of losses in nats.
    """
    each = ", ".join(f"{value:+.3f}" for value in difference.each)
    return f"{_number(difference.interval)} nats (by seed {each}; permutation p {difference.p:.2f})"


def of(rows: Sequence[Row], kind: str, depth: int, key: str) -> dict[int, float]:
    """Returns the values of a network by seed.

    Args:
      rows: Rows of all runs.
      kind: Kind of the network, "plain" or "residual".
      depth: Number of its layers.
      key: Key of the value in a row.
    """
    named = [row for row in rows if (row["kind"], row["depth"]) == (kind, depth) and row.get(key) is not None]
    return {row["seed"]: row[key] for row in sorted(named, key=lambda row: row["seed"])}


def _minus(rows: Sequence[Row], kind: str, depth: int, other: int, key: str) -> Difference:
    return paired_by_seed(of(rows, kind, depth, key), of(rows, kind, other, key))


def _number(interval: Interval) -> str:
    return f"{interval.mean:.3f}" + ("" if np.isnan(interval.half) else f" ± {interval.half:.3f}")


def _table(rows: Sequence[Row], p: presets.Preset) -> list[str]:
    validation = f"{next(iter(p.evals))}/top1"
    error = lambda values: percent(t_interval([1 - value for value in values.values()])) if values else ""
    lines = {}
    for kind in presets.KINDS:
        for depth in p.depths:
            if losses := of(rows, kind, depth, LOSS):
                errors = [error(of(rows, kind, depth, key)) for key in (ACCURACY, validation)]
                lines[f"{kind}, {depth} layers"] = [_number(t_interval([*losses.values()])), *errors]
    return table("network", ["training loss", "training error", "validation error"], lines)


def _draw(rows: Sequence[Row], out: Path, p: presets.Preset) -> list[str]:
    """Draws figures/training.svg and .png in `out`. Returns a line of Markdown for it, also if it is left out."""
    gallery = Gallery(out)
    panels = {
        kind: {f"{depth} layers": curve for depth in p.depths if (curve := _curve(rows, out, kind, depth))}
        for kind in presets.KINDS
    }
    caption = (
        "Error on the training batches over steps, without shortcuts (plain) and with them (residual), a curve for "
        f"each depth. Dots are seeds, bands 95 % t-intervals of the mean over {seeds_in_words(p.seeds)}."
    )
    what = "training error against steps, plain and residual networks"
    panels = informative_panels(panels)
    if path := gallery.place("training", what, caption, [c for arms in panels.values() for c in arms.values()]):
        with plots.canvas(path, 1, len(panels), (4.8 * len(panels), 3.8), sharey=True, squeeze=False) as axes:
            for axis, (kind, curves) in zip(axes[0], panels.items()):
                plots.bands(axis, curves)
                axis.set(xlabel="step", title=kind)
                axis.legend()
            axes[0, 0].set_ylabel("training error (%)")
    return gallery.lines


def _curve(rows: Sequence[Row], out: Path, kind: str, depth: int) -> dict[int, list[float]]:
    """Returns the training errors of all seeds by step."""
    curve: dict[int, list[float]] = {}
    for row in rows:
        if (row["kind"], row["depth"]) == (kind, depth):
            for line in records(out, row["run"]):
                if "top1" in line:
                    curve.setdefault(line["step"], []).append(1 - line["top1"])
    return curve
