"""Prediction of the patches of an image that the network did not see: the code that MAE and SimMIM share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.losses.reconstruction import blind_error, denormalize_patches, masked_error, normalize_patches
from jaxvision.models.masked import DECODER, masked_patches
from jaxvision.models.patches import patchify, unpatchify
from jaxvision.models.vit import ViT
from jaxvision.tasks.task import PARTS, Batch, Pictures, Task, Variables, in_training, module_pattern, outputs_of
from jaxvision.tasks.views import single_view

if TYPE_CHECKING:
    from flax import linen as nn

MASK_TOKEN = "mask_token"


class Masking(NamedTuple):
    """The definition of a task that masks patches. To add a task, make one of these.

    Attributes:
      name: Name of the task.
      draw: Function `(rng, b, (h, w)) -> kept` that draws the patches of a grid that the network sees, int32 [b, m];
        m depends on the grid alone.
      network: Module over `encoder`, `(images, kept, train) -> predictions [b, h * w, p]`.
      encoder: Vision Transformer whose features are evaluated.
      power: Power of the error, see `reconstruction.masked_error`.
      normalized: True to predict pixels that are scaled patch by patch, see `reconstruction.normalize_patches`.
    """

    name: str
    draw: Callable[[jax.Array, int, tuple[int, int]], jax.Array]
    network: "nn.Module"
    encoder: ViT
    power: int
    normalized: bool


def make_masked(masking: Masking) -> Task:
    """Makes the task that predicts the pixels of masked patches.

    Batches: `image` float [b, h, w, 3]; labels are not read.

    Metrics: `loss_over_chance`, the loss divided by that of predicting the mean masked patch of the batch for every
    patch. It is 1 or more if the predictions do not depend on the image.

    Outputs: those of the encoder for whole images, without masks.

    Args:
      masking: Definition of the task.
    """
    network, patch = masking.network, masking.encoder.patch

    def question(batch: Batch, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
        images = single_view(masking.name, batch)
        b, height, width, _ = images.shape
        if height % patch or width % patch:
            raise UserError(f"images of {height}x{width} pixels cannot be cut into patches of {patch}x{patch}")
        h, w = height // patch, width // patch
        kept = masking.draw(rng, b, (h, w))
        if kept.shape[1] == h * w:
            raise UserError(f"task.ratio masks none of the {h * w} patches of an image: raise it")
        return images, kept

    def init(rng, batch):
        return network.init(rng, *question(batch, rng), train=False)

    def loss(variables: Variables, batch: Batch, rng: jax.Array) -> tuple:
        to_draw, to_apply = jax.random.split(rng)
        images, kept = question(batch, to_draw)
        predictions, updates = in_training(network, variables, images, kept, rng=to_apply)
        targets = patchify(images.astype(jnp.float32), patch).reshape(predictions.shape)
        if masking.normalized:
            targets = normalize_patches(targets)
        masked = masked_patches(kept, targets.shape[1])
        value = masked_error(predictions, targets, masked, masking.power)
        return value, ({"loss_over_chance": value / blind_error(targets, masked, masking.power)}, updates)

    def outputs(variables: Variables, batch: Batch) -> dict[str, Any]:
        return outputs_of(masking.encoder, variables, batch["image"])

    def draw(variables: Variables, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        images, kept = question(batch, rng)
        predictions, _ = in_training(network, variables, images, kept, rng=rng, train=False)
        grid = (images.shape[1] // patch, images.shape[2] // patch)
        patches = patchify(images.astype(jnp.float32), patch).reshape(predictions.shape)
        if masking.normalized:
            predictions = denormalize_patches(predictions, patches)
        masked = masked_patches(kept, patches.shape[1])[..., None]
        colour = jnp.tile(images.mean(axis=(1, 2)), patch * patch)[:, None]  # b 1 p
        shown = {
            "image": patches,
            "masked": jnp.where(masked, colour, patches),
            "prediction": predictions,
            "with the patches seen": jnp.where(masked, predictions, patches),
        }
        return {caption: unpatchify(x, grid) for caption, x in shown.items()}

    scaled = (
        " The prediction is on a scale of its own for each patch; it is drawn with the patch's true mean and variance."
        if masking.normalized
        else ""
    )
    return Task(
        init,
        loss,
        outputs,
        parts={DECODER: module_pattern(DECODER), MASK_TOKEN: module_pattern(MASK_TOKEN), **PARTS},
        progress=("loss_over_chance",),
        pictures=Pictures(
            "Reconstructions",
            "An image, the same image with patches masked (in its mean colour), the prediction of all patches, and the "
            f"prediction of the masked patches beside those that the network saw.{scaled}",
            draw,
        ),
    )
