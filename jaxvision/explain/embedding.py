"""Features as points in the plane: principal components exactly, t-SNE by scikit-learn.

There is no t-SNE of this project's own, because scikit-learn's is well kept, and quick where there are many points.
What is checked here is whether the perplexity suits the number of images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.errors import UserError

PERPLEXITY = 30.0
STEPS = 1000  # of t-SNE
KEPT = 50  # principal components that t-SNE sees


class Components(NamedTuple):
    """Principal components of N examples.

    Attributes:
      points: Coordinates of the examples, float64 [N, C].
      directions: Directions of the components, float64 [C, D]; orthonormal.
      variances: Variances along them, float64 [C], with N - 1 in the denominator; in falling order.
      explained: Share of the whole variance that each of them explains, float64 [C].
    """

    points: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    explained: np.ndarray


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


def principal_components(values: np.ndarray, count: int = 2) -> Components:
    """Computes principal components by a singular value decomposition.

    Source: Pearson 1901, "On lines and planes of closest fit to systems of points in space".

    Args:
      values: Examples, float [N, D].
      count: Number C of components, at most min(N, D). The largest entry of each direction is positive.

    >>> found = principal_components(np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]), count=1)
    >>> found.points.ravel().round(6).tolist(), found.variances.round(6).tolist()
    ([-2.0, 0.0, 2.0], [4.0])
    """
    centred = np.asarray(values, np.float64) - np.mean(values, axis=0, dtype=np.float64)
    _, scales, directions = np.linalg.svd(centred, full_matrices=False)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    directions = (directions * np.where(largest < 0, -1, 1))[:count]
    variances = np.square(scales) / max(len(centred) - 1, 1)
    explained = variances / (variances.sum() or 1)
    return Components(centred @ directions.T, directions, variances[:count], explained[:count])


def obstacle(examples: int, perplexity: float, flag: str) -> str | None:
    """Returns why `tsne` cannot run, as the end of a sentence; None if it can.

    Args:
      examples: Number of images.
      perplexity: Perplexity of t-SNE, above 1.
      flag: Option of the command that sets the number of images.
    """
    if examples - 1 < 3 * perplexity:
        most = np.floor(10 * (examples - 1) / 3) / 10
        smaller = f", or a perplexity of at most {most:.1f}" if most > 1 else ""
        return (
            f"t-SNE with perplexity {perplexity:g} needs at least {int(np.ceil(3 * perplexity)) + 1} images, not "
            f"{examples}: take more of them ({flag}){smaller}"
        )
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return "t-SNE needs scikit-learn: pip install 'jaxvision[visualize]'"
    return None


def check(examples: int, perplexity: float, flag: str = "--examples") -> None:
    """Checks that `tsne` and `embed` can run.

    Args:
      examples: Number of images.
      perplexity: Perplexity of t-SNE.
      flag: Option of the command that sets the number of images.

    Raises:
      UserError: If there are too few images, the perplexity is not above 1, or scikit-learn is not installed.
    """
    if not perplexity > 1:
        raise UserError(f"the perplexity of t-SNE must be above 1, not {perplexity!r}")
    reason = obstacle(examples, perplexity, flag)
    if reason:
        raise UserError(reason)


def tsne(
    values: np.ndarray, perplexity: float = PERPLEXITY, seed: int = 0, steps: int = STEPS
) -> tuple[np.ndarray, float]:
    """Maps features to the plane by t-SNE (van der Maaten and Hinton 2008), so that neighbours stay neighbours.

    This is scikit-learn's Barnes-Hut t-SNE with its default options. It starts from the first two principal
    components. The distances between groups and the sizes of groups mean nothing.

    Args:
      values: Features, float [N, D], of at least two dimensions; usually their first 50 principal components.
      perplexity: Approximate number of neighbours that count for an image, at most (N - 1) / 3.
      seed: Seed of what it draws.
      steps: Number of steps, at least 250, in which neighbours are exaggerated.

    Returns:
      (points float [N, 2], KL divergence of the neighbours in the plane from those of the features, in nats).

    Raises:
      UserError: For the reasons of `check`.
    """
    check(len(values), perplexity)
    from sklearn.manifold import TSNE

    mapping = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed, max_iter=steps)
    points = mapping.fit_transform(values)
    return points, float(mapping.kl_divergence_)


def embed(values: np.ndarray, perplexity: float = PERPLEXITY, seed: int = 0) -> Embedding:
    """Maps features to the plane by PCA, and by t-SNE of the first 50 principal components.

    Both maps have the same orientation.

    Args:
      values: Features, float [N, D], of at least two dimensions.
      perplexity: Perplexity of t-SNE, see `tsne`.
      seed: Seed of t-SNE.

    Raises:
      UserError: For the reasons of `check`.
    """
    check(len(values), perplexity)
    components = principal_components(values, KEPT)
    points, _ = tsne(components.points, perplexity, seed)
    return Embedding(components.points[:, :2], components.explained[:2], points, perplexity, seed)


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
