"""The figures of a data-scaling study. Values are shares in [0, 1], drawn in per cent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from jaxvision.analysis.crossing import Crossing
from jaxvision.analysis.plots import COLOURS, MARKERS, canvas, count_axis, plt
from jaxvision.analysis.scaling_laws import Curve, Fit
from jaxvision.analysis.statistics import t_interval


def accuracy_and_error(
    errors: Mapping[str, Curve], path: str | Path, *, fits: Mapping[str, Fit] | None = None, extend: float = 4.0
) -> None:
    """Accuracy on a logarithmic and error on a doubly logarithmic axis, over training examples.

    Args:
      errors: arm -> examples -> one error for each seed. Dots are seeds, bars the 95 % t-intervals of their mean.
      path: as for `plots.canvas`.
      fits: arm -> its fit, drawn with its 95 % band; dashed beyond the sizes.
      extend: how far beyond the largest size, as a factor.
    """
    with canvas(path, 1, 2, size=(8.4, 3.6)) as axes:
        for axis, value in zip(axes, (lambda error: 100 * (1 - error), lambda error: 100 * error)):
            for (arm, curve), colour, marker in zip(errors.items(), COLOURS, MARKERS):
                _seeds(axis, curve, value, colour, marker, arm, join=not fits)
                if fits and arm in fits:
                    _law(axis, fits[arm], value, colour, extend)
            count_axis(axis, sorted({n for curve in errors.values() for n in curve}))
        axes[0].set(ylabel="accuracy (%)", ylim=(max(axes[0].get_ylim()[0], 0), min(axes[0].get_ylim()[1], 100)))
        axes[1].set(ylabel="error (%)", yscale="log", ylim=_log_limits(errors, fits, extend))
        _plain_log_ticks(axes[1].yaxis)
        axes[0].legend()


def against_compute(points: Mapping[str, Sequence[tuple[float, Sequence[float]]]], path: str | Path) -> None:
    """Error over the compute of one training run, both logarithmic.

    Args:
      points: arm -> (FLOPs of a run, one error for each seed), in any order; bars are 95 % t-intervals of their mean.
      path: as for `plots.canvas`.
    """
    with canvas(path) as axis:
        for (arm, pairs), colour, marker in zip(points.items(), COLOURS, MARKERS):
            pairs = sorted(pairs, key=lambda pair: pair[0])
            intervals = [t_interval(values) for _, values in pairs]
            _means(axis, [flops / 1e18 for flops, _ in pairs], intervals, colour, marker, arm, 100)
        axis.set(xscale="log", yscale="log", xlabel="compute of one run (exaFLOPs)", ylabel="error (%)")
        _plain_log_ticks(axis.yaxis)
        _plain_log_ticks(axis.xaxis, (1, 2, 5))
        axis.legend()


def gap(found: Crossing, path: str | Path, names: tuple[str, str]) -> None:
    """The lead of the first arm over the second at each size, in points: seeds, mean and 95 % t-interval.

    A crossing that lies within the sizes is marked with its interval.
    """
    with canvas(path) as axis:
        sizes = sorted(found.lead)
        for seed, values in enumerate(zip(*(found.lead[n].each for n in sizes))):
            label = "single seeds" if seed == 0 else None
            axis.plot(sizes, 100 * np.array(values), "-", color="0.6", lw=0.8, marker=".", ms=4, label=label)
        _means(axis, sizes, [found.lead[n].interval for n in sizes], COLOURS[0], "o", "mean", 100)
        axis.axhline(0, color="0.2", lw=1)
        if found.verdict == "crosses":
            axis.axvspan(found.observed.low, found.observed.high, color=COLOURS[2], alpha=0.18, lw=0)
            axis.axvline(found.observed.mean, color=COLOURS[2], lw=1.2, label="crossing, 95 % interval")
        count_axis(axis, sizes)
        axis.set(ylabel=f"{names[0]} minus {names[1]} (points)")
        axis.legend()


def residuals(fits: Mapping[str, Fit], path: str | Path) -> None:
    """Mean minus fit at each size in standard errors of the mean; the shade reaches from -2 to 2."""
    with canvas(path, size=(6.4, 3.0)) as axis:
        axis.axhspan(-2, 2, color="0.92", lw=0)
        axis.axhline(0, color="0.2", lw=1)
        for (arm, one), colour, marker in zip(fits.items(), COLOURS, MARKERS):
            label = f"{arm}: {one.form.replace('_', ' ')}"
            axis.plot(one.examples, one.residuals(), marker=marker, color=colour, lw=0.8, label=label)
        count_axis(axis, sorted({int(n) for one in fits.values() for n in one.examples}))
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
    """A metric over training steps, a panel for each arm and a shade for each size; lines are means over seeds.

    Args:
      arms: arm -> examples -> for each seed the rows of its metrics.jsonl; rows without the metric are passed over.
      path: as for `plots.canvas`.
      metric: its key.
      ylabel: what it is, in the unit after scaling.
      scale: factor from the metric to the axis.
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
        axes[0, -1].legend(title="examples", loc="center left", bbox_to_anchor=(1, 0.5))


def few_shot(arms: Mapping[str, Mapping[int, Curve]], path: str | Path, *, chance: float | None = None) -> None:
    """Accuracy of a linear classifier of few examples on frozen features, over the examples of pretraining.

    Args:
      arms: arm -> shots -> examples of pretraining -> one accuracy for each seed; a panel for each number of shots.
      path: as for `plots.canvas`.
      chance: a dashed line at the share that guessing gets.
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
        axes[0, 0].legend()


def _seeds(axis: Axes, curve: Mapping[float, Sequence[float]], value, colour, marker, label, *, join: bool) -> None:
    """Dots for seeds, means with their intervals, and lines between means where no fit runs there."""
    xs = sorted(curve)
    for x in xs:
        axis.plot([x] * len(curve[x]), value(np.asarray(curve[x])), ".", color=colour, alpha=0.4, ms=4, mew=0)
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
    """Limits that show every seed and fitted line; a band that reaches towards zero may leave the picture."""
    values = [v for curve in errors.values() for seeds in curve.values() for v in seeds if v > 0]
    values += [float(one.predict([extend * one.examples[-1]])[0]) for one in (fits or {}).values()]
    return 85 * min(v for v in values if v > 0), 115 * max(values)


def _plain_log_ticks(axis: Axis, subs: Sequence[int] = (1, 2, 3, 4, 5, 6, 8)) -> None:
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _symmetric(axis: Axes, least: float) -> tuple[float, float]:
    reach = max(least, *(abs(end) for end in axis.get_ylim()))
    return -reach, reach
