"""Few-shot linear accuracy: ridge regression on the frozen features of a few images of each class."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals.dataset import EvalSet
from jaxvision.found import part
from jaxvision.parallel.gate import tick

BIAS = 100.0  # the constant feature; so large that its weight is hardly regularised
EPSILON = 1e-5
_CHUNK = 8192  # rows whose scores are held at a time


@part("evaluator", "fewshot", small={"shots": (1,)})
def make_fewshot(
    *,
    task: Any,
    data: EvalSet,
    train: EvalSet,
    shots: tuple[int, ...] = (1, 5, 10, 25),
    l2: float = 1024.0,
    draws: int = 3,
    layer: str = "features",
) -> Callable[[Any], dict[str, float]]:
    """Judges how well a few images of each class are enough to tell the classes apart, linearly.

    Dosovitskiy et al. 2021, sec. 4.1, "Metrics": regularised least squares from frozen features to {-1, 1}^K. How
    features are scaled, the bias and `l2` are those of big_vision's evaluators/fewshot_lsr.py, and so are the
    draws, where the examples of the set come in the same order. The head that the model was trained with plays no
    part, so the classes may be others than those of the training set.

    Only the images that are drawn go through the model, at most K x max(shots) x draws, and those of `data`. The
    fits are made on the host in float64: about n d min(n, d) + N d K multiplications each, for n = K x shots images
    of d features, and N of `data`; at ImageNet's K = 1000, d = 2048 some 10^11 for each of shots x draws.

    Args:
      task: its `outputs` must have `layer`.
      data: the split that is judged.
      train: the split from which the images are drawn, `train_split` in a config.
      shots: images of each class. The images of fewer shots are among those of more.
      l2: strength of the regularisation, relative to a sum over examples.
      draws: how often the images are drawn anew, with seeds 0, 1, ...
      layer: of the features, see `features.pick_layer`.

    Returns:
      `run(variables) -> {...}`: for each number of shots, as in `5shot_ridge1024`, the top-1 accuracy in [0, 1], mean
      over the draws; with `_draw0`, ... that of each draw, and with `_sd` their standard deviation (n - 1), where
      there are several. Another layer than "features" is part of the name: `5shot_ridge1024_stages.2`.
      `examples` is the number of images judged. Of equal scores the first class counts.

    Raises:
      UserError: sets without classes, of several labels an image or of different classes; a class with too few images.
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
    supports = {(s, seed): draw(by_class, s, seed) for s in shots for seed in range(draws)}
    drawn = np.unique(np.concatenate(list(supports.values())))
    of_drawn = features.make_features(task=task, data=train.take(drawn), layer=layer)
    of_data = features.make_features(task=task, data=data, layer=layer)

    def run(variables: Any) -> dict[str, float]:
        known, judged = of_drawn(variables), of_data(variables)
        found = {}
        for s in shots:
            accuracies = []
            for seed in range(draws):
                tick()
                chosen = np.isin(drawn[known.rows], supports[s, seed])
                fitted = fit(known.values[chosen], known.labels[chosen], k, l2)
                accuracies.append(accuracy(*fitted, judged.values, judged.labels))
            name = features.protocol_name(f"{s}shot_ridge{l2:g}", layer)
            found[name] = float(np.mean(accuracies))
            if draws > 1:
                found[f"{name}_sd"] = float(np.std(accuracies, ddof=1))
                found |= {f"{name}_draw{seed}": value for seed, value in enumerate(accuracies)}
        return found | {"examples": float(len(judged.labels))}

    return run


def draw(by_class: Sequence[np.ndarray], shots: int, seed: int) -> np.ndarray:
    """Chooses `shots` examples of every class at random; those of fewer shots are among those of more.

    Not `data.subsets.subset`: a model trained on a subset of the same seed would have seen just these examples.

    Args:
      by_class: for each class the indices of its examples, ascending.
      shots: how many of each.
      seed: of the draw.

    Returns:
      int64 [K * shots], a class after the other.

    >>> draw([np.array([0, 2, 4]), np.array([1, 3])], shots=1, seed=0).tolist()
    [4, 3]
    """
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(indices)[:shots] for indices in by_class])


def fit(x: np.ndarray, labels: np.ndarray, num_classes: int, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """Least squares from features, scaled to mean 0 and deviation 1, to -1 and 1 for each class.

    Minimises |z w - y|^2 + l2 |w|^2 with z the scaled features and a constant `BIAS`, y in {-1, 1}^K. It is solved in
    as many unknowns as there are features or examples, whichever is fewer: w = (z'z + l2)^-1 z'y = z'(zz' + l2)^-1 y.

    Args:
      x: float [n, D].
      labels: int [n] in [0, K).
      num_classes: K.
      l2: strength of the regularisation, positive.

    Returns:
      (weights [D, K], bias [K]), float64, for features that are not scaled.

    >>> weights, bias = fit(np.array([[0.0], [1.0]]), np.array([0, 1]), 2, l2=1e-6)
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
    """The share of examples whose largest score `x @ weights + bias` is at their label; of equal ones the first class.

    An example with a score that is no number is never right.

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
