"""The report of the study: tables, criteria and figures."""

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, plots
from jaxvision.analysis.criteria import Verdict
from jaxvision.analysis.statistics import Difference, paired_difference, t_interval
from jaxvision.analysis.words import percent, points, table
from jaxvision.commands.study import Row, records, sibling
from jaxvision.data.shapes import CLASSES

presets = sibling(__file__, "presets")

Seeds = dict[int, float]
FAR = 0.2
GUESSED_KIND = 1 / len(CLASSES)  # accuracy on pairs if every colour is right and the kind is guessed


def write(rows: list[Row], out: Path, p: presets.Preset) -> str:
    """Writes report.md, report.html, summary.json and figures/ to `out`; returns the report.

    Args:
      rows: Rows of all runs, with "run", "arm", "seed" and their results.
      out: Folder of the study, which also holds the records of the runs.
      p: Preset of the runs.
    """
    values, verdicts = by_arm(rows), criteria(rows, p)
    key, measured = p.measure
    chance = "" if p.chance is None else f" Chance is {100 * p.chance:g} %."
    report = "\n".join(
        [
            f"# Image and text: {p.title}\n",
            "Results are in % on the validation split: the mean over seeds with its 95 % t-interval. Differences are "
            f"paired by seed. Seeds of the arms of the criteria: {_list(p.seeds)}; of the other arms, and of the "
            f"comparison of batch sizes: {_list(p.further_seeds)}. Every run sees {p.images:,} pairs.{chance}\n",
            "## Pairs and shuffled captions\n",
            *_gated(p, values),
            "## Criteria\n",
            *(verdict.line(name) for name, verdict in verdicts.items()),
            *_prompts(p, values),
            f"\n## {measured[0].upper()}{measured[1:]}\n",
            *_batches(p, values),
            *_others(p, values),
            "## Figures\n",
            *_draw(rows, values, out, p),
        ]
    )
    summary = {
        "data": p.title,
        "arms": {arm: values(arm, key) for arm in dict.fromkeys(row["arm"] for row in rows)},
        "criteria": {name: verdict.met for name, verdict in verdicts.items()},
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", f"Image and text: {p.title}")
    return report


def by_arm(rows: Sequence[Row]) -> Callable[[str, str], Seeds]:
    """Returns a function `(arm, key)` -> value of a result for each seed that has it.

    Args:
      rows: Rows of all runs.
    """
    return lambda arm, key: {r["seed"]: r[key] for r in rows if r["arm"] == arm and r.get(key) is not None}


def criteria(rows: Sequence[Row], p: presets.Preset) -> dict[str, Verdict]:
    """Judges the criteria that the preset names.

    Args:
      rows: Rows of all runs.
      p: Preset of the runs.
    """
    return {name: _criterion(name, p, by_arm(rows)) for name in p.criteria}


def minus(a: Seeds, b: Seeds | float) -> Difference:
    """Returns a - b over the seeds that both have; b may be a number.

    Args:
      a: Value of each seed.
      b: Value of each seed, or one number.
    """
    both = sorted(a.keys() & b.keys() if isinstance(b, dict) else a)
    return paired_difference([a[seed] for seed in both], [b[seed] if isinstance(b, dict) else b for seed in both])


def _criterion(name: str, p: presets.Preset, values: Callable) -> Verdict:
    keys = p.criteria[name]
    if name in ("learns", "composes"):
        guess, what = (p.chance, "chance") if name == "learns" else (GUESSED_KIND, "naming the colour alone")
        return Verdict({f"{p.reported[keys[0]]} minus {what}": minus(values("softmax", keys[0]), guess)})
    if name in ("ensemble", "one_prompt"):
        other = "the mean of its single prompts" if name == "ensemble" else "the prompt that CLIP takes by default"
        return Verdict({f"the ensemble minus {other}": minus(*(values("softmax", key) for key in keys))})
    gains = {
        f"{p.reported[key]}, softmax minus shuffled": minus(values("softmax", key), values("shuffled", key))
        for key in keys
    }
    return Verdict(gains, least=FAR if name == "far" else 0.0)


def _gated(p: presets.Preset, values: Callable) -> list[str]:
    lines = {}
    for key, label in p.reported.items():
        softmax, shuffled = values("softmax", key), values("shuffled", key)
        each = [t_interval([*softmax.values()]), t_interval([*shuffled.values()]), minus(softmax, shuffled).interval]
        lines[label] = list(map(percent, each))
    return table("measure", ["softmax", "shuffled captions", "difference"], lines)


def _prompts(p: presets.Preset, values: Callable) -> list[str]:
    """Returns lines on other gains of ensembles, which are not criteria."""
    if "ensemble" not in p.criteria:
        return []
    result = lambda name: values("softmax", next(key for key, label in p.reported.items() if label == name))
    pairs = [("80 prompts", "one prompt"), ("7 prompts", "mean of the 7 alone")]["one_prompt" in p.criteria :]
    return [f"- {a} minus {b} (not a criterion): {points(minus(result(a), result(b)))}." for a, b in pairs]


def _batches(p: presets.Preset, values: Callable) -> list[str]:
    """Returns the table of each loss at each batch size."""
    by_loss = _by_loss(p, values)
    sizes = sorted({size for curve in by_loss.values() for size in curve})
    lines = {
        loss: [percent(t_interval([*curve[size].values()])) if size in curve else "" for size in sizes]
        for loss, curve in by_loss.items()
    }
    return table("loss", [f"batch {size}" for size in sizes], lines)


def _by_loss(p: presets.Preset, values: Callable) -> dict[str, dict[int, Seeds]]:
    """Returns the results by loss and batch size, for the seeds that all sizes have."""
    arms = {"softmax": p.full, **{name: arm for name, arm in p.further.items() if name.startswith("batch/")}}
    curves: dict[str, dict[int, Seeds]] = {loss: {} for loss in presets.LOSSES}
    for name, arm in arms.items():
        if seeds := {seed: x for seed, x in values(name, p.measure[0]).items() if seed in p.further_seeds}:
            curves[arm.loss][arm.batch_size] = seeds
    return {loss: dict(sorted(curve.items())) for loss, curve in curves.items() if curve}


def _others(p: presets.Preset, values: Callable) -> list[str]:
    """Returns the table that compares the arms of the temperature with `full`, those of the tower with `scratch`."""
    key, lines = p.measure[0], {}
    for name in p.further:
        seeds, base = values(name, key), "tower/scratch" if name.startswith("tower/") else "softmax"
        if seeds and not name.startswith("batch/"):
            gain = "" if name == base else percent(minus(seeds, values(base, key)).interval)
            lines[name.replace("/", ", ")] = [percent(t_interval([*seeds.values()])), gain]
    if labels := values("labels", "val/top1"):
        lines["the tower with the classifier that it was trained with"] = [percent(t_interval([*labels.values()])), ""]
    head = ["value", "minus learned temperature, or tower from scratch"]
    return table("arm", head, lines) if lines else []


def _draw(rows: Sequence[Row], values: Callable, out: Path, p: presets.Preset) -> list[str]:
    """Draws figures/*.svg and .png in `out`. Returns a line of Markdown for each."""
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    measured = p.measure[1]
    by_loss = {loss: {size: [*s.values()] for size, s in c.items()} for loss, c in _by_loss(p, values).items()}
    panels = {"batch": by_loss}
    if curves := _curves(rows, out, p):
        panels = {"pairs": curves, **panels}
    with plots.canvas(folder / "accuracy", 1, len(panels), (1.2 + 4.2 * len(panels), 3.8), squeeze=False) as axes:
        for axis, (what, arms) in zip(axes[0], panels.items()):
            plots.bands(axis, arms)
            if what == "batch":
                plots.count_axis(axis, sorted({x for curve in arms.values() for x in curve}), "batch size")
            else:
                axis.set_xlabel("pairs seen")
            if p.chance is not None:
                axis.axhline(100 * p.chance, ls="--", lw=1, color="0.5", label="chance")
            axis.set_title(p.title)
            axis.legend()
        axes[0, 0].set_ylabel(f"{measured} (%)")
    return [f"![{measured}, against pairs seen and batch size](figures/accuracy.png)\n"]


def _curves(rows: Sequence[Row], out: Path, p: presets.Preset) -> dict[str, dict[int, list[float]]]:
    """Returns the results during training by arm and pairs seen, for runs whose records exist."""
    sigmoid = f"batch/sigmoid/{p.full.batch_size}"
    arms = {"softmax": "softmax", sigmoid: "sigmoid", "shuffled": "shuffled captions"}
    curves: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        for record in records(out, row["run"]) if row["arm"] in arms else ():
            if p.measure[0] in record:
                seen = record["step"] * p.full.batch_size
                curves.setdefault(arms[row["arm"]], {}).setdefault(seen, []).append(record[p.measure[0]])
    return {arm: curves[arm] for arm in arms.values() if arm in curves}


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
