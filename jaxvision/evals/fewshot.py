"""Few-shot linear accuracy: ridge regression on the frozen features of a few images of each class."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals.dataset import EvalSet
from jaxvision.parallel.gate import tick
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables

BIAS = 100.0  # the constant feature; so large that its weight is hardly regularised
EPSILON = 1e-5
_CHUNK = 8192  # rows whose scores are held at a time


@part("evaluator", "fewshot", small={"shots": (1,)})
def make_fewshot(
    *,
    task: "Task",
    data: EvalSet,
    train: EvalSet,
    shots: tuple[int, ...] = (1, 5, 10, 25),
    l2: float = 1024.0,
    draws: int = 3,
    layer: str = "features",
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator of linear classifiers that are fitted to a few images of each class.

    Dosovitskiy et al. 2021, sec. 4.1, "Metrics": regularised least squares from frozen features to {-1, 1}^k. The
    scaling of features, the bias and `l2` follow big_vision's evaluators/fewshot_lsr.py, and so do the draws if the
    examples of the set are in the same order. The head of the model is not used, so the set may have other classes
    than the training set.

    Only the drawn images, at most k x max(shots) x draws, and those of `data` go through the model. The fits run on the
    host in float64. With n = k x shots drawn images of d features, and m images in `data`, a fit takes about
    n d min(n, d) + m d k multiplications: for ImageNet (k = 1000, d = 2048) about 10^11 for each of shots x draws.

    Args:
      task: Task whose `outputs` have `layer`.
      data: Split to evaluate.
      train: Split to draw the images from, `train_split` in a config.
      shots: Numbers of images of each class. The images of a smaller number are among those of a larger one.
      l2: Strength of the regularisation, relative to a sum over examples, above 0.
      draws: Number of draws of the images, with seeds 0, 1, ...
      layer: Name of the layer, an output of the model such as "features" or "stages/1"; maps are averaged.

    Returns:
      `run(variables) -> {"5shot_ridge1024": ..., "examples": n}`: the top-1 accuracy in [0, 1] for each number of
      shots, averaged over the draws. With several draws, `_draw0`, ... are the accuracies of each, and `_sd` their
      standard deviation (with n - 1). Names of other layers than "features" have the layer in them:
      `5shot_ridge1024_stages.2`. Of equal scores the first class counts.

    Raises:
      UserError: If a set has no classes or several labels for an image, the sets have different classes, a class has
        too few images, or an option is out of range.
    """
    k = features.check_sets("fewshot", data, train)
    if not shots or any(not isinstance(s, int) or s < 1 for s in shots):
        raise UserError(f"shots must be whole numbers of at least 1, not {shots!r}")
    if not isinstance(draws, int) or draws < 1:
        raise UserError(f"draws must be a whole number of at least 1, not {draws!r}")
    if not l2 > 0:
        raise UserError(f"l2 must be positive, not {l2!r}")
    by_class = [np.flatnonzero(train.source.labels == i) for i in range(k)]
    _check_shots(by_class, max(shots), train)
    supports = {(s, seed): draw_shots(by_class, s, seed) for s in shots for seed in range(draws)}
    drawn = np.unique(np.concatenate(list(supports.values())))
    of_drawn = features.make_features(task=task, data=train.take(drawn), layer=layer)
    of_data = features.make_features(task=task, data=data, layer=layer)

    def run(variables: "Variables") -> dict[str, float]:
        learned, judged = of_drawn(variables), of_data(variables)
        metrics = {}
        for s in shots:
            accuracies = []
            for seed in range(draws):
                tick()
                chosen = np.isin(drawn[learned.rows], supports[s, seed])
                fitted = fit_ridge(learned.values[chosen], learned.labels[chosen], k, l2)
                accuracies.append(accuracy(*fitted, judged.values, judged.labels))
            name = features.protocol_name(f"{s}shot_ridge{l2:g}", layer)
            metrics[name] = float(np.mean(accuracies))
            if draws > 1:
                metrics[f"{name}_sd"] = float(np.std(accuracies, ddof=1))
                metrics |= {f"{name}_draw{seed}": value for seed, value in enumerate(accuracies)}
        return metrics | {"examples": float(len(judged.labels))}

    return run


def draw_shots(by_class: Sequence[np.ndarray], shots: int, seed: int) -> np.ndarray:
    """Draws examples of every class. The examples of a smaller number of shots are among those of a larger one.

    It does not use `data.subsets.subset`, since a model that was trained on the subset of the same seed would have seen
    exactly these examples.

    Args:
      by_class: Indices of the examples of each class, int [n] in rising order.
      shots: Number of examples of each class.
      seed: Seed of the draw.

    Returns:
      Indices, int64 [k * shots], class after class.

    >>> draw_shots([np.array([0, 2, 4]), np.array([1, 3])], shots=1, seed=0).tolist()
    [4, 3]
    """
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(indices)[:shots] for indices in by_class])


def fit_ridge(x: np.ndarray, labels: np.ndarray, num_classes: int, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """Fits regularised least squares from features, scaled to mean 0 and deviation 1, to -1 and 1 for each class.

    It minimises |z w - y|^2 + l2 |w|^2, where z are the scaled features and a constant `BIAS`, and y is in {-1, 1}^k.
    The system has as many unknowns as there are features or examples, whichever is fewer: w = (z'z + l2)^-1 z'y =
    z'(zz' + l2)^-1 y.

    Args:
      x: Features, float [n, d].
      labels: Labels, int [n] in [0, k).
      num_classes: Number of classes, k.
      l2: Strength of the regularisation, above 0.

    Returns:
      (weights [d, k], bias [k]), float64, for features that are not scaled.

    >>> weights, bias = fit_ridge(np.array([[0.0], [1.0]]), np.array([0, 1]), 2, l2=1e-6)
    >>> (np.array([[0.0], [1.0]]) @ weights + bias).round(3)
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    x = x.astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0) + EPSILON
    z = np.concatenate([(x - mean) / scale, np.full((len(x), 1), BIAS)], axis=1)  # n d+1
    y = np.where(labels[:, None] == np.arange(num_classes), 1.0, -1.0)  # n k
    n, d = z.shape
    if n >= d:
        w = np.linalg.solve(z.T @ z + l2 * np.eye(d), z.T @ y)
    else:
        w = z.T @ np.linalg.solve(z @ z.T + l2 * np.eye(n), y)
    weights = w[:-1] / scale[:, None]
    return weights, BIAS * w[-1] - mean @ weights


def accuracy(weights: np.ndarray, bias: np.ndarray, x: np.ndarray, labels: np.ndarray) -> float:
    """Computes the share of examples whose largest score `x @ weights + bias` is at their label.

    Of equal scores the first class counts. An example with a score that is NaN or infinite is never right.

    Args:
      weights: Weights, float [d, k].
      bias: Bias, float [k].
      x: Features, float [n, d].
      labels: Labels, int [n].

    >>> accuracy(np.eye(2), np.zeros(2), np.array([[0.1, 0.2], [0.3, 0.1]]), np.array([1, 1]))
    0.5
    """
    right = 0
    for start in range(0, len(x), _CHUNK):
        scores = x[start : start + _CHUNK].astype(np.float64) @ weights + bias
        hits = scores.argmax(axis=1) == labels[start : start + _CHUNK]
        right += np.sum(hits & np.isfinite(scores).all(axis=1))
    return float(right / len(x))


def _check_shots(by_class: Sequence[np.ndarray], shots: int, train: EvalSet) -> None:
    few = [i for i, indices in enumerate(by_class) if len(indices) < shots]
    if few:
        name = train.info.classes[few[0]] if train.info.classes else few[0]
        others = f" and {len(few) - 1} other classes have too few" if len(few) > 1 else ""
        raise UserError(
            f"{shots} shots: the class {name!r} of {train.info.name} {train.info.split} has "
            f"{len(by_class[few[0]])} examples{others}; take fewer shots or a larger train_split"
        )
