"""Pure functions from arrays to losses. Those that a config may name are decorated with `@part("loss")`.

classification.py   softmax and sigmoid cross entropy with soft or smoothed labels
pairs.py            each row of a batch against all others, in little memory and over several devices
contrastive.py      NT-Xent and the supervised contrastive loss
image_text.py       images and their texts: softmax (CLIP) and pairwise sigmoid (SigLIP)
ring.py             each row against all others that never are on one device: they go round
representation.py   alignment, uniformity, deviation and effective rank of embeddings: watched, not trained on
"""

import inspect
from collections.abc import Callable
from functools import partial

import jax

from jaxvision import own_modules
from jaxvision.errors import UserError
from jaxvision.found import Parts

LOSSES = Parts("loss", [__name__], given=("logits", "labels"))


def get(name: str) -> Callable:
    """The loss of that name, or of "package.module:function"; UserError otherwise."""
    return LOSSES.resolve(name)


def smoothed(name: str, smoothing: float | jax.Array, multi_label: bool = False) -> Callable[..., jax.Array]:
    """A loss of logits and labels, with smoothing filled in.

    Args:
      name: Name of a loss, or "package.module:function".
      smoothing: Share of each label that is spread over all classes; one that is not 0 needs a loss with the parameter.
      multi_label: Whether an image has any number of labels, which a loss may not fit.

    Raises:
      UserError: There is no such loss, or it does not fit the labels or their smoothing.
    """
    loss = get(name)
    if multi_label and not (own_modules.is_own(name) or LOSSES.more(loss, "multi_label")):
        fitting = " or ".join(repr(one) for one in LOSSES if LOSSES.more(LOSSES[one], "multi_label"))
        raise UserError(f"images of this set have many labels: set task.loss to {fitting}, not {name!r}")
    if "smoothing" in inspect.signature(loss).parameters:
        return partial(loss, smoothing=smoothing)
    if not isinstance(smoothing, int | float) or smoothing:
        raise UserError(f"the loss {name!r} has no parameter smoothing: leave task.label_smoothing out, or at 0")
    return loss
