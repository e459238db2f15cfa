"""The figures of the study, and the lines of the report that show them."""

from pathlib import Path

import numpy as np

from jaxvision.analysis import plots
from jaxvision.commands.study import sibling

presets = sibling(__file__, "presets")
tables = sibling(__file__, "tables")

TOP1 = "top-1 of a linear probe (%)"
RULES = {"linear": "rate by the batch size", "sqrt": "by its square root"}


def draw(results: tables.Results, out: Path, p: presets.Preset) -> list[str]:
    """Draws figures/*.svg and .png in `out`. Returns a line of Markdown for each.

    Args:
      results: Results of all runs.
      out: Folder of the study.
      p: Preset of the runs.
    """
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []

    def show(name: str, caption: str) -> Path:
        lines.append(f"![{caption}](figures/{name}.png)\n")
        return folder / name

    _inversion(results, p, show("inversion", "contrastive top-1 and what a probe reads, a dot a run"))
    if p.grid:
        _grid(results, p, show("grid", "a linear probe on h for each pair of transformations"))
    if any(len(p.axis(field)) > 1 for field in tables.AXES):
        _axes(results, p, show("curves", "temperature, colour strength and dimensions in the loss"))
    if p.batch_sizes:
        _batches(results, p, show("batch", "batch size, length of training and learning rate"))
    return lines


def _inversion(results: tables.Results, p: presets.Preset, path: Path) -> None:
    with plots.canvas(path, size=(5.4, 4.0)) as axis:
        for (name, arm), colour, marker in zip(p.main.items(), plots.COLOURS, plots.MARKERS):
            probe, solved = results.of(arm), results.of(arm, tables.CONTRASTIVE)
            if solved:
                xs, ys = ([100 * of[seed] for seed in solved] for of in (solved, probe))
                axis.plot(xs, ys, marker, color=colour, label=tables.MAIN[name])
        if random := results.of(p.main["random"]):
            axis.axhline(100 * np.mean([*random.values()]), ls="--", lw=1, color="0.5", label="random network")
        axis.set(xlabel="contrastive top-1 on training batches (%)", ylabel=TOP1, title=p.title)
        axis.legend()


def _grid(results: tables.Results, p: presets.Preset, path: Path) -> None:
    """The heat map of fig. 5, each pair once, and next to it the mean over all cells with a transformation."""
    ops = [op for op in presets.OPS if op in p.ops]
    values = {pair: 100 * of[p.seeds[0]] for pair, arm in p.grid.items() if p.seeds[0] in (of := results.of(arm))}
    shown = np.full((len(ops), len(ops) + 2), np.nan)
    for (one, other), value in values.items():
        shown[ops.index(other), ops.index(one)] = value
    for i, op in enumerate(ops):
        if with_it := [value for pair, value in values.items() if op in pair]:
            shown[i, -1] = np.mean(with_it)
    with plots.canvas(path, size=(2.0 + 0.8 * len(ops), 1.2 + 0.6 * len(ops))) as axis:
        image = axis.imshow(shown, cmap="viridis", aspect="auto")
        middle = np.nanmean([np.nanmin(shown), np.nanmax(shown)])
        for (row, column), value in np.ndenumerate(shown):
            if np.isfinite(value):
                colour = "black" if value > middle else "white"
                axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
        axis.set_xticks([*range(len(ops)), len(ops) + 1], [*ops, "mean"])
        axis.set_yticks(range(len(ops)), ops)
        axis.set_title(f"{p.title}: {TOP1}")
        axis.grid(False)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
        axis.figure.colorbar(image, ax=axis)


def _axes(results: tables.Results, p: presets.Preset, path: Path) -> None:
    axes = {field: p.axis(field) for field in tables.AXES if len(p.axis(field)) > 1}
    with plots.canvas(path, 1, len(axes), (0.6 + 3.2 * len(axes), 3.4), sharey=True, squeeze=False) as panels:
        for panel, (field, arms) in zip(panels.flat, axes.items()):
            curves = {
                name: {x: [*values.values()] for x, arm in arms.items() if (values := results.of(arm, key))}
                for name, key in (("h", tables.H), ("g(h)", tables.G))
            }
            plots.bands(panel, curves)
            panel.set(xscale="log", xlabel=tables.AXES[field])
            panel.set_xticks([*arms], [f"{x:g}" for x in arms])
            panel.minorticks_off()
        panels.flat[0].set_ylabel(TOP1)
        plots.shared_legend(panels.flat[0], panels.flat)


def _batches(results: tables.Results, p: presets.Preset, path: Path) -> None:
    curves: dict[str, dict[int, list[float]]] = {}
    for (size, length, rule), arm in p.batches.items():
        if values := [*results.of(arm).values()]:
            name = f"{length * p.images:,.0f} images, {RULES[rule]}"
            curves.setdefault(name, {})[size] = values
    with plots.canvas(path, size=(5.4, 3.8)) as axis:
        plots.bands(axis, curves)
        plots.count_axis(axis, sorted(p.axis("batch_size")), "batch size")
        axis.set(ylabel=TOP1, title=p.title)
        axis.legend()
