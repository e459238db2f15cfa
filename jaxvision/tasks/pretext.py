"""Questions about an image whose answers follow from the image itself: what rotation, context and jigsaw share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.losses.classification import softmax_cross_entropy
from jaxvision.models.heads import bare
from jaxvision.models.options import whole
from jaxvision.models.parts import PartsClassifier
from jaxvision.tasks.task import PARTS, Batch, Task, in_training, module_pattern, outputs_of


class Questions(NamedTuple):
    """What is asked about each image of a batch.

    Attributes:
      parts: float [B, N, h, w, 3], what the trunk sees: turned images, patches, tiles. Each goes through it once.
      beside: int32 [B, Q, P] in [0, N), for each of Q questions the parts that stand side by side in it.
      answers: int32 [B, Q] in [0, K).
    """

    parts: jax.Array
    beside: jax.Array
    answers: jax.Array


class Pretext(NamedTuple):
    """A pretext task: add another one by writing these down.

    Attributes:
      name: of the task.
      num_answers: K.
      ask: `(rng, images float [B, H, W, 3]) -> Questions`. Images have been through the augmentation, so crops and
        flips come before it.
      look: `images -> images`, how the trunk is shown a whole image [B, H, W, 3] once it is trained.
    """

    name: str
    num_answers: int
    ask: Callable[[jax.Array, jax.Array], Questions]
    look: Callable[[jax.Array], jax.Array] = lambda images: images


def make_pretext(
    pretext: Pretext,
    model: Callable[[int | None], Any],
    *,
    part_dim: int | None = None,
    hidden: int | None = None,
) -> Task:
    """A task that answers the questions of `pretext`, with softmax cross entropy.

    Args:
      pretext: what is asked.
      model: `model(None)` builds the trunk.
      part_dim, hidden: widths of the layers between trunk and answer, see `models.parts.SideBySide`.

    Batches: `image` float [B, H, W, 3]; labels are not read.

    Metrics: `NAME_top1`, the share of questions of the training batch that are answered rightly.

    Outputs, for whole images: those of the trunk, which `init.weights` of another run can start from.
    """
    whole("task.part_dim", part_dim, optional=True)
    whole("task.hidden", hidden, optional=True)
    trunk = bare(pretext.name, model(None))
    network = PartsClassifier(trunk, pretext.num_answers, part_dim, hidden)

    def ask(batch, rng):
        return pretext.ask(jax.random.split(rng)[0], _single_view(pretext, batch))

    def init(rng, batch):
        parts, beside, _ = ask(batch, rng)
        return network.init(rng, parts, beside, train=False)

    def loss(variables, batch, rng):
        parts, beside, answers = ask(batch, rng)
        logits, updates = in_training(network, variables, parts, beside, rng=jax.random.split(rng)[1])
        logits, answers = logits.reshape(-1, pretext.num_answers), answers.ravel()
        right = logits.argmax(-1) == answers
        return softmax_cross_entropy(logits, answers).mean(), ({f"{pretext.name}_top1": jnp.mean(right)}, updates)

    def outputs(variables, batch):
        return outputs_of(trunk, variables, pretext.look(batch["image"]))

    return Task(
        init,
        loss,
        outputs,
        parts={"projection": module_pattern("projection"), **PARTS},
        progress=(f"{pretext.name}_top1",),
        ask=ask,
    )


def _single_view(pretext: Pretext, batch: Batch) -> jax.Array:
    images = batch["image"]
    if images.ndim != 4:
        raise UserError(
            f"the task {pretext.name!r} makes the parts of one image itself, but the augmentation gives "
            f"{'x'.join(map(str, images.shape[1:]))} of each: take `views` out of augment"
        )
    return images
