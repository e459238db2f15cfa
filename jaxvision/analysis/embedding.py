"""Maps features of images to points in the plane, by PCA and t-SNE, and finds nearest neighbours."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from jaxvision.analysis.plots import canvas, literal
from jaxvision.errors import UserError

PERPLEXITY = 30.0
KEPT = 50  # principal components that t-SNE sees
COLOURED = 20  # most classes that get a colour


class Embedding(NamedTuple):
    """N images as points in the plane.

    Attributes:
      pca: First two principal components, float [N, 2].
      explained: Share of the variance that each of them explains, float [2].
      tsne: Points of t-SNE, float [N, 2].
      perplexity: Perplexity of t-SNE.
      seed: Seed of t-SNE.
    """

    pca: np.ndarray
    explained: np.ndarray
    tsne: np.ndarray
    perplexity: float
    seed: int


def unit(values: np.ndarray) -> np.ndarray:
    """Scales features to length 1; those of length 0 stay as they are.

    Args:
      values: Features, float [N, D].

    Returns:
      Float [N, D].

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def check(examples: int, perplexity: float) -> None:
    """Checks that `embed` can run.

    Args:
      examples: Number of images.
      perplexity: Perplexity of t-SNE.

    Raises:
      UserError: If there are too few images, the perplexity is not above 1, or scikit-learn is not installed.
    """
    if not perplexity > 1:
        raise UserError(f"the perplexity of t-SNE must be above 1, not {perplexity!r}")
    if examples - 1 < 3 * perplexity:
        raise UserError(
            f"t-SNE with perplexity {perplexity:g} needs at least {int(3 * perplexity) + 1} images, not {examples}: "
            f"take more of them (--examples), or --perplexity of at most {(examples - 1) / 3:.1f}"
        )
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise UserError("t-SNE needs scikit-learn: pip install 'jaxvision[visualize]'") from None


def embed(values: np.ndarray, perplexity: float = PERPLEXITY, seed: int = 0) -> Embedding:
    """Maps features to the plane, by PCA and by t-SNE (van der Maaten and Hinton 2008).

    This is scikit-learn's Barnes-Hut t-SNE with its default options, on the first 50 principal components. It starts
    from the first two, so both maps have the same orientation. t-SNE keeps neighbours together; the distances between
    groups and the sizes of groups mean nothing.

    Args:
      values: Features, float [N, D].
      perplexity: Approximate number of neighbours that count for an image, at most (N - 1) / 3.
      seed: Seed of t-SNE and of the randomised PCA that is used for many dimensions.

    Raises:
      UserError: For the reasons of `check`.
    """
    check(len(values), perplexity)
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    pca = PCA(min(KEPT, *values.shape), random_state=seed)
    components = pca.fit_transform(values)
    tsne = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    points = tsne.fit_transform(components)
    return Embedding(components[:, :2], pca.explained_variance_ratio_[:2], points, perplexity, seed)


def nearest(values: np.ndarray, queries: Sequence[int], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k rows with the largest cosine to each query row; a query is not its own neighbour.

    Args:
      values: Features, float [N, D].
      queries: Q positions in [0, N).
      k: Number of neighbours, at most N - 1.

    Returns:
      (rows int [Q, k], cosines float [Q, k]), in order of falling cosine.

    >>> rows, cosines = nearest(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), [0], k=2)
    >>> rows.tolist(), cosines.tolist()
    ([[2, 1]], [[1.0, 0.0]])
    """
    directions, positions = unit(values), np.asarray(queries)
    cosines = directions[positions] @ directions.T  # q n
    cosines[np.arange(len(positions)), positions] = -np.inf
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(cosines, rows, axis=1)


def draw(embedding: Embedding, labels: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
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
