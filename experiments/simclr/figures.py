"""The figures of the study, and the lines of the report that show them."""

from pathlib import Path

import numpy as np

from jaxvision.analysis import plots, words
from jaxvision.analysis.gallery import Gallery, informative
from jaxvision.commands.study import sibling

presets = sibling(__file__, "presets")
tables = sibling(__file__, "tables")

TOP1 = "top-1 of a linear probe (%)"
RULES = {"linear": "rate by the batch size", "sqrt": "by its square root"}


def draw(results: tables.Results, out: Path, p: presets.Preset) -> list[str]:
    """Draws figures/*.svg and .png in `out`. Returns a line of Markdown for each, also for those left out.

    Args:
      results: Results of all runs.
      out: Folder of the study.
      p: Preset of the runs.
    """
    gallery, n = Gallery(out), words.seeds(p.seeds)
    bands = f"Dots are runs, bands 95 % t-intervals of the mean over {n}; a curve without a band comes from one seed."
    caption = (
        "Accuracy of a linear classifier on the features over the share of training views whose nearest view is the "
        f"other one of the same image: a dot for each run, {n} for each way to make the views. The dashed line is the "
        "network before training."
    )
    dots = [dot for arm in p.main.values() for dot in results.of(arm, tables.CONTRASTIVE)]
    if path := gallery.place("inversion", "contrastive top-1 and what a probe reads", caption, [dots]):
        _inversion(results, p, path)
    if p.grid:
        caption = (
            "Accuracy of a linear classifier for views made by each pair of transformations, and by each alone on the "
            f"diagonal; the last column is the mean over all cells with a transformation. One seed, {p.seeds[0]}."
        )
        cells = [arm for arm in p.grid.values() if p.seeds[0] in results.of(arm)]
        if path := gallery.place("grid", "a linear probe on h for each pair of transformations", caption, [cells]):
            _grid(results, p, path)
    if axes := {tables.AXES[field]: _axis(results, field, p) for field in tables.AXES if len(p.axis(field)) > 1}:
        for name, curves in list(axes.items()):
            if not informative(curves.values()):
                gallery.place(name, f"top-1 against the {name}", "", curves.values())
                del axes[name]
        caption = (
            "Accuracy of a linear classifier on h, the output of the backbone, and on g(h), that of the head, over "
            f"{words.listed(list(axes))}, on logarithmic axes. {bands}"
        )
        points = [curve for curves in axes.values() for curve in curves.values()]
        if axes and (path := gallery.place("curves", f"top-1 against {words.listed(list(axes))}", caption, points)):
            _axes(axes, path)
    if p.batch_sizes:
        curves = _by_batch(results, p)
        caption = (
            "Accuracy of a linear classifier over the batch size, on a logarithmic axis, by length of training and "
            f"rule of the learning rate. {bands}"
        )
        what = "batch size, length of training and learning rate"
        if path := gallery.place("batch", what, caption, curves.values()):
            _batches(curves, p, path)
    return gallery.lines


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


def _axis(results: tables.Results, field: str, p: presets.Preset) -> dict[str, dict[float, list[float]]]:
    """The accuracies on h and on g(h) by the value of one number."""
    return {
        name: {x: [*values.values()] for x, arm in p.axis(field).items() if (values := results.of(arm, key))}
        for name, key in (("h", tables.H), ("g(h)", tables.G))
    }


def _axes(axes: dict[str, dict[str, dict[float, list[float]]]], path: Path) -> None:
    with plots.canvas(path, 1, len(axes), (0.6 + 3.2 * len(axes), 3.4), sharey=True, squeeze=False) as panels:
        for panel, (name, curves) in zip(panels.flat, axes.items()):
            plots.bands(panel, curves)
            values = sorted({x for curve in curves.values() for x in curve})
            panel.set(xscale="log", xlabel=name)
            panel.set_xticks(values, [f"{x:g}" for x in values])
            panel.minorticks_off()
        panels.flat[0].set_ylabel(TOP1)
        plots.shared_legend(panels.flat[0], panels.flat)


def _by_batch(results: tables.Results, p: presets.Preset) -> dict[str, dict[int, list[float]]]:
    """The accuracies by length of training and rule, and by batch size."""
    curves: dict[str, dict[int, list[float]]] = {}
    for (size, length, rule), arm in p.batches.items():
        if values := [*results.of(arm).values()]:
            name = f"{length * p.images:,.0f} images, {RULES[rule]}"
            curves.setdefault(name, {})[size] = values
    return curves


def _batches(curves: dict[str, dict[int, list[float]]], p: presets.Preset, path: Path) -> None:
    with plots.canvas(path, size=(5.4, 3.8)) as axis:
        plots.bands(axis, curves)
        plots.count_axis(axis, sorted(p.axis("batch_size")), "batch size")
        axis.set(ylabel=TOP1, title=p.title)
        axis.legend()
