"""Example of your own task and evaluator: segmentation into shapes and background.

Run:       jaxvision train --config=configs/own_parts/segmentation.py --workdir=runs/segmentation
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.evals import views
from jaxvision.evals.dataset import EvalSet
from jaxvision.fields import Field
from jaxvision.losses.classification import softmax_cross_entropy
from jaxvision.registry import part
from jaxvision.tasks.task import Task, in_training

CLASSES = ("background", "shape")


class Segmenter(nn.Module):
    """Projects the maps of all stages to `width` channels and the size of the first, sums and classifies them."""

    backbone: nn.Module
    width: int

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Returns features [b, d] and logits [b, h, w, k] of images [b, h, w, 3]."""
        features, out = self.backbone(images, train)
        shape = (*out["stages"][0].shape[:3], self.width)
        maps = [nn.Dense(self.width, name=f"lateral_{i}")(stage) for i, stage in enumerate(out["stages"])]
        x = nn.relu(sum(jax.image.resize(x, shape, "linear") for x in maps))  # b h w c
        logits = nn.Conv(len(CLASSES), (3, 3), name="head")(x)
        return features, jax.image.resize(logits, (*images.shape[:3], len(CLASSES)), "linear")


def make_segmentation(
    *, model: Callable[[int | None], nn.Module], mask: str = "instance_mask", width: int = 32
) -> Task:
    """A task that predicts for each pixel whether it shows a shape.

    Args:
      model: Function whose `model(None)` builds the backbone, which must have stages.
      mask: Name of the field of the instances, integers [b, h, w, 1], 0 for the background.
      width: Channels of the maps that are summed.

    Metrics: `pixel_accuracy`. Outputs: the backbone's features, and `segmentation` uint8 [b, h, w].
    """
    network = Segmenter(model(None), width)

    def init(rng, batch):
        return network.init(rng, batch["image"], train=False)

    def loss(variables, batch, rng):
        (_, logits), updates = in_training(network, variables, batch["image"], rng=rng)
        truth = (batch[mask][..., 0] > 0).astype(jnp.int32)
        value = softmax_cross_entropy(logits.reshape(-1, len(CLASSES)), truth.ravel()).mean()
        return value, ({"pixel_accuracy": jnp.mean(logits.argmax(-1) == truth)}, updates)

    def outputs(variables, batch):
        features, logits = network.apply(variables, batch["image"], train=False)
        return {"features": features, "segmentation": logits.argmax(-1).astype(jnp.uint8)}

    kinds = {"segmentation": Field("segmentation", dtype="uint8", classes=len(CLASSES), names=CLASSES, of="image")}
    return Task(init, loss, outputs, progress=("pixel_accuracy",), kinds=kinds)


@part("evaluator", "mean_iou", needs=lambda options: (options.get("mask", "instance_mask"),))
def make_mean_iou(*, task: Task, data: EvalSet, mask: str = "instance_mask") -> Callable[[Any], dict[str, float]]:
    """An evaluator of `segmentation`: intersection over union of each class over all pixels of the split, and its mean.

    Args:
      task: Task whose `outputs` have "segmentation" [b, h, w].
      data: Split to evaluate.
      mask: Name of the field of the instances.
    """

    @jax.jit
    def counts(variables, batch):
        batch = data.preprocess(batch)
        answers = views.averaged_outputs(task, variables, batch, data.fields)["segmentation"]
        pairs = (batch[mask][..., 0] > 0) * len(CLASSES) + answers  # b h w
        weights = jnp.broadcast_to(batch["mask"][:, None, None], pairs.shape).astype(jnp.float32)
        return jnp.bincount(pairs.ravel(), weights.ravel(), length=len(CLASSES) ** 2).reshape(len(CLASSES), -1)

    def run(variables: Any) -> dict[str, float]:
        table = sum(np.asarray(counts(variables, batch), np.float64) for batch in data.batches())  # truth, answer
        shared = table.diagonal()
        iou = shared / np.maximum(table.sum(0) + table.sum(1) - shared, 1)
        of_classes = {f"iou_{name}": float(value) for name, value in zip(CLASSES, iou)}
        return {"mean_iou": float(iou.mean()), **of_classes, "pixel_accuracy": float(shared.sum() / table.sum())}

    return run
