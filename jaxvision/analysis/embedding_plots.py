"""Draws maps of images in the plane, by PCA and t-SNE."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from jaxvision.analysis.plots import canvas, literal

if TYPE_CHECKING:
    from jaxvision.explain.embedding import Embedding

COLOURED = 20  # most classes that get a colour


def draw(embedding: "Embedding", labels: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Draws both maps side by side, with a dot for each image, coloured by class.

    Args:
      embedding: Embedding of N images.
      labels: Classes, int [N].
      classes: Names of all classes. If there are more than 20, only 20 evenly spaced ones get a colour; others are
        grey.
      path: File of the picture; see `plots.canvas` for its suffix.
    """
    chosen = np.unique(np.linspace(0, len(classes) - 1, min(COLOURED, len(classes))).round().astype(int))
    palette = getattr(colormaps["tab10" if len(chosen) <= 10 else "tab20"], "colors")  # noqa: B009, no stub has it
    colours = {int(k): colour for k, colour in zip(chosen, palette)}
    dot_colours = np.array([colours.get(int(k), (0.85, 0.85, 0.85)) for k in labels])
    # Drawn in a random order, so that no class hides another, with grey dots at the bottom.
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort([int(labels[i]) in colours for i in order], kind="stable")]
    first, second = (f"{100 * share:.1f} % of the variance" for share in embedding.explained)
    with canvas(path, columns=2, size=(11.6, 5)) as (left, right):
        for axis, points in ((left, embedding.pca), (right, embedding.tsne)):
            _dots(axis, points[order], dot_colours[order])
        left.set(title="PCA", xlabel=f"first component, {first}", ylabel=f"second component, {second}")
        right.set(title=f"t-SNE, perplexity {embedding.perplexity:g}, seed {embedding.seed}", xticks=[], yticks=[])
        right.spines[:].set_visible(True)
        for k, colour in colours.items():
            right.plot([], [], "o", color=colour, label=literal(classes[k]))
        if len(colours) < len(classes):
            right.plot([], [], "o", color="0.85", label=f"{len(classes) - len(colours):,} others")
        right.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), borderaxespad=0)


def _dots(axis: Axes, points: np.ndarray, colours: np.ndarray) -> None:
    size = np.clip(20_000 / len(points), 2, 30)
    axis.scatter(points[:, 0], points[:, 1], s=size, c=colours, alpha=0.75, linewidths=0)
    axis.grid(False)
