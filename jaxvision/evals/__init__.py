"""How a model is judged: one file a protocol.

dataset.py    the split that an evaluator reads: every example once, on any number of devices
views.py      several views of an image, averaged (test-time augmentation)
classify.py   accuracy and loss of the logits
multilabel.py mean average precision where images have several labels
features.py   what the model makes of a whole split, for protocols that learn on it
fewshot.py    ridge regression on the features of a few images of each class

An evaluator is made by `make(*, task, data, **options)` and called with variables:
`run(variables) -> {metric: float}`. One that learns from images itself has an argument `train` beside `data`.
"""

from collections.abc import Callable

from jaxvision.errors import unknown
from jaxvision.evals import classify, fewshot, multilabel

EVALUATORS: dict[str, Callable[..., Callable]] = {
    "classify": classify.make,
    "fewshot": fewshot.make,
    "multilabel": multilabel.make,
}


def get(name: str) -> Callable[..., Callable]:
    """The factory of the evaluator of that name; UserError otherwise."""
    if name not in EVALUATORS:
        raise unknown("evaluator", name, EVALUATORS)
    return EVALUATORS[name]
