"""Pure functions from arrays to losses. A loss that a config may name is decorated with `@part("loss")`.

classification.py   softmax and sigmoid cross entropy with soft or smoothed labels, squared error
margin.py           hinge, squared hinge and perceptron, which ask for a margin between scores
pairs.py            each row of a batch against all others, in little memory and over several devices
contrastive.py      NT-Xent and the supervised contrastive loss
info_nce.py         queries that must find their keys, among a queue or a batch (MoCo)
decorrelation.py    Barlow Twins and VICReg, which keep dimensions apart instead of images
image_text.py       images and their texts: softmax (CLIP) and pairwise sigmoid (SigLIP)
ring.py             each row against all others, which travel around the devices and are never gathered on one
self_distillation.py  predictions of a teacher's distribution over prototypes (DINO), KoLeo
sinkhorn.py         assignments to prototypes that use all of them equally (SwAV, DINOv2)
reconstruction.py   the pixels of masked patches
swapped.py          the prediction of assignments from other views (SwAV)
representation.py   alignment, uniformity, deviation and effective rank of embeddings: watched, not trained on
"""

import inspect
from collections.abc import Callable
from functools import partial

import jax

from jaxvision import own_modules
from jaxvision.errors import UserError
from jaxvision.registry import PartRegistry

LOSSES = PartRegistry(
    "loss",
    [__name__],
    required=("logits", "labels"),
    plural="losses",
    usage='c.task = dict(name="supervised", loss="NAME")',
)


def get_loss(name: str) -> Callable[..., jax.Array]:
    """Returns a loss, a function of logits and labels.

    Args:
      name: Name of a built-in loss, or "package.module:function".

    Raises:
      UserError: An unknown name, or a module or function that cannot be imported.
    """
    return LOSSES.resolve(name)


def smoothed(name: str, smoothing: float | jax.Array, multi_label: bool = False) -> Callable[..., jax.Array]:
    """Returns a loss of logits and labels with the smoothing filled in.

    Args:
      name: Name of a built-in loss, or "package.module:function".
      smoothing: Share of each label that is spread over all classes, a scalar in [0, 1). A loss without the parameter
        `smoothing` takes 0 only.
      multi_label: True if an image may have any number of labels, so that the loss must be one for such sets.

    Raises:
      UserError: An unknown loss, or a loss that does not fit the labels or their smoothing.
    """
    loss = get_loss(name)
    if multi_label and not (own_modules.is_own(name) or LOSSES.more(loss, "multi_label")):
        fitting = " or ".join(repr(other) for other in LOSSES if LOSSES.more(LOSSES[other], "multi_label"))
        raise UserError(f"images of this set have many labels: set task.loss to {fitting}, not {name!r}")
    if "smoothing" in inspect.signature(loss).parameters:
        return partial(loss, smoothing=smoothing)
    if not isinstance(smoothing, int | float) or smoothing:
        raise UserError(f"the loss {name!r} has no parameter smoothing: remove task.label_smoothing, or set it to 0")
    return loss
