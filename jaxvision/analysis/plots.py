"""Draws figures in one style: curves of studies and histograms of data.

Every figure is drawn on a `canvas`, which sets the style, and is written as SVG and as PNG of 200 dots per inch. Text
is drawn as paths, so a figure looks the same without the font, and the same data give the same bytes.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from jaxvision.analysis.statistics import t_interval

COLOURS = (  # Okabe and Ito 2008, distinct for colour-blind readers too; without yellow, black last
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#000000",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    # A tick says its whole value: neither an offset nor a power of ten stands above the axis.
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-12, 12),
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    "svg.hashsalt": "jaxvision",
}
FORMATS = ("svg", "png", "pdf")


@contextlib.contextmanager
def canvas(
    path: str | Path, rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.4, 4.2), **options: object
) -> Iterator[Any]:
    """Yields axes in the style of all figures, and writes the figure when the block ends.

    Args:
      path: File of the picture. A suffix of FORMATS chooses the format; without one, both .svg and .png are written.
      rows, columns: Numbers of rows and columns of axes.
      size: Width and height in inches.
      **options: Further arguments of `plt.subplots`.

    Yields:
      The axes, or a NumPy array of them if there are several.
    """
    path = Path(path)
    # The stubs of matplotlib accept neither a dict of plain keys nor options that are only known at run time.
    with plt.rc_context(STYLE):  # type: ignore[arg-type]
        figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", **options)  # type: ignore[call-overload]
        try:
            yield axes
            named = path.suffix.removeprefix(".") in FORMATS
            for file in [path] if named else [path.with_name(f"{path.name}.{kind}") for kind in ("svg", "png")]:
                dateless = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
                figure.savefig(file, metadata=dateless.get(file.suffix))
        finally:
            plt.close(figure)


def count_axis(axis: Axes, examples: list[int], label: str = "training examples") -> None:
    """Makes the x-axis logarithmic, with a tick for each number of examples that has room.

    Args:
      axis: Axes of the figure.
      examples: Numbers of examples.
      label: Label of the axis.
    """
    axis.set(xscale="log", xlabel=label)
    span = max(examples) / min(examples)
    ticks: list[int] = []
    for n in sorted(examples):
        if not ticks or n / ticks[-1] >= span**0.09:
            ticks.append(n)
    axis.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axis.minorticks_off()


def shared_legend(axis: Axes, panels: Iterable[Axes], order: Iterable[str] = (), **options: Any) -> None:
    """Draws one legend for several panels, each label once, also those that only some of the panels have.

    Args:
      axis: Axes to draw it on.
      panels: Axes whose labels it has.
      order: Labels in the order of the legend; others follow in the order of the panels.
      **options: Options of `Axes.legend`.
    """
    handles = {label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels())}
    labels = [label for label in dict.fromkeys([*order, *handles]) if label in handles]
    axis.legend([handles[label] for label in labels], labels, **options)


def bands(axis: Axes, arms: Mapping[str, Mapping[int, list[float]]]) -> None:
    """Draws one curve for each arm: the means, a band for the 95 % t-interval of the mean, and a dot for each seed.

    Args:
      axis: Axes to draw on; the y-axis is in percent.
      arms: Arm -> x -> one value for each seed, as shares in [0, 1].
    """
    for (arm, values), colour, marker in zip(arms.items(), COLOURS, MARKERS):
        xs = sorted(values)
        intervals = [t_interval(values[x]) for x in xs]
        axis.plot(xs, [100 * i.mean for i in intervals], marker=marker, color=colour, label=arm)
        lows, highs = ([100 * end for end in ends] for ends in zip(*((i.low, i.high) for i in intervals)))
        axis.fill_between(xs, lows, highs, color=colour, alpha=0.18, lw=0)
        for x in xs:
            axis.plot([x] * len(values[x]), [100 * v for v in values[x]], ".", color=colour, alpha=0.5, ms=4)


def data_curves(
    arms: Mapping[str, Mapping[int, list[float]]],
    path: str | Path,
    *,
    ylabel: str,
    title: str = "",
    chance: float | None = None,
) -> None:
    """Draws one curve for each arm over the number of training examples, on a logarithmic axis.

    Args:
      arms: Arm -> examples -> one value for each seed, shares in [0, 1].
      path: File of the picture; see `canvas` for its suffix.
      ylabel: Label of the values.
      title: Title over the figure.
      chance: Share that guessing gets, drawn as a dashed line; None to draw none.
    """
    with canvas(path) as axis:
        bands(axis, arms)
        if chance is not None:
            axis.axhline(100 * chance, ls="--", lw=1, color="0.5", label="chance")
        count_axis(axis, sorted({x for sizes in arms.values() for x in sizes}))
        axis.set(ylabel=ylabel, title=title)
        axis.legend()


def literal(name: object, most: int = 60) -> str:
    """Prepares a user's name for a figure: one line, cut to `most` characters, in which a dollar starts no formula.

    Args:
      name: Name, such as that of a class.
      most: Largest number of characters.

    >>> print(literal("US$ x$"))
    US\\$ x\\$
    """
    text = " ".join(str(name).split())
    return (text if len(text) <= most else f"{text[: most - 3]}...").replace("$", r"\$")


def histogram(counts: Mapping[str, float], path: str | Path, *, xlabel: str, title: str = "", named: int = 60) -> None:
    """Draws one bar for each name. If there are more than `named`, bars are sorted and names are left out.

    Args:
      counts: Name -> value, drawn from top to bottom.
      path: File of the picture; see `canvas` for its suffix.
      xlabel: Label of the values.
      title: Title over the figure.
      named: Largest number of bars that have names.
    """
    many = len(counts) > named
    values = sorted(counts.values(), reverse=True) if many else list(counts.values())
    with canvas(path, size=(6.4, 6.4 if many else 1.2 + 0.22 * len(values))) as axis:
        axis.barh(range(len(values)), values, height=1.0 if many else 0.8, color=COLOURS[0])
        axis.set(xlabel=xlabel, title=literal(title), ylim=(len(values) - 0.5, -0.5))
        if many:
            axis.set_ylabel(f"{len(values):,} classes, by falling count")
        else:
            axis.set_yticks(range(len(values)), list(map(literal, counts)))
        axis.grid(visible=False, axis="y")
