"""Draws the curves of runs: panels that share a legend, smoothed curves over the raw ones, bands over seeds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from jaxvision.analysis.plots import COLOURS, canvas, literal
from jaxvision.analysis.statistics import t_interval

SMOOTHED_FROM = 40  # points of a curve from which on it is smoothed
SMOOTHING = 0.02  # share of the points of a curve over which the weight of a point falls by half
LOG_RATIO = 20.0  # ratio of the largest to the smallest value from which on an axis is logarithmic
DASHES = ("-", "--", ":")
NAMED = len(COLOURS) * 2  # most curves that have a name and a colour of their own
MARKS = {"skipped steps": ("v", "#d55e00"), "loss spikes": ("D", "#e69f00"), "restarts": ("|", "0.45")}
_COLUMNS = 2


class Curve(NamedTuple):
    """The values of one metric over the steps of one run, or of the runs of several seeds.

    Attributes:
      name: Name in the legend; equal names have equal colours in all panels.
      seeds: Steps and values of each seed, two arrays [n]. Values that are not finite are left out.
    """

    name: str
    seeds: tuple[tuple[np.ndarray, np.ndarray], ...]


class Panel(NamedTuple):
    """Curves of one metric.

    Attributes:
      title: Name of the metric.
      curves: Curves, in the order of the legend.
      percent: True if values are shares, drawn in percent.
      exact: True for values without noise, such as a schedule: neither smoothed nor on a logarithmic axis.
      marks: Steps at which something happened, by a name of `MARKS`.
    """

    title: str
    curves: tuple[Curve, ...]
    percent: bool = False
    exact: bool = False
    marks: Mapping[str, Sequence[float]] = {}


def smooth(values: np.ndarray) -> np.ndarray:
    """Smooths a curve by an exponential average over earlier points, without the bias of its start.

    The weight of a point falls by half over `SMOOTHING` of the curve. A curve of fewer than `SMOOTHED_FROM` points is
    returned as it is.

    Args:
      values: Values in order, [n].

    >>> smooth(np.ones(100))[[0, 50, 99]].tolist(), smooth(np.arange(3.0)).tolist()
    ([1.0, 1.0, 1.0], [0.0, 1.0, 2.0])
    """
    if len(values) < SMOOTHED_FROM:
        return values
    decay = 0.5 ** (1 / (SMOOTHING * len(values)))
    total = weight = 0.0
    smoothed = np.empty(len(values))
    for i, value in enumerate(values):
        total, weight = decay * total + value, decay * weight + 1
        smoothed[i] = total / weight
    return smoothed


def middle(curve: Curve, smoothed: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the mean of the curves of all seeds, where all of them have a value, and its range.

    Args:
      curve: Curve of at least one seed.
      smoothed: True to smooth the curve of each seed first.

    Returns:
      Steps, means, and the lowest and highest values, each [n].
    """
    curves = [dict(zip(steps.tolist(), smooth(values) if smoothed else values)) for steps, values in curve.seeds]
    steps = np.array(sorted(set(curves[0]).intersection(*curves[1:])))
    table = np.array([[one[step] for step in steps.tolist()] for one in curves]).reshape(len(curves), len(steps))
    return steps, table.mean(0), table.min(0), table.max(0)


def drawable(panel: Panel) -> bool:
    """Returns whether a panel says more than a table does: a curve in it has three points or more, which differ.

    Args:
      panel: Panel to draw.
    """
    values = [values for curve in panel.curves for _, values in curve.seeds]
    return any(len(one) > 2 for one in values) and len(np.unique(np.concatenate(values))) > 1


def curves(panels: Sequence[Panel], path: str | Path, xlabel: str = "steps", front: Sequence[str] = ()) -> None:
    """Draws panels in two columns, with one legend under them.

    A raw curve is faint, and its smoothed form lies over it. Of several seeds the mean is drawn, with a band from the
    lowest to the highest. If there are more than `NAMED` names, those in `front` have colours; the others are grey.

    Args:
      panels: Panels, at least one.
      path: File of the picture; see `plots.canvas` for its suffix.
      xlabel: Label of the x-axis.
      front: Names of the curves to draw in colour if there are too many.
    """
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    chosen = names if len(names) <= NAMED else [name for name in names if name in set(front)][: len(COLOURS)]
    looks = {name: (COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS)]) for i, name in enumerate(chosen)}
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (4.6 * columns + (1.8 if columns == 1 else 0), 2.7 * rows + 0.5)
    with canvas(path, rows, columns, size, squeeze=False) as axes:
        flat: list[Axes] = list(axes.flat)
        for axis in flat[len(panels) :]:
            axis.set_axis_off()
        handles: dict[str, Any] = {}
        for number, (axis, panel) in enumerate(zip(flat, panels)):
            _draw(axis, panel, looks, handles)
            if number >= len(panels) - columns:
                axis.set_xlabel(xlabel)
        _legend(flat[0], handles, len(names) - len(chosen), columns)


def _draw(axis: Axes, panel: Panel, looks: Mapping[str, tuple[str, str]], handles: dict[str, Any]) -> None:
    scale = 100.0 if panel.percent else 1.0
    drawn: list[np.ndarray] = []
    for curve in sorted(panel.curves, key=lambda curve: curve.name in looks):  # grey ones below
        colour, dash = looks.get(curve.name, ("0.75", "-"))
        named = curve.name in looks
        steps, means, low, high = middle(curve, not panel.exact)
        if not len(steps):
            continue
        drawn.append(means * scale)
        if len(curve.seeds) > 1 and named:
            axis.fill_between(steps, low * scale, high * scale, color=colour, alpha=0.18, lw=0)
        elif named and len(means) >= SMOOTHED_FROM and not panel.exact:
            raw_steps, raw = curve.seeds[0]
            axis.plot(raw_steps, raw * scale, color=colour, alpha=0.25, lw=0.8)
            drawn.append(raw * scale)
        options: dict[str, Any] = dict(color=colour, ls=dash, lw=1.5 if named else 0.8)
        if len(steps) <= 12 and named:
            options |= dict(marker="o", ms=3)
        (line,) = axis.plot(steps, means * scale, **options)
        if named:
            handles.setdefault(curve.name, line)
    for name, marked in panel.marks.items():
        marker, colour = MARKS[name]
        mark: dict[str, Any] = dict(
            color=colour, ls="", marker=marker, ms=9 if marker == "|" else 4, clip_on=False, zorder=5
        )
        (line,) = axis.plot(marked, [0.0] * len(marked), transform=axis.get_xaxis_transform(), **mark)
        handles.setdefault(name, line)
    axis.set_title(literal(panel.title + (" (%)" if panel.percent else "")), loc="left")
    values = np.concatenate(drawn) if drawn else np.ones(1)
    if not (panel.percent or panel.exact) and values.min() > 0 and values.max() / values.min() > LOG_RATIO:
        axis.set_yscale("log")
    axis.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:,.0f}"))


def _legend(axis: Axes, handles: Mapping[str, Any], grey: int, columns: int) -> None:
    order = [name for name in handles if name not in MARKS] + [name for name in MARKS if name in handles]
    if len(order) < 2:
        return
    labels = [literal(name, 48) for name in order]
    across = max(1, min(len(order), int(62 * columns / (max(map(len, labels)) + 6))))
    title = f"and {grey} more in grey" if grey else None
    lines = [handles[name] for name in order]
    figure = axis.get_figure()
    assert figure is not None
    figure.legend(lines, labels, loc="outside lower center", ncols=across, title=title, title_fontsize=8)


def final_values(
    values: Mapping[str, Sequence[float]], path: str | Path, *, xlabel: str, percent: bool = False
) -> None:
    """Draws the last values of runs: a row for each name, a dot for each seed, and the mean with its 95 % interval.

    Args:
      values: Name -> value of each seed, from top to bottom.
      path: File of the picture; see `plots.canvas` for its suffix.
      xlabel: Label of the values.
      percent: True if values are shares, drawn in percent.
    """
    scale = 100.0 if percent else 1.0
    with canvas(path, size=(8.0, 0.9 + 0.24 * len(values))) as axis:
        for row, each in enumerate(values.values()):
            interval = t_interval([scale * value for value in each])
            axis.plot([scale * value for value in each], [row] * len(each), "o", color=COLOURS[0], alpha=0.45, ms=4)
            if interval.n > 1:
                axis.errorbar(interval.mean, row, xerr=interval.half, fmt="|", color="0.15", ms=9, lw=1, capsize=2)
        axis.set_yticks(range(len(values)), [literal(name, 48) for name in values])
        axis.set(ylim=(len(values) - 0.5, -0.5), xlabel=literal(xlabel) + (" (%)" if percent else ""))
