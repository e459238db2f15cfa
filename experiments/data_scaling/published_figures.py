"""The figures of the preset `paper`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from jaxvision.analysis.equal_error import Family, Ratio
from jaxvision.analysis.gallery import Gallery
from jaxvision.analysis.plots import COLOURS, MARKERS, canvas
from jaxvision.analysis.scaling_laws import evaluate, inverse
from jaxvision.analysis.statistics import Interval

if TYPE_CHECKING:
    from jaxvision.commands.study import Row

LOOKS = dict(zip(("ResNet", "ViT", "hybrid"), zip(COLOURS, MARKERS)))  # ResNet and ViT as in the other figures
CLAIM = (2, 4)
ABOVE_RIGHT, ABOVE, BELOW_LEFT = (5, 4, "left", "bottom"), (0, 6, "center", "bottom"), (-5, -4, "right", "top")
BELOW, BELOW_RIGHT = (0, -6, "center", "top"), (5, -4, "left", "top")
PLACES = {  # label -> where it does not hide another: offset in points from the model, and alignment
    "R152x1": BELOW,
    "R152x2": BELOW_RIGHT,
    "R200x3, 14 ep.": ABOVE,
    "B/16": (4, 9, "left", "bottom"),
    "L/32": BELOW_LEFT,
    "L/16, 14 ep.": BELOW_LEFT,
    "H/14, 14 ep.": ABOVE,
    "R50+B/32": BELOW_LEFT,
    "R50+B/16": (6, 1, "left", "center"),
    "R50+L/16, 14 ep.": (6, 0, "left", "center"),
    "R50+L/32": BELOW_LEFT,
    "R50+L/16": BELOW_LEFT,
}


def draw(
    models: "list[Row]",
    results: dict,
    larger: dict[str, dict[str, float]],
    names: dict[str, str],
    out: Path,
    ratio: Callable[[Interval], str],
) -> list[str]:
    """Draws figures/*.svg and .png in `out`. Returns a line of Markdown for each.

    Args:
      models: Rows of table 6.
      results: Data set -> its `published.Result`; the first is the average.
      larger: Data set -> pre-training set -> log of the error of ViT-B over that of ViT-L.
      names: Key of a data set -> name.
      out: Folder of the study.
      ratio: Function that formats a ratio with its interval.
    """
    gallery, (average, *rest) = Gallery(out), results
    labels = {(row["family"], float(row["exaflops"])): _label(row) for row in models}
    points = [family.compute for family in results[average].curves.values()]
    bands = "Lines are power laws fitted to each family, bands their 95 % intervals from a bootstrap over models."
    caption = (
        "Left: error after fine-tuning, mean of five data sets, over pre-training compute, both logarithmic; a dot is "
        f"a published model, trained once. {bands} Right: compute of ResNets over that of ViTs for the same error, "
        "with 95 % intervals; in grey the range that the paper names."
    )
    what = "error against pre-training compute, with fits and their bands, and the ratios"
    if path := gallery.place("compute", what, caption, points):
        with canvas(path, 1, 2, size=(10.4, 4.8), width_ratios=(1.75, 1)) as axes:
            curves(axes[0], results[average].curves, labels)
            axes[0].set(ylabel="error after fine-tuning, mean of five data sets (%)")
            axes[0].set(title="Dosovitskiy et al. 2021, table 6")
            _arrow(axes[0], results[average])
            axes[0].legend(loc="lower left", title="pre-trained on JFT-300M,\n7 epochs unless named", alignment="left")
            forest(axes[1], {name: one.vit for name, one in results.items()}, ratio)
    caption = (
        "The same for every data set. Titles give the compute of ResNets over that of ViTs for the same error, with "
        f"its 95 % interval. {bands}"
    )
    if path := gallery.place("sets", "error against pre-training compute for every data set", caption, points):
        with canvas(path, 2, 3, size=(10.4, 6.4)) as axes:
            for axis, name in zip(axes.flat, rest):
                curves(axis, results[name].curves, {})
                found = results[name].vit
                axis.set_title(f"{name}: {ratio(found.mean)}" if found else f"{name}: no shared error")
            for axis in axes[:, 0]:
                axis.set_ylabel("error (%)")
            axes[0, 0].legend()
    caption = (
        "Error of ViT-B over that of ViT-L after fine-tuning, on a logarithmic axis, over the data of pre-training: "
        "the mean over patches of 32 and 16, a line for each data set. Above 1 the larger model is better."
    )
    what = "error of ViT-B over that of ViT-L against the pre-training data"
    if path := gallery.place("larger_models", what, caption, larger.values()):
        with canvas(path, size=(6.4, 4.2)) as axis:
            larger_models(axis, larger, names)
    return gallery.lines


def curves(axis: Axes, families: dict[str, Family], labels: dict[tuple[str, float], str]) -> None:
    """Draws error over compute, both logarithmic: models, their curves and the bands of these.

    Args:
      axis: Axes to draw on.
      families: Name of a family -> its curve.
      labels: (family, compute) -> name to write beside the model.
    """
    for name, family in families.items():
        colour, marker = LOOKS[name]
        line = np.geomspace(family.compute[0] / 1.15, family.compute[-1] * 1.15, 100)
        low, high = family.band(line)
        axis.plot(line, 100 * evaluate(family.estimates, line), color=colour, lw=1.2)
        axis.fill_between(line, 100 * low, 100 * high, color=colour, alpha=0.15, lw=0)
        axis.plot(family.compute, 100 * family.errors, marker, color=colour, label=f"{name}s")
        for compute, error in zip(family.compute, family.errors):
            if label := labels.get((name, compute)):
                _name(axis, label, compute, 100 * error, colour)
    errors = np.concatenate([family.errors for family in families.values()])
    axis.set(xscale="log", yscale="log", xlabel="pre-training compute (exaFLOPs)")
    axis.set(xlim=(38, 6000), ylim=(100 * errors.min() / 1.18, 100 * errors.max() * 1.12))
    axis.xaxis.set_major_locator(FixedLocator([50, 100, 200, 500, 1000, 2000, 5000]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.yaxis.set_major_locator(FixedLocator([0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for each in (axis.xaxis, axis.yaxis):
        each.set_minor_locator(NullLocator())


def forest(axis: Axes, ratios: dict[str, Ratio | None], words: Callable[[Interval], str]) -> None:
    """Draws the ratio of every data set with its interval, beside the range that the paper claims.

    Args:
      axis: Axes to draw on.
      ratios: Name -> ratio; None for families that share no error.
      words: Function that formats a ratio with its interval.
    """
    axis.axvspan(*CLAIM, color="0.88", lw=0)
    axis.axvline(1, color="0.2", lw=1)
    axis.text(
        np.sqrt(CLAIM[0] * CLAIM[1]), -0.75, "the paper: 2 to 4", ha="center", va="center", fontsize=8, color="0.3"
    )
    for row, ratio in enumerate(ratios.values()):
        if ratio is None:
            axis.text(
                1.08, row, "no shared error: every ViT\nbeats every ResNet", va="center", fontsize=7.5, color="0.3"
            )
            continue
        mean, low, high, _ = ratio.mean
        look = dict(color="black", lw=2.0, ms=7) if row == 0 else dict(color="0.35", lw=1.3, ms=5)
        axis.plot([low, high], [row, row], "-", color=look["color"], lw=look["lw"])
        axis.plot([mean], [row], "D", color=look["color"], ms=look["ms"])
        box = dict(facecolor="white", edgecolor="none", alpha=0.7, pad=0.5)
        axis.text(mean, row - 0.28, words(ratio.mean), ha="center", fontsize=7.5, color=look["color"], bbox=box)
    axis.set_yticks(range(len(ratios)), list(ratios))
    axis.set(xscale="log", xlim=(0.5, 20), ylim=(len(ratios) - 0.4, -1.1))
    axis.set(xlabel="compute of ResNets / compute of ViTs", title="Compute for the same error, 95 % intervals")
    axis.xaxis.set_major_locator(FixedLocator([0.5, 1, 2, 4, 8, 16]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(visible=False, axis="y")


def larger_models(axis: Axes, larger: dict[str, dict[str, float]], names: dict[str, str]) -> None:
    """Draws how much smaller the error of the larger model is, over the pre-training data.

    Args:
      axis: Axes to draw on.
      larger: Data set -> pre-training set -> log of the error of ViT-B over that of ViT-L.
      names: Key of a data set -> name.
    """
    places = list(next(iter(larger.values())))
    for (key, values), colour, marker in zip(larger.items(), COLOURS, MARKERS):
        axis.plot(
            range(len(places)), [np.exp(values[on]) for on in places], marker=marker, color=colour, label=names[key]
        )
    axis.axhline(1, color="0.2", lw=1)
    axis.set_xticks(range(len(places)), [f"pre-trained on\n{on}" for on in places])
    axis.set(yscale="log", ylabel="error of ViT-B / error of ViT-L", xlim=(-0.2, len(places) - 0.8))
    axis.yaxis.set_major_locator(FixedLocator([0.8, 0.9, 1, 1.2, 1.4, 1.6, 1.8]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.legend()


def _arrow(axis: Axes, result) -> None:
    """Names the ratio on the horizontal distance between the curves, at the middle of the errors."""
    error = result.vit.errors[len(result.vit.errors) // 2]
    ends = [float(inverse(result.curves[name].estimates, [error])[0]) for name in ("ViT", "ResNet")]
    axis.annotate(
        "", (ends[0], 100 * error), (ends[1], 100 * error), arrowprops=dict(arrowstyle="<->", color="black", lw=1.2)
    )
    mean = result.vit.mean
    axis.text(np.sqrt(ends[0] * ends[1]), 101 * error, f"x {mean.mean:.1f}", fontsize=9, ha="center", va="bottom")
    said = (
        f"for the same error, ResNets need {mean.mean:.1f} times\n"
        f"the compute of ViTs, 95 % interval {mean.low:.1f} to {mean.high:.1f}"
    )
    axis.text(0.985, 0.98, said, transform=axis.transAxes, fontsize=9, ha="right", va="top")


def _label(row: "Row") -> str:
    short = row["model"].replace("ResNet", "R").replace("ViT-", "").replace("R50x1+", "R50+")
    return f"{short}, {row['epochs']} ep." if row["epochs"] != 7 else short


def _name(axis: Axes, label: str, x: float, y: float, colour: str) -> None:
    *offset, across, along = PLACES.get(label, ABOVE_RIGHT)
    look = dict(color=colour, fontsize=7, ha=across, va=along)
    axis.annotate(label, (x, y), tuple(offset), textcoords="offset points", **look)
