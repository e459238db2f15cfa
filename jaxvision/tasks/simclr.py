"""Contrastive pretraining: the network recognises the views of an image among the views of all other images."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxvision.arguments import POSITIVE, check_value
from jaxvision.errors import UserError, unknown
from jaxvision.fields import Field
from jaxvision.losses import contrastive, representation
from jaxvision.models import heads
from jaxvision.models.options import whole
from jaxvision.registry import part
from jaxvision.tasks.task import (
    PAIRS,
    PARTS,
    ModelFn,
    Task,
    check_classes,
    in_training,
    module_pattern,
    outputs_of,
)
from jaxvision.tasks.views import as_examples, views_of

LOSSES = ("nt_xent", "supervised_contrastive")


@part("task", "simclr")
def make_simclr(
    *,
    model: ModelFn,
    num_classes: int | None = None,
    multi_label: bool = False,
    over_batch: Callable[[Callable], Callable] | None = None,
    fields: Mapping[str, Field] = PAIRS,
    loss: str = "nt_xent",
    temperature: float = 0.1,
    projection_layers: int = 2,
    projection_dim: int = 128,
    projection_hidden: int | None = None,
    projection_norm: bool = True,
    chunk: int | None = 1024,
) -> Task:
    """Makes the task that pulls the views of an image together and pushes those of different images apart.

    SimCLR (Chen et al. 2020, arXiv 2002.05709, alg. 1). Any backbone works; its classifier is left out. The loss
    compares the views of the whole batch on all devices, and BatchNorm normalises over all of them, as it always does
    under sharded jit (sec. 2.2, "global BN"). With `train.accumulate`, the negatives of an image come from its own
    microbatch only.

    Batches: `image` float [b, v, h, w, 3] with v at least 2, from `views` in the augmentation.

    Metrics: `contrastive_top1`, the share of views whose nearest other view is of the same image (or class);
    `alignment`, `uniformity`, `embedding_std` and `effective_rank` (the participation ratio) of the head's output,
    which show a collapse, see losses/representation.py. All are measured on the augmented training batch.

    Outputs, for images [b, h, w, 3]: the outputs of the backbone, "projection" [b, projection_dim], and "projections",
    the outputs of all layers of the head.

    Args:
      model: Function of the number of classes, here None, that builds the backbone.
      num_classes: Number of classes of the data set; only `supervised_contrastive` needs classes.
      multi_label: True if an image of the set has any number of labels, which `supervised_contrastive` refuses.
      over_batch: Function that lays a loss over the devices of the run; None leaves the layout to XLA.
      fields: Fields of a batch; the images must have views.
      loss: Name of the loss, "nt_xent", which reads no labels, or "supervised_contrastive" (Khosla et al. 2020).
      temperature: Divisor of the cosines, above 0.
      projection_layers: Number of layers of the head between features and loss: 0 for no head, 1 linear, 2 nonlinear
        (SimCLR), 3 (SimCLRv2).
      projection_dim: Width of the head's output, which the loss compares. Without a head, it compares the features.
      projection_hidden: Number of units in the layers before; None for the width of the features.
      projection_norm: True for BatchNorm in the head.
      chunk: Number of views that a device compares with all others at a time; None for all at once. It limits the
        memory of the loss and changes nothing else.

    Raises:
      UserError: If an option is out of range, or the loss needs classes that the data set does not have.
    """
    _check(loss, num_classes, multi_label, temperature)
    whole("task.projection_layers", projection_layers, low=0)
    whole("task.projection_dim", projection_dim)
    whole("task.projection_hidden", projection_hidden, optional=True)
    whole("task.chunk", chunk, optional=True)
    backbone = heads.bare_backbone("simclr", model(None))
    out = projection_dim if projection_layers else None
    head = heads.Projection(projection_layers, out, projection_hidden, projection_norm, backbone.dtype)
    network = heads.Projected(backbone, head)

    def compare(embeddings, *labels, axis_name=None):
        memory = dict(chunk=chunk, axis_name=axis_name)
        value, correct = getattr(contrastive, loss)(embeddings, *labels, temperature, **memory)
        potential = representation.gaussian_potential(jax.lax.stop_gradient(embeddings[:, 0]), **memory)
        return value, correct, potential

    compare_all = compare if over_batch is None else over_batch(compare)

    def init(rng, batch):
        return network.init(rng, views_of("simclr", batch, fields)[:, 0], train=False)

    def loss_of(variables, batch, rng):
        images = views_of("simclr", batch, fields)
        b, v = images.shape[:2]
        (_, out), updates = in_training(network, variables, as_examples(images), rng=rng)
        embeddings = out["projection"].reshape(b, v, -1)
        labels = () if loss == "nt_xent" else (batch["label"],)
        value, correct, potential = compare_all(embeddings, *labels)
        metrics = {
            "contrastive_top1": correct.mean(),
            "alignment": representation.alignment(embeddings),
            "uniformity": jnp.log(potential.mean()),
            "embedding_std": representation.embedding_std(embeddings[:, 0]),
            "effective_rank": representation.effective_rank(embeddings[:, 0], order=2),
        }
        return value.mean(), (metrics, updates)

    def outputs(variables, batch):
        return outputs_of(network, variables, batch["image"])

    return Task(
        init,
        loss_of,
        outputs,
        parts={"projection": module_pattern("projection"), **PARTS},
        progress=("contrastive_top1",),
        labelled=loss == "supervised_contrastive",
        least=2,
    )


def _check(loss, num_classes, multi_label, temperature) -> None:
    if loss not in LOSSES:
        raise unknown("value of task.loss", loss, LOSSES)
    if loss == "supervised_contrastive" and (not num_classes or multi_label):
        raise UserError("task.loss 'supervised_contrastive' needs a data set with one class for each image")
    if loss == "supervised_contrastive":
        check_classes("simclr", num_classes)
    check_value("task.temperature", temperature, POSITIVE)
