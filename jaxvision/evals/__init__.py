"""How a model is judged: one file a protocol, whose factory is decorated with `@part("evaluator", "NAME")`.

dataset.py      the split that an evaluator reads: every example once, on any number of devices
views.py        several views of an image, averaged (test-time augmentation)
classify.py     accuracy and loss of the logits
multilabel.py   mean average precision where images have several labels
features.py     what the model makes of a whole split, for protocols that learn on it
store.py        features that are kept: for the other evaluators of a step, or in a folder
knn.py          a vote of the nearest training images
linear_probe.py logistic regression on features, by L-BFGS, at any number of layers
sgd_probe.py    a linear classifier trained by SGD on features of augmented images
fewshot.py      ridge regression on the features of a few images of each class
class_mean.py   the nearest class mean, and class means as queries
texts.py        what a model of image and text makes of texts, for the two that follow
zeroshot.py     the class whose name, in prompts, is most like the image
retrieval.py    search among images by caption, and among captions by image

An evaluator is made by `make(*, task, data, **options)` and called with variables:
`run(variables) -> {metric: float}`. One that learns from images itself has an argument `train` beside `data`; one that
needs texts has an argument `texts`. What it reads of an example, where that is not what training reads, its decorator
says: `@part("evaluator", "NAME", fields=function of its options)`, "text" standing for the captions; and with `needs=`
which of what training reads it cannot do without.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jaxvision.found import Parts

EVALUATORS = Parts("evaluator", [__name__], given=("task", "data"), offered=("train", "texts"))


def read_fields(name: str, options: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What the evaluator of that name reads of an example, or None where it is what training reads.

    "text" are the captions: they are taken from the source, since batches hold no texts.

    >>> read_fields("retrieval", {"by": ("text", "class")})
    ('image', 'text', 'label')
    """
    reads = EVALUATORS.more(get_evaluator(name), "fields")
    return None if reads is None else tuple(reads(options))


def needed_fields(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields without which the evaluator of that name cannot do, as far as it says.

    >>> needed_fields("classify", {}), needed_fields("classify", {"label": "kind"}), needed_fields("knn", {})
    (('label',), ('kind',), ())
    """
    told = EVALUATORS.more(get_evaluator(name), "needs")
    return () if told is None else tuple(told(options))


def get_evaluator(name: str) -> Callable[..., Callable]:
    """The factory of the evaluator of that name, or of "package.module:function"; UserError otherwise."""
    return EVALUATORS.resolve(name)
