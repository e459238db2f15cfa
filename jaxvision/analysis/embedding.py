"""Features of images as points in the plane, by PCA and t-SNE, and the images whose features lie nearest."""

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
COLOURED = 20  # classes


class Embedding(NamedTuple):
    """N images as points.

    Attributes:
      pca: float [N, 2], the first two principal components.
      explained: float [2], the share of the variance that each of them has.
      tsne: float [N, 2].
      perplexity: of t-SNE.
      seed: of t-SNE.
    """

    pca: np.ndarray
    explained: np.ndarray
    tsne: np.ndarray
    perplexity: float
    seed: int


def unit(values: np.ndarray) -> np.ndarray:
    """Features of length 1, float [N, D]; those of length 0 stay so.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def check(examples: int, perplexity: float) -> None:
    """Raises UserError where `embed` would: too few images, a perplexity out of range, or no scikit-learn."""
    if not perplexity > 1:
        raise UserError(f"the perplexity of t-SNE must be above 1, not {perplexity!r}")
    if examples - 1 < 3 * perplexity:
        raise UserError(
            f"t-SNE with perplexity {perplexity:g} needs at least {int(3 * perplexity) + 1} images, not {examples}: "
            f"take more of them, or a perplexity of at most {(examples - 1) / 3:.1f}"
        )
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise UserError("t-SNE needs scikit-learn: pip install 'jaxvision[visualize]'") from None


def embed(values: np.ndarray, perplexity: float = PERPLEXITY, seed: int = 0) -> Embedding:
    """Maps features to the plane, by PCA and by t-SNE (van der Maaten and Hinton 2008).

    t-SNE is scikit-learn's, of the Barnes-Hut kind, on the first 50 principal components, with its defaults: it starts
    from the first two, so the two maps are turned alike. It keeps neighbours together; distances between groups and
    their sizes mean nothing in it.

    Args:
      values: float [N, D].
      perplexity: about how many neighbours of an image count, at most (N - 1) / 3.
      seed: of t-SNE and of a randomised PCA of many dimensions.

    Raises:
      UserError: as `check`.
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
    """The k rows of largest cosine to each of some rows, which are not their own neighbours.

    Args:
      values: float [N, D].
      queries: Q positions in [0, N).
      k: at most N - 1.

    Returns:
      (rows int [Q, k], cosines float [Q, k], falling).

    >>> rows, cosines = nearest(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), [0], k=2)
    >>> rows.tolist(), cosines.tolist()
    ([[2, 1]], [[1.0, 0.0]])
    """
    directions, queries = unit(values), np.asarray(queries)
    cosines = directions[queries] @ directions.T  # q n
    cosines[np.arange(len(queries)), queries] = -np.inf
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(cosines, rows, axis=1)


def draw(embedding: Embedding, labels: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Draws both maps side by side, a dot an image, coloured by class.

    Args:
      embedding: of N images.
      labels: int [N].
      classes: names of all. Of more than 20, as many that lie evenly among them have a colour, the others are grey.
      path: as for `plots.canvas`.
    """
    chosen = np.unique(np.linspace(0, len(classes) - 1, min(COLOURED, len(classes))).round().astype(int))
    palette = colormaps["tab10" if len(chosen) <= 10 else "tab20"].colors
    colours = {int(k): colour for k, colour in zip(chosen, palette)}
    of_dots = np.array([colours.get(int(k), (0.85, 0.85, 0.85)) for k in labels])
    # Drawn in a random order, so that no class hides another, with grey dots at the bottom.
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort([int(labels[i]) in colours for i in order], kind="stable")]
    first, second = (f"{100 * share:.1f} % of the variance" for share in embedding.explained)
    with canvas(path, columns=2, size=(11.6, 5)) as (left, right):
        for axis, points in ((left, embedding.pca), (right, embedding.tsne)):
            _dots(axis, points[order], of_dots[order])
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
    axis.scatter(*points.T, s=size, c=colours, alpha=0.75, linewidths=0)
    axis.grid(False)
