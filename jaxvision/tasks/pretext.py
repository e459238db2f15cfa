"""Questions about an image whose answers are known without labels: the code that rotation, context and jigsaw share."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.losses.classification import softmax_cross_entropy
from jaxvision.models.heads import bare_backbone
from jaxvision.models.options import whole
from jaxvision.models.pieces import PiecesClassifier
from jaxvision.tasks.task import PARTS, ModelFn, Task, in_training, module_pattern, outputs_of
from jaxvision.tasks.views import single_view


class Questions(NamedTuple):
    """The questions about each image of a batch.

    Attributes:
      pieces: Inputs of the trunk, float [b, n, h, w, 3]: turned images, patches or tiles. Each goes through it once.
      beside: Indices of the pieces that stand side by side in each of q questions, int32 [b, q, p] in [0, n).
      answers: Right answers, int32 [b, q] in [0, k).
    """

    pieces: jax.Array
    beside: jax.Array
    answers: jax.Array


class Pretext(NamedTuple):
    """The definition of a pretext task. To add a task, make one of these.

    Attributes:
      name: Name of the task.
      num_answers: Number of possible answers, k.
      ask: Function `(rng, images) -> Questions` of images float [b, h, w, 3] after the augmentation, crops and flips
        included.
      look: Function `images -> images` that prepares whole images [b, h, w, 3] for the trained trunk.
    """

    name: str
    num_answers: int
    ask: Callable[[jax.Array, jax.Array], Questions]
    look: Callable[[jax.Array], jax.Array] = lambda images: images


def make_pretext(
    pretext: Pretext,
    model: ModelFn,
    *,
    part_dim: int | None = None,
    hidden: int | None = None,
) -> Task:
    """Makes the task that answers the questions of `pretext`, trained with softmax cross entropy.

    Batches: `image` float [b, h, w, 3]; labels are not read.

    Metrics: `NAME_top1`, the share of questions of the training batch that are answered right.

    Outputs, for whole images: the outputs of the trunk. Another run can start from the trunk with `init.weights`.

    Args:
      pretext: Definition of the questions.
      model: Function of the number of classes, here None, that builds the trunk.
      part_dim, hidden: Widths of the layers between trunk and answer, see `models.pieces.SideBySide`.
    """
    whole("task.part_dim", part_dim, optional=True)
    whole("task.hidden", hidden, optional=True)
    trunk = bare_backbone(pretext.name, model(None))
    network = PiecesClassifier(trunk, pretext.num_answers, part_dim, hidden)

    def ask(batch, rng):
        return pretext.ask(jax.random.split(rng)[0], single_view(pretext.name, batch))

    def init(rng, batch):
        pieces, beside, _ = ask(batch, rng)
        return network.init(rng, pieces, beside, train=False)

    def loss(variables, batch, rng):
        pieces, beside, answers = ask(batch, rng)
        logits, updates = in_training(network, variables, pieces, beside, rng=jax.random.split(rng)[1])
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
