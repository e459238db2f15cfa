"""The report of the study: tables, criteria and figures."""

from collections.abc import Sequence
from pathlib import Path

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, plots
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.gallery import Gallery, informative_panels
from jaxvision.analysis.statistics import Difference, Interval, paired_difference, t_interval
from jaxvision.analysis.words import ONE_SEED, gain, percent, points, sentence, table
from jaxvision.analysis.words import seeds as seeds_in_words
from jaxvision.commands.study import Row, records, sibling
from jaxvision.evals import features

presets = sibling(__file__, "presets")

Seeds = dict[int, float]
Cells = dict[str, dict[int, Seeds]]  # arm -> stage from 1, or labelled images -> a value for each seed
TASK = "rotation_top1"  # accuracy on rotations, in the records of training
THIRD, LAST = 3, len(presets.STAGES)
PAPER = (85.07, 89.06, 86.21, 61.73)  # table 1, four blocks, by stage
EXPECTED = (
    "Gidaris et al. 2018 (arXiv 1803.07728, tables 1 and 3): what rotations teach is between random weights and "
    "training with all labels, and the middle stages know most about the classes, the last one least."
)
CLAIMS = {
    "learns": "what rotations teach is worth more than random weights, by a linear classifier on the third stage",
    "below": "training with all labels is worth more than rotations, at the same stage",
    "task": "the network recognises more than {:g} % of the rotations of its training images",
}


def write(rows: list[Row], out: Path, p: presets.Preset) -> str:
    """Writes report.md, report.html, summary.json and figures/ to `out`; returns the report.

    Args:
      rows: Rows of all runs, with "run", "protocol", "arm", "seed" and their results.
      out: Folder of the study, which also holds the records of the runs.
      p: Preset of the runs.
    """
    rows = with_training(rows, out)
    stages, labels = by_stage(rows, "stages"), by_labels(rows)
    angles = {"all four": stages["rotation"], **by_stage(rows, "angles")}
    verdicts = criteria(rows, p)
    share = {stage: _share(stages, stage) for stage in stages["rotation"]} if "supervised" in stages else {}
    report = "\n".join(
        [
            f"# Rotation: {p.title}\n",
            *opening(_answer(rows, stages, verdicts, p), EXPECTED, tally(verdicts)),
            f"Results are top-1 in % on {p.validation}: the mean over the seeds {', '.join(map(str, p.seeds))} with "
            "its 95 % t-interval. Differences are paired by seed.\n",
            "## Stages\n",
            "Top-1 of a linear probe on each stage. "
            f"Every network but the random one is trained for {p.train['total'].replace('_', ',')}.",
            *_stages(stages),
            *_shares(share),
            "## Criteria\n",
            *section(verdicts),
            "\n## Profile\n",
            "The last stage minus the best one; the best is chosen by its mean. In the paper this is "
            f"{PAPER[-1] - max(PAPER):.1f} points, with a non-linear classifier of the whole map.\n",
            *(f"- {arm}: {_fall(stages[arm])}." for arm in stages),
            *_angles(angles, _answered(rows), p),
            *_labels(labels, p),
            "\n## Figures\n",
            *_draw(stages, angles, labels, out, p),
        ]
    )
    summary = {"stages": stages, "angles": angles, "labels": labels, "share": share, "versions": workdirs.versions()}
    summary["criteria"] = {name: verdict.met for name, verdict in verdicts.items()}
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", f"Rotation: {p.title}")
    return report


def with_training(rows: Sequence[Row], out: Path) -> list[Row]:
    """Returns the rows with the accuracy on rotations from the last records of each run that learned to tell them.

    Args:
      rows: Rows of all runs.
      out: Folder of the study.
    """
    completed = []
    for row in rows:
        lines = [line for line in records(out, row["run"]) if TASK in line]
        completed.append(({TASK: lines[-1][TASK]} if lines else {}) | row)
    return completed


def criteria(rows: Sequence[Row], p: presets.Preset) -> dict[str, Verdict]:
    """Judges the criteria of study.py that the preset has the arms for.

    Args:
      rows: Results of all runs, one row per run, with the accuracy on rotations.
      p: Preset of the runs.
    """
    stages = by_stage(rows, "stages")
    pairs = {"learns": ("rotation", "random"), "below": ("supervised", "rotation")}
    verdicts = {
        name: Verdict({f"third stage, {a} minus {b}": minus(stages[a][THIRD], stages[b][THIRD])}, claim=CLAIMS[name])
        for name, (a, b) in pairs.items()
        if a in p.arms
    }
    if p.bar is not None:
        told = [row[TASK] for row in rows if (row["protocol"], row["arm"]) == ("stages", "rotation")]
        above = paired_difference(told, [p.bar] * len(told))
        verdicts["task"] = Verdict(
            {f"accuracy on rotations minus {100 * p.bar:g} %": above}, claim=CLAIMS["task"].format(100 * p.bar)
        )
    return verdicts


def _answer(rows: Sequence[Row], stages: Cells, verdicts: dict[str, Verdict], p: presets.Preset) -> str:
    """The answer in two sentences."""
    third = {arm: of[THIRD] for arm, of in stages.items()}
    rotation = percent(_mean(third["rotation"]))
    found = minus(third["rotation"], third["random"]).interval
    told = verdicts["learns"].tell(
        f"it is {gain(found)} better than on random weights",
        f"it is {gain(found)} worse than on random weights",
        f"it is better than on random weights ({percent(_mean(third['random']))} %)",
        f"{percent(found)} points",
    )
    if "below" in verdicts:
        short = minus(third["supervised"], third["rotation"]).interval
        told += "; " + verdicts["below"].tell(
            f"it is {gain(short)} worse than after training with all labels",
            f"it is {gain(short)} better than after training with all labels",
            "it is worse than after training with all labels",
            f"{percent(short)} points",
        )
    first = (
        "A linear classifier on the third stage of a network that learned only to recognise how images were rotated "
        f"is right on {rotation} %: {told}"
    )
    return f"{first}. {_task(rows, verdicts, p) if 'task' in verdicts else _profile(stages)}"


def _task(rows: Sequence[Row], verdicts: dict[str, Verdict], p: presets.Preset) -> str:
    told = percent(t_interval(_answered(rows)["all four"]))
    bar = f"{100 * p.bar:g} %"
    return sentence(
        verdicts["task"].tell(
            f"it recognises {told} % of the rotations, more than {bar}",
            f"it recognises only {told} % of the rotations, fewer than {bar}",
            f"it recognises more than {bar} of the rotations",
            f"{told} %",
        )
    )


def _profile(stages: Cells) -> str:
    best = _best_stage(stages["rotation"])
    if best == LAST:
        return f"Its last stage is the best of {LAST}, with {percent(_mean(stages['rotation'][LAST]))} %."
    fall = minus(stages["rotation"][best], stages["rotation"][LAST])
    told = Verdict({"fall": fall}).tell(
        f"the last is {gain(fall.interval)} below it",
        f"the last is {gain(fall.interval)} above it",
        "the last is below it",
        f"{percent(fall.interval)} points",
    )
    return f"Stage {best} of {LAST} is its best, with {percent(_mean(stages['rotation'][best]))} %, and {told}."


def by_stage(rows: Sequence[Row], protocol: str) -> Cells:
    """Returns top-1 of the probes by arm, stage and seed.

    Args:
      rows: Results of all runs.
      protocol: Protocol of the runs, "stages" or "angles".
    """
    cells: Cells = {}
    for row in rows:
        if row["protocol"] == protocol:
            for stage, layer in enumerate(presets.STAGES, start=1):
                value = row[f"probe/{features.protocol_name('probe_lbfgs', layer)}/top1"]
                cells.setdefault(row["arm"], {}).setdefault(stage, {})[row["seed"]] = value
    return cells


def by_labels(rows: Sequence[Row]) -> Cells:
    """Returns top-1 by arm, number of labelled images and seed.

    Args:
      rows: Results of all runs.
    """
    cells: Cells = {}
    for row in rows:
        if row["protocol"] == "labels":
            cells.setdefault(row["arm"], {}).setdefault(row["examples"], {})[row["seed"]] = row["val/top1"]
    return cells


def minus(a: Seeds, b: Seeds) -> Difference:
    """Returns a - b over the seeds that both have.

    Args:
      a: Value of each seed.
      b: Value of each seed.
    """
    both = sorted(a.keys() & b.keys())
    return paired_difference([a[seed] for seed in both], [b[seed] for seed in both])


def _mean(seeds: Seeds) -> Interval:
    return t_interval([*seeds.values()])


def _share(stages: Cells, stage: int) -> list[float]:
    random, rotation, supervised = (stages[arm][stage] for arm in ("random", "rotation", "supervised"))
    both = sorted(rotation.keys() & random.keys() & supervised.keys())
    return [(rotation[s] - random[s]) / (supervised[s] - random[s]) for s in both]


def _stages(stages: Cells) -> list[str]:
    lines = {arm: [percent(_mean(seeds)) for seeds in of.values()] for arm, of in stages.items()}
    for a, b in [pair for pair in (("rotation", "random"), ("supervised", "rotation")) if pair[0] in stages]:
        lines[f"{a} minus {b}"] = [percent(minus(stages[a][s], stages[b][s]).interval) for s in stages[a]]
    return table("network", [f"stage {stage}" for stage in stages["rotation"]], lines)


def _shares(share: dict[int, list[float]]) -> list[str]:
    if not share:
        return []
    each = "; ".join(f"stage {stage} {percent(t_interval(values))}" for stage, values in share.items())
    return [f"Share of the gap between the random and the supervised network that rotation closes, in %: {each}.\n"]


def _best_stage(stages: dict[int, Seeds]) -> int:
    return max(stages, key=lambda stage: _mean(stages[stage]).mean)


def _fall(stages: dict[int, Seeds]) -> str:
    best = _best_stage(stages)
    if best == LAST:
        return "the last stage is the best"
    return f"stage {LAST} minus stage {best}: {points(minus(stages[LAST], stages[best]))}"


def _answered(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Returns the accuracies on rotations at the end of training by arm, for runs that have one."""
    accuracies: dict[str, list[float]] = {}
    for row in rows:
        if row.get(TASK) is not None:
            accuracies.setdefault("all four" if row["arm"] == "rotation" else row["arm"], []).append(row[TASK])
    return accuracies


def _angles(angles: Cells, answered: dict[str, list[float]], p: presets.Preset) -> list[str]:
    if len(angles) == 1:
        return []
    lines = {}
    for arm, stages in angles.items():
        first = arm == "all four"
        lines[arm] = [
            f"{p.batch_sizes['rotation' if first else arm]}",
            percent(t_interval(answered[arm])) if arm in answered else "",
            *(percent(_mean(seeds)) for seeds in stages.values()),
            "" if first else percent(minus(stages[THIRD], angles["all four"][THIRD]).interval),
        ]
    head = [f"stage {stage}" for stage in angles["all four"]]
    return [
        "\n## Angles\n",
        "The column `task` is the share of rotations that the network recognises on the training images of its last "
        f"steps. Seeds of the networks of other angles: {', '.join(map(str, p.angle_seeds))}."
        + (f" {ONE_SEED}" if len(p.angle_seeds) == 1 else ""),
        *table("angles", ["images a step", "task", *head, "stage 3 minus all four"], lines),
    ]


def _labels(labels: Cells, p: presets.Preset) -> list[str]:
    if not labels:
        return []
    lines = {arm: [percent(_mean(seeds)) for seeds in sizes.values()] for arm, sizes in labels.items()}
    for arm, sizes in labels.items():
        if arm != "scratch":
            gains = [minus(seeds, labels["scratch"][n]).interval for n, seeds in sizes.items()]
            lines[f"{arm} minus scratch"] = list(map(percent, gains))
    steps = p.labels.train["total"].replace("_", ",")
    return [
        "\n## Few labels\n",
        f"All are trained with the labels of a subset, for {steps} of {p.labels.batch_size} images. frozen: a small "
        "convolutional classifier on the second stage of the rotation network, which is not changed (fig. 4 of the "
        "paper). tuned: the whole rotation network, trained further. scratch: the same network from random weights.",
        *table("training", [f"{n:,}" for n in labels["scratch"]], lines),
    ]


def _draw(stages: Cells, angles: Cells, labels: Cells, out: Path, p: presets.Preset) -> list[str]:
    """Draws figures/*.svg and .png in `out`. Returns a line of Markdown for each, also for one that is left out."""
    gallery, n = Gallery(out), seeds_in_words(p.seeds)
    panels = {p.title: _lists(stages)} | ({"by the angles of the task": _lists(angles)} if len(angles) > 1 else {})
    bands = f"Dots are seeds, bands 95 % t-intervals of the mean over {n}; a curve without a band comes from one seed."
    caption = (
        "Accuracy of a linear classifier on each of the four stages, the first nearest to the image"
        f"{'; right: for networks that learned to recognise other angles' if len(panels) > 1 else ''}. {bands}"
    )
    what = "linear probes by stage" + (", and by the angles of the task" if len(panels) > 1 else "")
    panels = informative_panels(panels)
    if path := gallery.place("stages", what, caption, [curve for arms in panels.values() for curve in arms.values()]):
        size = (1.2 + 4.2 * len(panels), 3.8)
        with plots.canvas(path, 1, len(panels), size, sharey=True, squeeze=False) as axes:
            for axis, (title, arms) in zip(axes[0], panels.items()):
                plots.bands(axis, arms)
                axis.set(xlabel="stage", xticks=range(1, LAST + 1), title=title)
                axis.legend()
            axes[0, 0].set_ylabel("top-1 of a linear probe (%)")
    curves = _lists(labels)
    caption = f"Accuracy over labelled images, on a logarithmic axis; the dashed line is chance. {bands}"
    what = "accuracy against labelled images"
    if labels and (path := gallery.place("labels", what, caption, curves.values())):
        title = f"{p.title}, {p.labels.train['total'].replace('_', ',')}"
        plots.data_curves(curves, path, ylabel="top-1 (%)", title=title, chance=1 / p.data["classes"])
    return gallery.lines


def _lists(cells: Cells) -> dict[str, dict[int, list[float]]]:
    return {arm: {x: [*seeds.values()] for x, seeds in of.items()} for arm, of in cells.items()}
