"""Evaluators: one file for each protocol, with a factory decorated with `@part("evaluator", "NAME")`.

dataset.py      the split that an evaluator reads: every example once, on any number of devices
views.py        the average over several views of an image (test-time augmentation)
classify.py     accuracy and loss of the logits
label_sets.py   accuracy where an image has several right answers
attacked.py     accuracy when the pixels are changed against the network
pointing.py     how often the strongest place of a map lies in the object
multilabel.py   mean average precision where images have several labels
features.py     features of a whole split, for protocols that learn from them
passes.py       one forward pass over a split for all evaluators of a step that read it
columns.py      arrays with a row for each example, on the devices or on the host
store.py        computed features, kept for the other evaluators of a step, or in a folder
knn.py          the vote of the nearest training images
linear_probe.py logistic regression on features, by L-BFGS, at any number of layers
sgd_probe.py    a linear classifier trained by SGD on features of augmented images
fewshot.py      ridge regression on the features of a few images of each class
predictions.py  logits of every example of a split
ensemble.py     the mean of several classifiers
class_mean.py   the nearest class mean, and class means as queries
texts.py        embeddings of texts by a model of image and text, for the next two
zeroshot.py     the class whose name, in prompts, is most similar to the image
retrieval.py    search among images by caption, and among captions by image

A factory `make_NAME(*, task, data, **options)` returns the evaluator, a function of variables: `run(variables) ->
{metric: float}`. The factory of an evaluator that learns from images has a parameter `train`, a second split; the
factory of one that needs texts has a parameter `texts`. One with a parameter `trained` gets the `Info` of the training
set, and compares the classes itself.

By default an evaluator reads the fields that training reads. Another choice stands in the decorator,
`@part("evaluator", "NAME", fields=FUNCTION)`, as a function of the options, with "text" for the captions.
`needs=FUNCTION` names the fields of training that the evaluator requires. `metrics=FUNCTION`, of the options and the
number of classes, names its metrics, so that `train.keep_best` can be checked before training; without it a wrong name
is found by the first evaluation.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jaxvision.registry import PartRegistry

EVALUATORS = PartRegistry(
    "evaluator",
    [__name__],
    required=("task", "data"),
    offered=("train", "texts", "trained"),
    usage='c.evals = dict(NAME=dict(name="NAME", split="validation"))',
)


def read_fields(name: str, options: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns the fields of an example that an evaluator reads.

    Args:
      name: Name of the evaluator.
      options: Options of the evaluator.

    Returns:
      Names of fields, or None for the fields that training reads. "text" stands for the captions, which come from the
      source, since batches hold no texts.

    >>> read_fields("retrieval", {"by": ("text", "class")})
    ('image', 'text', 'label')
    """
    declared = EVALUATORS.more(get_evaluator(name), "fields")
    return None if declared is None else tuple(declared(options))


def needed_fields(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the fields that an evaluator requires, if its decorator names any.

    Args:
      name: Name of the evaluator.
      options: Options of the evaluator.

    >>> needed_fields("classify", {}), needed_fields("classify", {"label": "kind"}), needed_fields("knn", {})
    (('label',), ('kind',), ())
    """
    declared = EVALUATORS.more(get_evaluator(name), "needs")
    return () if declared is None else tuple(declared(options))


def metrics(name: str, options: Mapping[str, Any], classes: int | None) -> tuple[str, ...]:
    """Returns the names of the metrics of an evaluator, or () if its decorator does not tell them.

    Args:
      name: Name of the evaluator.
      options: Options of the evaluator.
      classes: Number of classes of the evaluated set, or None.

    >>> metrics("classify", {}, 3), metrics("retrieval", {}, None)
    (('top1', 'loss'), ())
    """
    declared = EVALUATORS.more(get_evaluator(name), "metrics")
    return () if declared is None else tuple(declared(options, classes))


def get_evaluator(name: str) -> Callable[..., Callable]:
    """Returns the factory of an evaluator.

    Args:
      name: Name of the evaluator, or "package.module:function" of your own.

    Raises:
      UserError: If there is no such evaluator.
    """
    return EVALUATORS.resolve(name)
