"""How should the number of neighbours be chosen: on the training images, on one part held out, or by five folds?

The comparison that courses on computer vision begin with (CS231n, Stanford, "Image classification"): a vote of the k
nearest training images on raw pixels, by L1 and by L2. Every choice is judged on test images, which none of them saw.

    classifier  k nearest neighbours on the pixels (the model `identity`, which has nothing to train)
    space       the distance, L1 or L2, and k
    choices     the best point on the training images themselves, on the first fold, and by the mean of five folds
    repeats     five, each with training images of its own

Criteria; intervals are 95 % t-intervals over the repeats, differences are paired by repeat, and "test" is the accuracy
on test images with all training images of the repeat as neighbours:
    training    test of the choice by five folds minus test of the choice on the training images is above zero
    close       test of the choice by five folds minus the best test of the space is above minus one point
    honest      test of the choice by five folds minus the mean over the folds that chose it is above minus one point
    folds       test of the choice by five folds minus test of the choice on one fold is above zero
    distance    test of L1 minus test of L2, each with its k from five folds, is above zero
They were fixed before the first run. Of equal accuracies the first counts: L1 before L2, the smaller k before the
larger.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, plots
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.gallery import Gallery
from jaxvision.analysis.statistics import paired_difference, t_interval
from jaxvision.analysis.words import percent, sentence, table
from jaxvision.commands.study import Row, Run, check_dir, config_of

DISTANCES = ("l1", "l2")
KS = (1, 3, 5, 8, 10, 12, 15, 20, 50, 100)
FOLDS, REPEATS = 5, 5
CHOICES = ("train", "fold1", "folds")
SPACE = tuple((distance, k) for distance in DISTANCES for k in KS)
SAMPLE = f"{REPEATS} repeats"
SLACK = 0.01  # one point
TITLE = "Choosing the number of neighbours"
EXPECTED = (
    "The accuracy that a choice was made by promises too much, and the more so the fewer images it counts (Cawley and "
    "Talbot 2010, JMLR 11). On pixels of CIFAR-10, five folds of 5,000 images choose about k = 7 by L2, with 28 % "
    "(CS231n, Stanford, notes on image classification); with all 50,000 images, L1 is the better distance there."
)


class Preset(NamedTuple):
    """One size of the study.

    Attributes:
      title: Name of the data, for captions.
      data: Section of the config, without its split.
      examples: Number of training images of a repeat.
      judged: Number of its training images that the choice on training images is made by.
      test: Split of the test images, of which no repeat has any.
      needs_dir: Data that --data_dir must name; empty if there is a default.
    """

    title: str
    data: dict[str, Any]
    examples: int
    judged: int
    test: str
    needs_dir: str = ""


SIZES = {
    "laptop": Preset(
        title="pixels of shapes, 16 x 16",
        data=dict(
            name="shapes",
            options=dict(image_size=32, train=12_000, validation=1_000, test=1_000),  # as in configs/quickstart.py
            host="decode|resize(16)",
            batch_size=128,
            classes=10,
            examples=12_000,
            image_size=32,
        ),
        examples=2_000,
        judged=1_000,
        test="test",
    ),
    "cifar10": Preset(
        title="pixels of CIFAR-10",
        data=dict(name="cifar", batch_size=128, classes=10, examples=50_000, image_size=32),
        examples=5_000,
        judged=1_000,
        test="train[45000:47000]",  # of no repeat
        needs_dir="the unpacked binary or python version of CIFAR-10 (docs/data.md)",
    ),
}
PRESETS = tuple(SIZES)


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists the repeats; each is one run, which evaluates all of the space on every part of its images.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; None if it is not given.
    """
    check_dir(preset, SIZES[preset].needs_dir, data_dir)
    return _plan(preset, data_dir)


def get_config(arg: str = "laptop/repeat0") -> ConfigDict:
    """Returns the config of one run, PRESET/RUN. Presets that need --data_dir need --config.data.data_dir=DIR here.

    Args:
      arg: Name of the run, "PRESET/RUN".
    """
    return config_of(arg, PRESETS, _plan)


def _plan(preset: str, data_dir: str | None) -> list[Run]:
    p = SIZES[preset]
    return [Run(f"repeat{r}", _config(p, r, data_dir), dict(repeat=r, seed=r)) for r in range(REPEATS)]


def _config(p: Preset, repeat: int, data_dir: str | None) -> ConfigDict:
    start = repeat * p.examples
    split = f"train[{start}:{start + p.examples}]"
    c = ConfigDict()
    c.seed = repeat
    c.data = p.data | dict(split=split, examples=p.examples)
    if p.needs_dir:
        c.data.data_dir = data_dir or placeholder(str)
    c.augment = "normalize(0.5, 0.5)"
    c.model = dict(name="identity")
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1)
    c.train = dict(total="0 steps")
    c.evals = {}
    for distance in DISTANCES:
        knn = dict(name="knn", train_split=split, k=KS, distance=distance)
        c.evals[f"test_{distance}"] = knn | dict(split=p.test)
        c.evals[f"train_{distance}"] = knn | dict(split=f"train[{start}:{start + p.judged}]")
        for i in range(1, FOLDS + 1):
            fold = dict(fold=f"{i}/{FOLDS}", seed=repeat)
            parts = dict(split=split, subset=fold | dict(part="held_out"), train_subset=fold)
            c.evals[f"fold{i}_{distance}"] = knn | parts
    return c


def accuracy(row: Row, part: str, distance: str, k: int) -> float:
    """Returns an accuracy in [0, 1] of a repeat.

    Args:
      row: Results of the repeat.
      part: Part of the images: "test", "train", "fold1" to "fold5", or "folds" for the mean over all of them.
      distance: Distance, "l1" or "l2".
      k: Number of neighbours, one of `KS`.
    """
    parts = [f"fold{i}" for i in range(1, FOLDS + 1)] if part == "folds" else [part]
    return sum(row[f"{each}_{distance}/knn{k}_{distance}/top1"] for each in parts) / len(parts)


def choose(row: Row, part: str, distances: Sequence[str] = DISTANCES) -> tuple[str, int]:
    """Returns the (distance, k) with the largest accuracy on a part of the images, the first of equal ones.

    Args:
      row: Results of a repeat.
      part: Part of the images, see `accuracy`.
      distances: Distances to choose among.
    """
    points = [point for point in SPACE if point[0] in distances]
    return max(points, key=lambda point: accuracy(row, part, *point))


def criteria(rows: list[Row], preset: str) -> dict[str, Verdict]:
    """Judges the criteria, by name.

    Args:
      rows: Results of all runs, one row per run.
      preset: Name of the preset.
    """
    test = lambda part, distances=DISTANCES: [accuracy(r, "test", *choose(r, part, distances)) for r in rows]
    best, chosen = test("test"), test("folds")
    expected = [accuracy(r, "folds", *choose(r, "folds")) for r in rows]
    slack = dict(least=-SLACK, bound="minus one point", sample=SAMPLE)
    return {
        "training": Verdict(
            {"test, chosen by five folds minus on training images": paired_difference(chosen, test("train"))},
            claim="the choice by five folds is better on new images than the choice on the training images",
            sample=SAMPLE,
        ),
        "close": Verdict(
            {"test, chosen by five folds minus the best": paired_difference(chosen, best)},
            claim="the choice by five folds is at most one point worse on the test images than the best point there",
            **slack,
        ),
        "honest": Verdict(
            {"test minus the mean over folds": paired_difference(chosen, expected)},
            claim="the mean over the folds that made the choice promises at most one point too much",
            **slack,
        ),
        "folds": Verdict(
            {"test, chosen by five folds minus by one": paired_difference(chosen, test("fold1"))},
            claim="five folds choose better than one",
            sample=SAMPLE,
        ),
        "distance": Verdict(
            {"test, L1 minus L2": paired_difference(test("folds", ("l1",)), test("folds", ("l2",)))},
            claim="L1 is the better distance on pixels",
            sample=SAMPLE,
        ),
    }


def analyse(rows: list[Row], out: Path, preset: str) -> str:
    """Writes report.md, report.html, the figure and summary.json. Returns the report.

    Args:
      rows: Results of all runs, one row per run.
      out: Folder of the study.
      preset: Name of the preset.
    """
    p, verdicts = SIZES[preset], criteria(rows, preset)
    summary = {
        "choices": {part: [choose(row, part) for row in rows] for part in (*CHOICES, "test")},
        "criteria": {name: verdict.met for name, verdict in verdicts.items()},
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    title = f"{TITLE}: {p.title}"
    report = "\n".join(
        [
            f"# {title}\n",
            *opening(_answer(rows, verdicts), EXPECTED, tally(verdicts)),
            "## Choices\n",
            f"Accuracies in %: means over {SAMPLE} of {p.examples:,} training images with their 95 % t-intervals. The "
            "first column is the accuracy that the choice was made by, the second that on test images.",
            *_table(rows),
            "\n## Criteria\n",
            *section(verdicts),
            "\n## Figure\n",
            *_draw(rows, out),
        ]
    )
    documents.write(report, out / "report.md", title)
    return report


def _answer(rows: Sequence[Row], verdicts: dict[str, Verdict]) -> str:
    """The answer in two sentences."""
    of = lambda part: percent(t_interval([accuracy(row, "test", *choose(row, part)) for row in rows]))
    better, closer = (
        verdicts[name].tell(
            f"five folds choose better than {other}",
            f"{other} {'chooses' if one else 'choose'} better than five folds",
            f"five folds choose better than {other}",
        )
        for name, other, one in (("training", "the training images", False), ("folds", "one fold", True))
    )
    return (
        f"Chosen on the training images, the classifier is right on {of('train')} % of the test images, on one fold on "
        f"{of('fold1')} %, and by five folds on {of('folds')} %. {sentence(f'{better}; {closer}')}"
    )


def _table(rows: Sequence[Row]) -> list[str]:
    told = {"train": "on training images", "fold1": "on one fold", "folds": "by five folds", "test": "best on test"}
    lines = {}
    for part, name in told.items():
        points = [choose(row, part) for row in rows]
        means = (
            percent(t_interval([accuracy(row, measure, *point) for row, point in zip(rows, points)]))
            for measure in (part, "test")
        )
        lines[name] = [*means, ", ".join(f"{distance.upper()} {k}" for distance, k in points)]
    return table("choice", ["chosen by", "test", "distance and k by repeat"], lines)


def _draw(rows: Sequence[Row], out: Path) -> list[str]:
    """Draws figures/neighbours.svg and .png in `out`. Returns a line of Markdown for it, also if it is left out."""
    gallery = Gallery(out)
    caption = (
        "Accuracy over the number of neighbours, on a logarithmic axis: the mean over five folds, and on test images. "
        f"Dots are repeats, bands 95 % t-intervals of the mean over {SAMPLE}."
    )
    curve: Callable[[str, str], dict[int, list[float]]] = lambda part, distance: {
        k: [accuracy(row, part, distance, k) for row in rows] for k in KS
    }
    panels = {distance: {part: curve(part, distance) for part in ("folds", "test")} for distance in DISTANCES}
    what = "accuracy against the number of neighbours"
    if path := gallery.place("neighbours", what, caption, [c for arms in panels.values() for c in arms.values()]):
        with plots.canvas(path, 1, len(panels), (4.8 * len(panels), 3.8), sharey=True, squeeze=False) as axes:
            for axis, (distance, arms) in zip(axes[0], panels.items()):
                plots.bands(axis, arms)
                axis.set(xscale="log", xlabel="neighbours k", title=distance.upper())
                axis.set_xticks((1, 10, 100), ("1", "10", "100"))
                axis.legend()
            axes[0, 0].set_ylabel("accuracy (%)")
    return gallery.lines
