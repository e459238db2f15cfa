"""Draws the figures of a hyperparameter search: parallel coordinates, slices, the best value so far."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps, ticker
from matplotlib.collections import LineCollection

from jaxvision.analysis.plots import COLOURS, canvas

_INACTIVE = -0.13  # height in parallel coordinates of a parameter that is inactive in a trial
_NAMED = 24  # most characters of a category's name
_FEW = 5  # up to so many different numbers, such as those of a grid, each gets its own tick


class Parameter(NamedTuple):
    """The values of one hyperparameter.

    Attributes:
      name: Name of the parameter.
      values: Value in each trial; None if the parameter is inactive there. Text and booleans are categories, in the
        order in which they appear.
      log: True if the axis is logarithmic.
      categories: Categories in the order of the axis; None to use the values. Numbers are categories only if listed.
    """

    name: str
    values: Sequence[Any]
    log: bool = False
    categories: Sequence[Any] | None = None


def parallel_coordinates(
    parameters: Sequence[Parameter], values: Sequence[float], path: Path, *, objective: str, maximize: bool
) -> None:
    """Draws each trial as a line over one axis for each parameter and, at the right, the objective; colour is the rank.

    Args:
      parameters: Parameters, each with the values of all trials.
      values: Values of the objective, one for each trial; better trials are drawn on top, the best one thick.
      path: File of the picture; without a suffix, both .svg and .png are written.
      objective: Name of the objective.
      maximize: True if large values are good.
    """
    axes = [*parameters, Parameter(objective, list(values))]
    scales = [_Scale(parameter) for parameter in axes]
    heights = np.array([[scale.position(v) for v in parameter.values] for parameter, scale in zip(axes, scales)])
    order = np.argsort(values) if maximize else np.argsort(values)[::-1]
    shade = np.linspace(0, 1, len(order))
    with canvas(path, size=(1.6 + 1.5 * len(axes), 4.2)) as axis:
        axis.add_collection(
            LineCollection(
                [np.stack([np.arange(len(axes)), heights[:, i]], -1) for i in order],
                colors=colormaps["viridis_r"](shade),
                linewidths=[0.9] * (len(order) - 1) + [2.6],
                alpha=0.85,
            )
        )
        for x, scale in enumerate(scales):
            axis.axvline(x, color="0.25", lw=1)
            for value, label in scale.ticks():
                axis.plot([x - 0.02, x], [scale.position(value)] * 2, color="0.25", lw=1)
                _label(axis, x - 0.04, scale.position(value), label)
            if any(v is None for v in axes[x].values):
                _label(axis, x - 0.04, _INACTIVE, "inactive")
        low = _INACTIVE - 0.05 if (heights == _INACTIVE).any() else -0.04
        axis.set(xlim=(-0.6, len(axes) - 0.7), ylim=(low, 1.04))
        axis.set_xticks(range(len(axes)), [_wrapped(parameter.name) for parameter in axes])
        axis.set_yticks([])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.grid(False)


def slices(parameters: Sequence[Parameter], values: Sequence[Sequence[float]], path: Path, *, objective: str) -> None:
    """Draws the objective against each parameter in its own panel: dots are seeds, rings are means over them.

    Args:
      parameters: Parameters, each with the values of all trials.
      values: Values of the objective: for each trial, one for each seed.
      path: File of the picture; without a suffix, both .svg and .png are written.
      objective: Name of the objective.
    """
    columns = min(len(parameters), 3)
    rows = -(-len(parameters) // columns)
    size = 0.6 + 3.2 * columns, 0.3 + 2.7 * rows
    with canvas(path, rows, columns, size, sharey=True, squeeze=False) as panels:
        for panel in panels.flat[len(parameters) :]:
            panel.set_visible(False)
        for i, (panel, parameter) in enumerate(zip(panels.flat, parameters)):
            scale = _Scale(parameter)
            active = [(x, ys) for x, ys in zip(parameter.values, values) if x is not None]
            place = scale.index if scale.names else lambda x: x
            for x, ys in active:
                panel.plot([place(x)] * len(ys), ys, ".", color=COLOURS[0], alpha=0.5, ms=4)
            panel.plot(
                [place(x) for x, _ in active], [np.mean(ys) for _, ys in active], "o", color=COLOURS[0], mfc="none"
            )
            if scale.names:
                panel.set_xticks(range(len(scale.names)), scale.names)
                panel.set_xlim(-0.5, len(scale.names) - 0.5)
            elif parameter.log:
                panel.set_xscale("log")
            panel.set_xlabel(parameter.name)
            if i % columns == 0:
                panel.set_ylabel(objective)


def running_best(values: Sequence[float], path: Path, *, objective: str, maximize: bool) -> None:
    """Draws the value of each trial as a dot and the best value up to it as a line.

    Args:
      values: Values of the objective, in the order of the trials; NaN for a trial without a value.
      path: File of the picture; without a suffix, both .svg and .png are written.
      objective: Name of the objective.
      maximize: True if large values are good.
    """
    better: np.ufunc = np.fmax if maximize else np.fmin
    numbers = np.arange(len(values))
    with canvas(path, size=(6.4, 3.6)) as axis:
        axis.plot(numbers, values, "o", color=COLOURS[0], alpha=0.6, ms=4, label="trial")
        best = better.accumulate(np.asarray(values, float))
        axis.step(numbers, best, where="post", color=COLOURS[1], label="best so far")
        axis.set(xlabel="trial", ylabel=objective)
        axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axis.legend()


class _Scale:
    """The scale of a parameter: maps its values to [0, 1] and chooses its ticks."""

    def __init__(self, parameter: Parameter):
        active = [v for v in parameter.values if v is not None]
        numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in active)
        categories = parameter.categories or (None if numeric else list(dict.fromkeys(active)))
        self.names = [str(v)[:_NAMED] for v in categories] if categories else []
        self._categories, self._log, self._values = list(categories or ()), parameter.log, sorted(set(active), key=str)
        if not categories:
            self._low, self._high = min(map(self._line, active), default=0), max(map(self._line, active), default=1)

    def _line(self, value: float) -> float:
        return np.log(value) if self._log else value

    def index(self, value: Any) -> int:
        """The position of a category."""
        return self._categories.index(value)

    def position(self, value: Any) -> float:
        """The height of a value in [0, 1]; below 0 for None."""
        if value is None:
            return _INACTIVE
        if self.names:
            return self.index(value) / (len(self.names) - 1) if len(self.names) > 1 else 0.5
        width = self._high - self._low
        return float((self._line(value) - self._low) / width) if width else 0.5

    def ticks(self) -> list[tuple[Any, str]]:
        """The values to mark, with their labels."""
        if self.names:
            return list(zip(self._categories, self.names))
        if len(self._values) <= _FEW:
            return [(v, f"{v:.3g}") for v in self._values]
        ends = (np.exp(self._low), np.exp(self._high)) if self._log else (self._low, self._high)
        many_decades = self._log and ends[1] / ends[0] > 30
        locator: ticker.Locator = ticker.LogLocator(numticks=6) if many_decades else ticker.MaxNLocator(5)
        slack = 1e-9 * (ends[1] - ends[0])
        inside = [v for v in locator.tick_values(*ends) if ends[0] - slack <= v <= ends[1] + slack]
        return [(v, f"{v:.4g}") for v in inside]


def _label(axis: Any, x: float, y: float, text: str) -> None:
    box = dict(facecolor="white", edgecolor="none", alpha=0.75, pad=0.6)
    axis.text(x, y, text, ha="right", va="center", size=8, bbox=box)


def _wrapped(name: str) -> str:
    """Breaks a dotted key into two lines."""
    section, dot, leaf = name.rpartition(".")
    return f"{section}{dot}\n{leaf}" if section else name
