"""Draws the figures of a data-scaling study. Values are shares in [0, 1], drawn in per cent."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from jaxvision.analysis.crossing import Crossing
from jaxvision.analysis.plots import COLOURS, MARKERS, canvas, count_axis, plt, shared_legend
from jaxvision.analysis.scaling_laws import Curve, Fit
from jaxvision.analysis.statistics import Interval, t_interval


def accuracy_and_error(
    errors: Mapping[str, Curve], path: str | Path, *, fits: Mapping[str, Fit] | None = None, extend: float = 4.0
) -> None:
    """Draws accuracy on a logarithmic and error on a doubly logarithmic axis, over training examples.

    Args:
      errors: Arm -> examples -> one error for each seed. Dots are seeds, bars the 95 % t-intervals of their mean.
      path: File of the picture; see `plots.canvas` for its suffix.
      fits: Arm -> its fit, drawn with its 95 % band, dashed beyond the sizes; None to connect the means.
      extend: Factor beyond the largest size up to which fits are drawn.
    """
    with canvas(path, 1, 2, size=(8.4, 3.6)) as axes:
        values: tuple[Callable, ...] = (lambda error: 100 * (1 - error), lambda error: 100 * error)
        for axis, value in zip(axes, values):
            for (arm, curve), colour, marker in zip(errors.items(), COLOURS, MARKERS):
                _seeds(axis, curve, value, colour, marker, arm, join=not fits)
                if fits and arm in fits:
                    _law(axis, fits[arm], value, colour, extend)
            count_axis(axis, sorted({n for curve in errors.values() for n in curve}))
        axes[0].set(ylabel="accuracy (%)", ylim=(max(axes[0].get_ylim()[0], 0), min(axes[0].get_ylim()[1], 100)))
        axes[1].set(ylabel="error (%)", yscale="log", ylim=_log_limits(errors, fits, extend))
        _plain_log_ticks(axes[1].yaxis)
        axes[0].legend()


def accuracy_and_gaps(
    errors: Mapping[str, Curve], gaps: Mapping[str, Mapping[int, Interval]], path: str | Path, *, chance: float
) -> None:
    """Draws the accuracy of all arms, and gaps between two of them, over training examples.

    Args:
      errors: Arm -> examples -> one error for each seed. Dots are seeds, bars the 95 % t-intervals of their mean.
      gaps: Name of a gap -> examples -> its mean and interval, as a share.
      path: File of the picture; see `plots.canvas` for its suffix.
      chance: Share that guessing gets, drawn as a dashed line.
    """
    with canvas(path, 1, 2, size=(8.4, 3.4)) as axes:
        for (arm, curve), colour, marker in zip(errors.items(), COLOURS, MARKERS):
            _seeds(axes[0], curve, lambda error: 100 * (1 - error), colour, marker, arm, join=True)
        axes[0].axhline(100 * chance, ls="--", lw=1, color="0.5", label="chance")
        axes[0].set(ylabel="accuracy (%)", ylim=(0, 100))
        for (name, gap), colour, marker in zip(gaps.items(), COLOURS[len(errors) :], MARKERS):
            sizes = sorted(gap)
            _means(axes[1], sizes, [gap[n] for n in sizes], colour, marker, name, 100)
        axes[1].axhline(0, color="0.2", lw=1)
        axes[1].set_ylabel("gap (points)")
        for axis in axes:
            count_axis(axis, sorted({n for curve in errors.values() for n in curve}))
            axis.legend()


def against_compute(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, Sequence[float]]]]], path: str | Path
) -> None:
    """Draws error over the compute of one training run, both logarithmic.

    Args:
      panels: Title of a panel -> arm -> (FLOPs of a run, one error for each seed), in any order; bars are 95 %
        t-intervals of their mean.
      path: File of the picture; see `plots.canvas` for its suffix.
    """
    looks = dict(zip(dict.fromkeys(arm for arms in panels.values() for arm in arms), zip(COLOURS, MARKERS)))
    with canvas(path, 1, len(panels), size=(1 + 3.2 * len(panels), 3.4), sharey=True, squeeze=False) as axes:
        for axis, (title, arms) in zip(axes[0], panels.items()):
            for arm, pairs in arms.items():
                pairs = sorted(pairs, key=lambda pair: pair[0])
                intervals = [t_interval(values) for _, values in pairs]
                _means(axis, [flops / 1e15 for flops, _ in pairs], intervals, *looks[arm], arm, 100)
            axis.set(xscale="log", yscale="log", xlabel="compute of one run (petaFLOPs)", title=title)
            _plain_log_ticks(axis.xaxis, (1, 2, 5))
        axes[0, 0].set_ylabel("error (%)")
        _plain_log_ticks(axes[0, 0].yaxis)
        shared_legend(axes[0, 0], axes[0], looks)


def gap(crossing: Crossing, path: str | Path, names: tuple[str, str]) -> None:
    """Draws the lead of the first arm over the second at each size, in points: seeds, mean and 95 % t-interval.

    A crossing within the sizes is marked with its interval.

    Args:
      crossing: Result of `crossing.crossing`.
      path: File of the picture; see `plots.canvas` for its suffix.
      names: Names of the two arms.
    """
    with canvas(path) as axis:
        sizes = sorted(crossing.lead)
        for seed, values in enumerate(zip(*(crossing.lead[n].each for n in sizes))):
            label = "single seeds" if seed == 0 else None
            axis.plot(sizes, 100 * np.array(values), "-", color="0.6", lw=0.8, marker=".", ms=4, label=label)
        _means(axis, sizes, [crossing.lead[n].interval for n in sizes], COLOURS[0], "o", "mean", 100)
        axis.axhline(0, color="0.2", lw=1)
        if crossing.verdict == "crosses":
            axis.axvspan(crossing.observed.low, crossing.observed.high, color=COLOURS[2], alpha=0.18, lw=0)
            axis.axvline(crossing.observed.mean, color=COLOURS[2], lw=1.2, label="crossing, 95 % interval")
        count_axis(axis, sizes)
        axis.set(ylabel=f"{names[0]} minus {names[1]} (points)")
        axis.legend()


def residuals(fits: Mapping[str, Fit], path: str | Path) -> None:
    """Draws mean minus fit at each size, in standard errors of the mean; the shaded region is from -2 to 2.

    Args:
      fits: Arm -> its fit.
      path: File of the picture; see `plots.canvas` for its suffix.
    """
    with canvas(path, size=(6.4, 3.0)) as axis:
        axis.axhspan(-2, 2, color="0.92", lw=0)
        axis.axhline(0, color="0.2", lw=1)
        for (arm, fit), colour, marker in zip(fits.items(), COLOURS, MARKERS):
            label = f"{arm}: {fit.form.replace('_', ' ')}"
            axis.plot(fit.examples, fit.residuals(), marker=marker, color=colour, lw=0.8, label=label)
        count_axis(axis, sorted({int(n) for fit in fits.values() for n in fit.examples}))
        axis.set(ylabel="residual (standard errors)", ylim=_symmetric(axis, 3))
        axis.legend()


def learning_curves(
    arms: Mapping[str, Mapping[int, Sequence[Sequence[Mapping[str, Any]]]]],
    path: str | Path,
    *,
    metric: str = "val/top1",
    ylabel: str = "accuracy (%)",
    scale: float = 100.0,
) -> None:
    """Draws a metric over training steps: a panel for each arm, a shade for each size; lines are means over seeds.

    Args:
      arms: Arm -> examples -> for each seed the rows of its metrics.jsonl; rows without the metric are ignored.
      path: File of the picture; see `plots.canvas` for its suffix.
      metric: Key of the metric in the rows.
      ylabel: Label of the values, with their unit after scaling.
      scale: Factor from the metric to the axis.
    """
    sizes = sorted({n for curves in arms.values() for n in curves})
    shades = dict(zip(sizes, plt.get_cmap("viridis_r")(np.linspace(0.12, 1, len(sizes)))))
    with canvas(path, 1, len(arms), size=(1.2 + 3.4 * len(arms), 3.4), sharey=True, squeeze=False) as axes:
        for axis, (arm, curves) in zip(axes[0], arms.items()):
            for n in sorted(curves):
                seeds = [{r["step"]: r[metric] for r in rows if r.get(metric) is not None} for rows in curves[n]]
                steps = sorted(set.intersection(*(set(seed) for seed in seeds)))
                values = scale * np.array([[seed[step] for step in steps] for seed in seeds], float).T
                for value in values.T if len(seeds) > 1 else ():
                    axis.plot(steps, value, color=shades[n], lw=0.5, alpha=0.5)
                axis.plot(steps, values.mean(1), color=shades[n], label=f"{n:,}")
            axis.set(xlabel="training step", title=arm)
        axes[0, 0].set_ylabel(ylabel)
        order = [f"{n:,}" for n in sizes]
        shared_legend(axes[0, -1], axes[0], order, title="examples", loc="center left", bbox_to_anchor=(1, 0.5))


def few_shot(arms: Mapping[str, Mapping[int, Curve]], path: str | Path, *, chance: float | None = None) -> None:
    """Draws the accuracy of a few-shot linear classifier on frozen features, over the examples of pretraining.

    Args:
      arms: Arm -> shots -> examples of pretraining -> one accuracy for each seed; a panel for each number of shots.
      path: File of the picture; see `plots.canvas` for its suffix.
      chance: Share that guessing gets, drawn as a dashed line; None to draw none.
    """
    shots = sorted({k for curves in arms.values() for k in curves})
    with canvas(path, 1, len(shots), size=(1 + 2.5 * len(shots), 3.2), sharey=True, squeeze=False) as axes:
        for axis, k in zip(axes[0], shots):
            for (arm, curves), colour, marker in zip(arms.items(), COLOURS, MARKERS):
                _seeds(axis, curves[k], lambda accuracy: 100 * accuracy, colour, marker, arm, join=True)
            if chance is not None:
                axis.axhline(100 * chance, ls="--", lw=1, color="0.5", label="chance")
            count_axis(axis, sorted({n for curves in arms.values() for n in curves[k]}), "pretraining examples")
            axis.tick_params(axis="x", rotation=30)
            axis.set_title(f"{k} per class")
        axes[0, 0].set_ylabel("few-shot accuracy (%)")
        shared_legend(axes[0, 0], axes[0])


def _seeds(axis: Axes, curve: Mapping[int, Sequence[float]], value, colour, marker, label, *, join: bool) -> None:
    """Dots for seeds, means with their intervals, and lines between means if `join`."""
    xs = sorted(curve)
    for x in xs:
        beside = [0.96 * x] * len(curve[x])  # where the bars do not hide them, on a logarithmic axis
        axis.plot(beside, value(np.asarray(curve[x])), ".", color=colour, alpha=0.6, ms=4, mew=0)
    intervals = [t_interval(value(np.asarray(curve[x], float))) for x in xs]
    _means(axis, xs, intervals, colour, marker, label, 1, join)


def _means(axis: Axes, xs, intervals, colour, marker, label, scale: float, join: bool = True) -> None:
    means, halves = (scale * np.array(part) for part in zip(*((i.mean, i.half) for i in intervals)))
    look = dict(fmt=marker, ls="-" if join else "none", color=colour, capsize=2, lw=1.2, label=label)
    axis.errorbar(xs, means, yerr=np.nan_to_num(halves), **look)


def _law(axis: Axes, law: Fit, value, colour, extend: float) -> None:
    first, last = law.examples[[0, -1]]
    for start, stop, style in ((first, last, "-"), (last, extend * last, "--")):
        line = np.geomspace(start, stop, 100)
        low, high = law.band(line)
        axis.plot(line, value(law.predict(line)), style, color=colour, lw=1.2)
        axis.fill_between(line, value(low), value(high), color=colour, alpha=0.18 if style == "-" else 0.1, lw=0)


def _log_limits(errors: Mapping[str, Curve], fits: Mapping[str, Fit] | None, extend: float) -> tuple[float, float]:
    """Limits that show every seed and fitted line; a band that approaches zero may leave the picture."""
    values = [v for curve in errors.values() for seeds in curve.values() for v in seeds if v > 0]
    values += [float(fit.predict([extend * fit.examples[-1]])[0]) for fit in (fits or {}).values()]
    return 85 * min(v for v in values if v > 0), 115 * max(values)


def _plain_log_ticks(axis: Axis, subs: Sequence[int] = (1, 2, 3, 4, 5, 6, 8)) -> None:
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _symmetric(axis: Axes, least: float) -> tuple[float, float]:
    reach = max(least, *(abs(end) for end in axis.get_ylim()))
    return -reach, reach
