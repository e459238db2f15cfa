"""Class means: how well the mean feature of a class finds its images. Nothing is fitted."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.evals.dataset import EvalSet
from jaxvision.evals.linear_probe import judge
from jaxvision.evals.multilabel import average_precision
from jaxvision.found import part


@part("evaluator", "class_mean")
def make_class_mean(
    *, task: Any, data: EvalSet, train: EvalSet, layer: str = "features"
) -> Callable[[Any], dict[str, float]]:
    """Judges features by the cosine between images and the mean of each class over the training images.

    As a classifier, the nearest class mean (Mensink et al. 2013, here with the cosine); as a search, the mean of a
    class is a query that ranks all images judged.

    Args:
      task: its `outputs` must have `layer`.
      data: the split that is judged.
      train: the split of the means, `train_split` in a config; it must have an image of each class.
      layer: of the features, see `features.pick_layer`.

    Returns:
      `run(variables) -> {"class_mean/top1": ..., "class_mean/top5": ..., "class_mean/map": ..., "examples": n}`, in
      [0, 1]: accuracies of the nearest class mean, top5 from six classes on, and the mean over classes that occur of
      the average precision of the search (`multilabel.average_precision`: equal cosines share one precision). As a
      classifier, of equal cosines the first class counts. Another layer than "features" is part of the name:
      `class_mean_stages.2/map`.

    Raises:
      UserError: sets without classes or of different ones, a class without a training image.
    """
    num_classes = features.check_sets("class_mean", data, train)
    absent = np.setdiff1d(np.arange(num_classes), train.source.labels)
    if len(absent):
        name = train.info.classes[absent[0]] if train.info.classes else absent[0]
        raise UserError(f"{train.info.name} {train.info.split} has no image of the class {name!r}, so it has no mean")
    of_train = features.make_features(task=task, data=train, layer=layer)
    of_data = features.make_features(task=task, data=data, layer=layer)

    def run(variables: Any) -> dict[str, float]:
        known, judged = of_train(variables), of_data(variables)
        means = class_means(known.values, known.labels, num_classes)
        images = unit(judged.values)
        top = judge(means.T, np.zeros(num_classes), images, judged.labels)
        cosines = images @ means.T  # n k
        present = np.unique(judged.labels)
        precision = [average_precision(cosines[:, k], judged.labels == k) for k in present]
        found = {key: value for key, value in top.items() if key != "loss"} | {"map": float(np.mean(precision))}
        name = features.protocol_name("class_mean", layer)
        return {f"{name}/{key}": value for key, value in found.items()} | {"examples": float(len(judged.labels))}

    return run


def class_means(x: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The direction of the mean of each class, over features scaled to length 1.

    Args:
      x: float [N, D].
      labels: int [N] in [0, num_classes), every class at least once.

    Returns:
      float64 [num_classes, D], of length 1.

    >>> class_means(np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), np.array([0, 1, 1]), 2)
    array([[1., 0.],
           [0., 1.]])
    """
    return unit(np.stack([unit(x[labels == k]).mean(axis=0) for k in range(num_classes)]))


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors of length 1, float64 [N, D]; a vector of zeros stays one.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    x = x.astype(np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)
