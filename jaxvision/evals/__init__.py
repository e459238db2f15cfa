"""How a model is judged: one file a protocol.

dataset.py    the split that an evaluator reads: every example once, on any number of devices
views.py      several views of an image, averaged (test-time augmentation)
classify.py   accuracy and loss of the logits
multilabel.py mean average precision where images have several labels

An evaluator is made by `make(*, task, data, **options)` and called with variables:
`run(variables) -> {metric: float}`.
"""

from collections.abc import Callable

from jaxvision.errors import unknown
from jaxvision.evals import classify, multilabel

EVALUATORS: dict[str, Callable[..., Callable]] = {"classify": classify.make, "multilabel": multilabel.make}


def get(name: str) -> Callable[..., Callable]:
    """The factory of the evaluator of that name; UserError otherwise."""
    if name not in EVALUATORS:
        raise unknown("evaluator", name, EVALUATORS)
    return EVALUATORS[name]
