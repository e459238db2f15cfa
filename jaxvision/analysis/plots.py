"""Figures: curves of studies, histograms of data."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from jaxvision.analysis.statistics import t_interval

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")  # Okabe and Ito 2008: told apart by all eyes
MARKERS = ("o", "s", "^", "D", "v")


def data_curves(
    arms: Mapping[str, Mapping[int, list[float]]],
    path: Path,
    *,
    ylabel: str,
    title: str = "",
    chance: float | None = None,
) -> None:
    """Draws one curve an arm over the number of training examples, on a logarithmic axis.

    Args:
      arms: arm -> examples -> one value a seed, as shares in [0, 1]. Dots are single seeds, the band is the
        95 % t-interval of the mean.
      path: the picture's file; its suffix is the format.
      ylabel: what the values are.
      title: over the figure.
      chance: a dashed line at the share that guessing gets.
    """
    figure, axis = plt.subplots(figsize=(6.4, 4.2))
    for (arm, sizes), colour, marker in zip(arms.items(), COLOURS, MARKERS):
        xs = sorted(sizes)
        intervals = [t_interval(sizes[x]) for x in xs]
        axis.plot(xs, [100 * i.mean for i in intervals], marker=marker, color=colour, label=arm)
        axis.fill_between(
            xs, [100 * i.low for i in intervals], [100 * i.high for i in intervals], color=colour, alpha=0.18, lw=0
        )
        for x in xs:
            axis.plot([x] * len(sizes[x]), [100 * v for v in sizes[x]], ".", color=colour, alpha=0.5, ms=4)
    if chance is not None:
        axis.axhline(100 * chance, ls="--", lw=1, color="0.5", label="chance")
    axis.set(xscale="log", xlabel="training examples", ylabel=ylabel, title=title)
    ticks = sorted({x for sizes in arms.values() for x in sizes})
    axis.set_xticks(ticks, [f"{x:,}" for x in ticks])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def histogram(counts: Mapping[str, float], path: Path, *, xlabel: str, title: str = "", named: int = 60) -> None:
    """Draws one bar a name; names are left out where there are more than `named`, and bars are then sorted.

    Args:
      counts: name -> value, drawn from top to bottom.
      path: the picture's file; its suffix is the format.
      xlabel: what the values are.
      title: over the figure.
    """
    many = len(counts) > named
    values = sorted(counts.values(), reverse=True) if many else list(counts.values())
    figure, axis = plt.subplots(figsize=(6.4, 6.4 if many else 1.2 + 0.22 * len(values)))
    axis.barh(range(len(values)), values, height=1.0 if many else 0.8, color=COLOURS[0])
    axis.set(xlabel=xlabel, title=title, ylim=(len(values) - 0.5, -0.5))
    if many:
        axis.set_ylabel(f"{len(values):,} classes, by falling count")
    else:
        axis.set_yticks(range(len(values)), list(counts))
    axis.grid(alpha=0.3, axis="x")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
