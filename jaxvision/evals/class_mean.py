"""Class means: the mean feature of a class as its classifier, and as a query for its images. Nothing is fitted."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.linear_probe import judge_classifier
from jaxvision.evals.multilabel import average_precision
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables


@part("evaluator", "class_mean")
def make_class_mean(
    *, task: "Task", data: EvalSet, train: EvalSet, layer: str = "features"
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator of the cosine between an image and the mean of each class over the training images.

    Used as a classifier, this is the nearest class mean (Mensink et al. 2013, here with the cosine). Used as a search,
    the mean of a class is a query that ranks all images of `data`.

    Args:
      task: Task whose `outputs` have `layer`.
      data: Split to evaluate.
      train: Split for the means, `train_split` in a config; it must have an image of each class.
      layer: Name of the layer, an output of the model such as "features" or "stages/1"; maps are averaged.

    Returns:
      `run(variables) -> {"class_mean/top1": ..., "class_mean/top5": ..., "class_mean/map": ..., "examples": n}`, all
      but `examples` in [0, 1]. `top1` and `top5` (for six classes or more) are accuracies of the nearest class mean; of
      equal cosines the first class counts. `map` is the average precision of the search, averaged over the classes that
      occur (equal cosines share one precision). Names of other layers than "features"
      have the layer in them: `class_mean_stages.2/map`.

    Raises:
      UserError: If a set has no classes, the sets have different classes, or a class has no training image.
    """
    num_classes = features.check_sets("class_mean", data, train)
    absent = np.setdiff1d(np.arange(num_classes), train.source.labels)
    if len(absent):
        name = train.info.classes[absent[0]] if train.info.classes else absent[0]
        raise UserError(
            f"{train.info.name} {train.info.split} has no image of the class {name!r}, so it has no mean: set another "
            "train_split or train_subset"
        )
    of_train = features.make_features(task=task, data=train, layer=layer)
    of_data = features.make_features(task=task, data=data, layer=layer)

    def run(variables: "Variables") -> dict[str, float]:
        learned, judged = of_train(variables), of_data(variables)
        means = class_means(learned.values, learned.labels, num_classes)
        images = unit(judged.values)
        top = judge_classifier(means.T, np.zeros(num_classes), images, judged.labels)
        cosines = images @ means.T  # n k
        present = np.unique(judged.labels)
        precision = [average_precision(cosines[:, k], judged.labels == k) for k in present]
        metrics = {key: value for key, value in top.items() if key != "loss"} | {"map": float(np.mean(precision))}
        name = features.protocol_name("class_mean", layer)
        return {f"{name}/{key}": value for key, value in metrics.items()} | {"examples": float(len(judged.labels))}

    return run


def class_means(x: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Computes the direction of the mean of each class, over features scaled to length 1.

    Args:
      x: Features, float [n, d].
      labels: Labels, int [n] in [0, k), every class at least once.
      num_classes: Number of classes, k.

    Returns:
      Vectors of length 1, float64 [k, d].

    >>> class_means(np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), np.array([0, 1, 1]), 2)
    array([[1., 0.],
           [0., 1.]])
    """
    return unit(np.stack([unit(x[labels == k]).mean(axis=0) for k in range(num_classes)]))


def unit(x: np.ndarray) -> np.ndarray:
    """Scales vectors to length 1; a vector of zeros stays as it is.

    Args:
      x: Vectors, float [n, d].

    Returns:
      float64 [n, d].

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    x = x.astype(np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)
