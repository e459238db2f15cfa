"""The report of the study: tables, criteria and figures."""

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, plots
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.gallery import Gallery, informative_panels
from jaxvision.analysis.statistics import Difference, paired_difference, t_interval
from jaxvision.analysis.words import ONE_SEED, gain, listed, percent, points, sentence, table
from jaxvision.commands.study import Row, records, sibling
from jaxvision.data.shapes import CLASSES

presets = sibling(__file__, "presets")

Seeds = dict[int, float]
FAR = 0.2
GUESSED_KIND = 1 / len(CLASSES)  # accuracy on pairs if every colour is right and the kind is guessed
CLIP = "Radford et al. 2021 (CLIP, arXiv 2103.00020, sec. 3.1)"
EXPECTED = {  # criterion -> what was expected, the first that a preset has
    "one_prompt": f"{CLIP}: an ensemble of 80 prompts gains 3.5 points on ImageNet over the one prompt of its default.",
    "ensemble": f"{CLIP}: images find their classes by names alone, and an ensemble of prompts finds them better.",
    "composes": f"{CLIP}: images find their classes by names alone; that this holds for pairs of words that were never "
    "seen together is our own question, and no paper's.",
    "far": f"{CLIP}: captions that people wrote teach enough to find one by the other; the bar of {100 * FAR:g} points "
    "is ours.",
}


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
    one = f" {ONE_SEED}" if len(p.further_seeds) == 1 else ""
    report = "\n".join(
        [
            f"# Image and text: {p.title}\n",
            *opening(
                _answer(p, values, verdicts),
                next(EXPECTED[name] for name in EXPECTED if name in p.criteria),
                tally(verdicts),
            ),
            "## Pairs and shuffled captions\n",
            "Results are in % on the validation split: the mean over seeds with its 95 % t-interval. Differences are "
            f"paired by seed. Seeds of the arms of the criteria: {_list(p.seeds)}; of the other arms, and of the "
            f"comparison of batch sizes: {_list(p.further_seeds)}. Every run sees {p.images:,} pairs.{chance}{one}\n",
            *_gated(p, values),
            "## Criteria\n",
            *section(verdicts),
            "",
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
        claim = "images find their classes by their names more often than by chance"
        if name == "composes":
            claim = f"pairs of words that were never seen together are found more often than by {what}"
        return Verdict({f"{p.reported[keys[0]]} minus {what}": minus(values("softmax", keys[0]), guess)}, claim=claim)
    if name in ("ensemble", "one_prompt"):
        other = "the mean of its single prompts" if name == "ensemble" else "the prompt that CLIP takes by default"
        claim = f"the ensemble of prompts is better than {other}"
        return Verdict({f"the ensemble minus {other}": minus(*(values("softmax", key) for key in keys))}, claim=claim)
    gains = {
        f"{p.reported[key]}, softmax minus shuffled": minus(values("softmax", key), values("shuffled", key))
        for key in keys
    }
    more = f"by more than {100 * FAR:g} points" if name == "far" else "by any amount"
    claim = f"true captions teach more than shuffled ones, {more}"
    if name == "far":
        return Verdict(gains, least=FAR, claim=claim, bound=f"{100 * FAR:g} points")
    return Verdict(gains, claim=claim)


def _answer(p: presets.Preset, values: Callable, verdicts: dict[str, Verdict]) -> str:
    """The answer in two sentences: what was learned, and the criterion that is particular to the preset."""
    key, measured = p.measure
    value = percent(t_interval([*values("softmax", key).values()]))
    base, found = "shuffled captions", minus(values("softmax", key), values("shuffled", key)).interval
    if p.chance is not None:
        base, found = f"chance ({100 * p.chance:g} %)", minus(values("softmax", key), p.chance).interval
    told = verdicts["learns" if p.chance is not None else "pairs"].tell(
        f"that is {gain(found)} above {base}",
        f"that is {gain(found)} below {base}",
        f"that is above {base}",
        f"{percent(found)} points",
    )
    first = f"A network that learned from images and captions alone reaches {value} % ({measured}), and {told}."
    return f"{first} {sentence(_particular(p, values, verdicts))}"


def _particular(p: presets.Preset, values: Callable, verdicts: dict[str, Verdict]) -> str:
    if "far" in verdicts:
        found = [gap.interval for gap in verdicts["far"].gains.values()]
        least, bar = min(found, key=lambda interval: interval.low), f"{100 * FAR:g} points"
        true, all_of, by = "true captions are", f"all {len(found)} measures", f"{percent(least)} points"
        return verdicts["far"].tell(
            f"{true} more than {bar} above shuffled ones on {all_of}, on each by {gain(least)} or more",
            f"{true} less than {bar} above shuffled ones on one of {len(found)} measures or more ({by})",
            f"{true} more than {bar} above shuffled ones on {all_of}",
            f"on one by {by}",
        )
    if "composes" in verdicts:
        value = percent(t_interval([*values("softmax", p.criteria["composes"][0]).values()]))
        told = _better(verdicts["composes"], "that", "naming the colour alone")
        return f"of scenes with pairs of colour and kind that were never seen together it finds {value} %; {told}"
    other = {"ensemble": "the mean of its single prompts", "one_prompt": 'the one prompt "a photo of a {}."'}
    parts = [
        _better(verdicts[name], "the ensemble of 80 prompts", than) for name, than in other.items() if name in verdicts
    ]
    return "; ".join(parts)


def _better(verdict: Verdict, what: str, than: str) -> str:
    [found] = (gap.interval for gap in verdict.gains.values())
    better, worse = (f"{what} is {gain(found)} {word} than {than}" for word in ("better", "worse"))
    return verdict.tell(better, worse, f"{what} is better than {than}", f"{percent(found)} points")


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
    """Draws figures/*.svg and .png in `out`. Returns a line of Markdown for each, also for one that is left out."""
    gallery, measured = Gallery(out), p.measure[1]
    by_loss = {loss: {size: [*s.values()] for size, s in c.items()} for loss, c in _by_loss(p, values).items()}
    panels = {"pairs seen": _curves(rows, out, p), "batch size": by_loss}
    shown = informative_panels(panels)
    caption = (
        f"{measured[0].upper()}{measured[1:]}; over {', and over '.join(shown)}. Dots are runs, bands 95 % t-intervals "
        f"of the mean over {len(p.seeds)} seeds; a curve without a band comes from one seed."
        + (" The dashed line is chance." if p.chance is not None else "")
    )
    points = [curve for curves in shown.values() for curve in curves.values()]
    for x in [x for x in panels if shown and x not in shown]:
        gallery.place("", f"{measured}, against {x}", "", panels[x].values())
    path = gallery.place("accuracy", f"{measured}, against {listed([*(shown or panels)])}", caption, points)
    if not path:
        return gallery.lines
    with plots.canvas(path, 1, len(shown), (1.2 + 4.2 * len(shown), 3.8), squeeze=False) as axes:
        for axis, (x, arms) in zip(axes[0], shown.items()):
            plots.bands(axis, arms)
            if x == "batch size":
                plots.count_axis(axis, sorted({size for curve in arms.values() for size in curve}), x)
            else:
                axis.set_xlabel(x)
                axis.xaxis.set_major_formatter("{x:,.0f}")
            if p.chance is not None:
                axis.axhline(100 * p.chance, ls="--", lw=1, color="0.5", label="chance")
            axis.set_title(p.title)
            axis.legend()
        axes[0, 0].set_ylabel(f"{measured} (%)")
    return gallery.lines


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
