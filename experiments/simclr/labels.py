"""Few labels: SimCLRv2 in small, after Chen et al. 2020b, arXiv 2006.10029, sec. 2 and figs. 1 and 5.

    pretrain   SimCLR with a head of three layers, on all images without labels
    tuned      that network up to the first layer of its head, with a new classifier, trained with a share of the labels
    scratch    the same network from random weights, with the same labels, steps, batches and views
    student    a network from random weights that learns the predictions of `tuned` on all images, without labels
    rates      `scratch` with several learning rates at a separate seed; the best rate for each share is that of
               `scratch`. The rate of `tuned` is one for all shares, from pilots at that seed

A seed determines initialisation, order, views and the labelled images; differences are paired by seed.

Criteria, fixed before the first run of a reported seed, for each share of the labels, with 95 % t-intervals:
    tuned     top-1 of tuned minus scratch has an interval above zero
    student   top-1 of the student minus its teacher, `tuned`, has an interval above -1 point: it is at least the
              teacher, up to a point
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, plots
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.gallery import Gallery
from jaxvision.analysis.statistics import Difference, paired_by_seed, t_interval
from jaxvision.analysis.words import gain, percent, points, table
from jaxvision.analysis.words import seeds as seeds_in_words
from jaxvision.commands.study import Row, Run, sibling, workdir

presets = sibling(__file__, "presets")

RATES_SEED = 100  # of no reported run
ARMS = ("scratch", "tuned", "student")
SLACK = 0.01  # a student that loses less than this is at least its teacher
TOP1 = "val/top1"
EXPECTED = (
    "Chen et al. 2020b (SimCLRv2, arXiv 2006.10029): a network that first learned without labels gains most where "
    "labels are few, and a student that it teaches on images without labels is at least as good."
)


class Preset(NamedTuple):
    """One size of the study of few labels.

    Attributes:
      base: Preset of the contrastive runs, whose arm `full` is pretrained.
      seeds: Seeds of all arms.
      labels: Numbers of labelled images, ascending; each subset is part of the next.
      examples: Number of all images.
      augment: Views of images in training with labels, and of the student.
      optimizer: Section `optimizer` of all training but pretraining, without its learning rate.
      tuned_rate, student_rate: Learning rates of the arms.
      scratch_rates: Learning rates that `rates` tries.
      train: Section `train` of the runs with labels, with their batch size.
      student_train: Section `train` of the students, with their batch size.
      val: Evaluation of all arms but pretraining.
    """

    base: presets.Preset
    seeds: tuple[int, ...]
    labels: tuple[int, ...]
    examples: int
    augment: str
    optimizer: dict[str, Any]
    tuned_rate: float
    student_rate: float
    scratch_rates: tuple[float, ...]
    train: tuple[str, int]
    student_train: tuple[str, int]
    val: dict[str, Any]

    @property
    def title(self) -> str:
        """Name of the data, for captions."""
        return f"{self.base.title}, few labels"

    @property
    def needs_dir(self) -> str:
        """Data that --data_dir must name."""
        return self.base.needs_dir


_BASE = presets.PRESETS["cifar10"]
PRESETS = {
    "cifar10_labels": Preset(
        base=_BASE._replace(full=_BASE.full._replace(layers=3), images=2_000 * 128),
        seeds=(0, 1, 2, 3, 4),
        labels=(450, 4_500),
        examples=45_000,
        augment="random_resized_crop(16)|flip_lr",
        optimizer=dict(name="sgd", momentum=0.9, nesterov=True, schedule="cosine", warmup="5 percent"),
        tuned_rate=0.02,
        student_rate=0.1,
        scratch_rates=(0.005, 0.02, 0.1, 0.5),
        train=("1_000 steps", 64),
        student_train=("1_500 steps", 128),
        val=dict(name="classify", split="validation", batch_size=500),
    ),
}


def plan(
    p: Preset, data_dir: str | None, pretrain: Callable[[presets.Preset, presets.Arm, int, str | None], ConfigDict]
) -> list[Run]:
    """Lists all runs; those of the students come last, after their teachers.

    Args:
      p: Preset of the runs.
      data_dir: Folder of the data, from --data_dir; None if it is not given.
      pretrain: Function that makes the config of a contrastive run of an arm and a seed.
    """
    config = functools.partial(_config, p, data_dir=data_dir)
    planned = [
        Run(f"pretrain/seed{seed}", pretrain(p.base, p.base.full, seed, data_dir), _tags("pretrain", p.examples, seed))
        for seed in p.seeds
    ]
    for labels in p.labels:
        for rate in p.scratch_rates:
            one = config("scratch", labels, RATES_SEED)
            one.optimizer.learning_rate = rate
            planned.append(
                Run(f"rates/{labels}/{rate:g}", one, _tags("rates", labels, RATES_SEED, rate), may_fail=True)
            )
    for arms in (("scratch", "tuned"), ("student",)):
        for seed in p.seeds:
            for labels in p.labels:
                for arm in arms:
                    fill = functools.partial(_fill, p, arm, labels, seed)
                    tags = _tags(arm, labels, seed)
                    planned.append(Run(f"{arm}/{labels}/seed{seed}", config(arm, labels, seed), tags, fill))
    return planned


def _tags(arm: str, labels: int, seed: int, rate: float = 0.0) -> dict[str, Any]:
    return dict(arm=arm, labels=labels, seed=seed, rate=rate)


def _fill(p: Preset, arm: str, labels: int, seed: int, rows: list[Row], out: Path) -> dict[str, Any]:
    """The learning rate of `scratch`, and the runs that the others start from."""
    if arm == "scratch":
        return {"optimizer.learning_rate": best_rate(rows, labels)}
    start = f"pretrain/seed{seed}" if arm == "tuned" else f"tuned/{labels}/seed{seed}"
    return {"init.weights": str(workdir(out, start))}


def best_rate(rows: Sequence[Row], labels: int) -> float:
    """Returns the learning rate with the best result at the separate seed, the lower one of two that are equal.

    Runs that diverged do not count.

    Args:
      rows: Rows of the runs, with those of `rates`.
      labels: Number of labelled images.
    """
    tried = [row for row in rows if (row["arm"], row["labels"]) == ("rates", labels) and not row.get("error")]
    return min(tried, key=lambda row: (-row[TOP1], row["rate"]))["rate"]


def _config(p: Preset, arm: str, labels: int, seed: int, data_dir: str | None) -> ConfigDict:
    """A run of `scratch`, `tuned` or `student`; `init.weights` and the rate of `scratch` will be filled in."""
    s, student = p.base.sections, arm == "student"
    total, batch_size = p.student_train if student else p.train
    tuned = s["model"] | dict(projection_layers=1)  # the first layer of the head
    c = ConfigDict()
    c.seed = seed
    c.data = s["data"] | dict(batch_size=batch_size, data_dir=data_dir or placeholder(str))
    if not student:
        c.data.subset = dict(examples=labels, seed=seed)
    c.augment = p.augment
    c.model = s["model"] if student else tuned
    c.task = dict(name="distill", teacher=tuned) if student else dict(name="supervised")
    if arm == "tuned":
        c.init = dict(weights="WORKDIR", head="new")
    elif student:
        c.init = dict(weights="WORKDIR", part="teacher")
    c.optimizer = p.optimizer | dict(learning_rate=p.student_rate if student else p.tuned_rate)
    c.train = s["train"] | dict(total=total)
    c.evals = dict(val=p.val)
    return c


def criteria(rows: Sequence[Row], p: Preset) -> dict[str, Verdict]:
    """Judges the criteria of this file, for each number of labels.

    Args:
      rows: Results of all runs, one row per run.
      p: Preset of the runs.
    """
    judged = {}
    for labels in p.labels:
        share = f"{100 * labels / p.examples:g} %"
        judged[f"tuned, {share}"] = Verdict(
            {"tuned minus scratch": minus(rows, "tuned", "scratch", labels)},
            claim=f"with {share} of the labels, a network that first learned without is better than random weights",
        )
        judged[f"student, {share}"] = Verdict(
            {"student minus its teacher, against -1": minus(rows, "student", "tuned", labels)},
            least=-SLACK,
            claim=f"with {share} of the labels, the student loses less than 1 point against its teacher",
            bound="-1 point",
        )
    return judged


def _answer(rows: Sequence[Row], verdicts: dict[str, Verdict], p: Preset) -> str:
    """The answer in two sentences."""
    tuned, taught = [], []
    for labels in p.labels:
        share = f"{100 * labels / p.examples:g} %"
        found, loss = (minus(rows, *pair, labels).interval for pair in (("tuned", "scratch"), ("student", "tuned")))
        value = percent(t_interval([*of(rows, "tuned", labels).values()]))
        told = verdicts[f"tuned, {share}"].tell(
            f"that is {gain(found)} more than from random weights",
            f"that is {gain(found)} fewer than from random weights",
            "that is more than from random weights",
            f"{percent(found)} points",
        )
        tuned.append(f"with {share} of the labels ({labels:,} images) it is right on {value} %, and {told}")
        by = f"{percent(loss)} points"
        taught.append(
            verdicts[f"student, {share}"].tell(
                f"with {share} it keeps its teacher's accuracy up to a point ({by})",
                f"with {share} it loses more than a point against its teacher ({by})",
                f"it keeps its teacher's accuracy with {share}",
                by,
            )
        )
    return (
        f"A network learns without labels, then with few: {'; '.join(tuned)}. "
        f"A student learns from it on images without labels: {'; '.join(taught)}."
    )


def of(rows: Sequence[Row], arm: str, labels: int) -> dict[int, float]:
    """Returns top-1 of an arm by ascending seed.

    Args:
      rows: Results of all runs, one row per run.
      arm: Name of the arm.
      labels: Number of labelled images.
    """
    by_seed = {row["seed"]: row[TOP1] for row in rows if (row["arm"], row["labels"]) == (arm, labels)}
    return dict(sorted(by_seed.items()))


def minus(rows: Sequence[Row], arm: str, other: str, labels: int) -> Difference:
    """Returns one arm minus another over the seeds that both have.

    Args:
      rows: Results of all runs, one row per run.
      arm: Name of the arm.
      other: Name of the arm to subtract.
      labels: Number of labelled images.
    """
    return paired_by_seed(of(rows, arm, labels), of(rows, other, labels))


def write(rows: list[Row], out: Path, p: Preset) -> str:
    """Writes report.md, report.html, summary.json and figures/ to `out`; returns the report.

    Args:
      rows: Rows of all runs.
      out: Folder of the study.
      p: Preset of the runs.
    """
    verdicts = criteria(rows, p)
    lines = {arm: [percent(t_interval([*of(rows, arm, n).values()])) for n in p.labels] for arm in ARMS}
    tried = {f"{rate:g}": [_percent_of_rate(rows, n, rate) for n in p.labels] for rate in p.scratch_rates}
    heads = [f"{n:,} labels" for n in p.labels]
    student = lambda labels: minus(rows, "student", "scratch", labels)
    report = "\n".join(
        [
            f"# SimCLRv2: {p.title}\n",
            *opening(_answer(rows, verdicts, p), EXPECTED, tally(verdicts)),
            "## Arms\n",
            "Results are top-1 on the validation split in %: the mean over the seeds "
            f"{', '.join(map(str, p.seeds))} with its 95 % t-interval. Differences are paired by seed. There are "
            f"{p.examples:,} images.",
            *table("arm", heads, lines),
            "## Criteria\n",
            *section(verdicts),
            "",
            *(f"- {n:,} labels, student minus scratch (not a criterion): {points(student(n))}." for n in p.labels),
            f"\nLearning rates of `scratch`, one run of seed {RATES_SEED} each; the best of each column is its rate.",
            *table("rate", heads, tried),
            "## Figure\n",
            *_draw(rows, out, p),
        ]
    )
    summary = {
        "top1": {arm: {n: of(rows, arm, n) for n in p.labels} for arm in ARMS},
        "criteria": {name: verdict.met for name, verdict in verdicts.items()},
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", f"SimCLRv2: {p.title}")
    return report


def _percent_of_rate(rows: Sequence[Row], labels: int, rate: float) -> str:
    of_rate = [row for row in rows if (row["arm"], row["labels"], row["rate"]) == ("rates", labels, rate)]
    if any(row.get("error") for row in of_rate):
        return "diverged"
    return percent(t_interval([row[TOP1] for row in of_rate])) if of_rate else ""


def _draw(rows: Sequence[Row], out: Path, p: Preset) -> list[str]:
    """Draws figures/labels.svg and .png in `out`. Returns a line of Markdown for it, also if it is left out."""
    gallery = Gallery(out)
    curves = {arm: {n: [*of(rows, arm, n).values()] for n in p.labels} for arm in ARMS}
    caption = (
        "Accuracy on the validation split over labelled images, on a logarithmic axis. Dots are seeds, bands 95 % "
        f"t-intervals of the mean over {seeds_in_words(p.seeds)}."
    )
    if path := gallery.place("labels", "top-1 against labelled images", caption, curves.values()):
        plots.data_curves(curves, path, ylabel="top-1 (%)", title=p.title)
    return gallery.lines
