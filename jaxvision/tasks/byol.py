"""BYOL: the network predicts, from one view of an image, how its moving average projects another. No negatives."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from jaxvision.arguments import COUNT, Range
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.losses import representation
from jaxvision.losses.pairs import unit
from jaxvision.models import heads
from jaxvision.registry import part
from jaxvision.tasks.task import (
    PAIRS,
    PARTS,
    After,
    Batch,
    ModelFn,
    Task,
    Variables,
    collection_pattern,
    in_training,
    module_pattern,
    outputs_of,
)

TEACHER, PREDICTOR = "teacher", "predictor"


@part("task", "byol", small={"hidden": 16, "projection_dim": 8})
def make_byol(
    *,
    model: ModelFn,
    total_steps: int,
    fields: Mapping[str, Field] = PAIRS,
    momentum: Annotated[float, Range(0, 1)] = 0.996,
    schedule: Literal["cosine", "constant"] = "cosine",
    projection_dim: COUNT = 256,
    hidden: COUNT = 4096,
    norm: bool = True,
) -> Task:
    """Makes the task that predicts, from one view of an image, the teacher's projection of the other view.

    BYOL (Grill et al. 2020, arXiv 2006.07733, sec. 3). The teacher ("target network") has the same backbone and
    projection. It starts as a copy, takes no gradients, and moves towards the trained network after every optimizer
    step. It is applied as in training, with the BatchNorm statistics of its batch. The authors' code passes one view
    after the other; here both views of all images are one batch, for BatchNorm too.

    Batches: `image` float [b, 2, h, w, 3], from `views(2, ...)` or two different views in the augmentation.

    Metrics: `similarity`, the mean cosine of prediction and target; `embedding_std` of the projections, which falls to
    0 if all images are projected to one point.

    Outputs, for images [b, h, w, 3]: the outputs of the trained network, with "projection" and "prediction" [b, d].

    Args:
      model: Function of the number of classes, here None, that builds the backbone.
      total_steps: Number of steps of the run, which `schedule` needs.
      fields: Fields of a batch; the images must have two views.
      momentum: Share of the teacher that stays in the first step, tau_base, in [0, 1]. The paper's is 0.996 for 1000
        epochs, 0.99 for 300.
      schedule: Schedule of that share: "cosine" moves it to 1, see `teacher_momentum`; "constant" leaves it.
      projection_dim: Width of projection and prediction.
      hidden: Number of units in the hidden layer of both heads.
      norm: True for BatchNorm after these hidden layers.
    """

    def head(dtype: Any) -> heads.Projection:
        return heads.Projection(2, projection_dim, hidden, norm, last_norm=False, dtype=dtype)

    def projected() -> heads.Projected:
        backbone = heads.bare_backbone("byol", model(None))
        return heads.Projected(backbone, head(backbone.dtype))

    teacher, student = projected(), projected()
    network = heads.Predicted(student, head(student.dtype))

    def init(rng: jax.Array, batch: Batch) -> Variables:
        variables = network.init(rng, _two_views(batch, fields)[:, 0], train=False)
        copied = {
            name: {k: v for k, v in collection.items() if k != PREDICTOR} for name, collection in variables.items()
        }
        return {**variables, TEACHER: jax.tree.map(jnp.copy, copied)}

    def loss(variables: Variables, batch: Batch, rng: jax.Array) -> tuple:
        images = _two_views(batch, fields)
        b = len(images)
        images = images.reshape(2 * b, *images.shape[2:])  # b v h w c -> bv h w c
        mine = {name: collection for name, collection in variables.items() if name != TEACHER}
        (_, out), updates = in_training(network, mine, images, rng=rng)
        (_, theirs), moved = in_training(teacher, variables[TEACHER], images, rng=jax.random.fold_in(rng, 1))
        targets = jax.lax.stop_gradient(theirs["projection"]).reshape(b, 2, -1)[:, ::-1]  # of the other view
        predictions = out["prediction"].reshape(b, 2, -1)
        cosines = (unit(predictions) * unit(targets)).sum(-1)  # b v
        value = (2 - 2 * cosines).sum(1).mean()  # eq. 2 and 3: both directions
        metrics = {
            "similarity": cosines.mean(),
            "embedding_std": representation.embedding_std(out["projection"].reshape(b, 2, -1)[:, 0]),
        }
        return value, (metrics, {**updates, TEACHER: {**variables[TEACHER], **moved}})

    def after(done: After) -> Variables:
        stays = momentum if schedule == "constant" else teacher_momentum(done.step, total_steps, momentum)
        params = {name: module for name, module in done.variables["params"].items() if name != PREDICTOR}
        before = done.variables[TEACHER]
        averaged = jax.tree.map(lambda old, new: stays * old + (1 - stays) * new, before["params"], params)
        return {TEACHER: {**before, "params": averaged}}

    def outputs(variables: Variables, batch: Batch) -> dict[str, Any]:
        mine = {name: collection for name, collection in variables.items() if name != TEACHER}
        return outputs_of(network, mine, batch["image"])

    return Task(
        init,
        loss,
        outputs,
        after=after,
        parts={
            TEACHER: collection_pattern(TEACHER),
            PREDICTOR: module_pattern(PREDICTOR),
            "projection": module_pattern("projection"),
            **PARTS,
        },
        progress=("similarity", "embedding_std"),
    )


def teacher_momentum(step: jax.typing.ArrayLike, total: int, base: float) -> jax.Array:
    """Returns the share of the teacher that stays in a step: 1 - (1 - base) (cos(pi step / total) + 1) / 2.

    Grill et al. 2020, sec. 3.3, "Optimization": from `base` in the first step (0) to 1 after the last.

    Args:
      step: Number of the step, from 0 to `total`.
      total: Number of steps of the run.
      base: Share in the first step, in [0, 1].

    Returns:
      float32 [].

    >>> [round(float(teacher_momentum(step, 100, 0.9)), 3) for step in (0, 50, 100)]
    [0.9, 0.95, 1.0]
    """
    return 1 - (1 - base) * (jnp.cos(jnp.pi * step / total) + 1) / 2


def _two_views(batch: Batch, fields: Mapping[str, Field]) -> jax.Array:
    """The images [b, 2, h, w, 3] of a batch; raises UserError if there are not two views of each."""
    images = batch["image"]
    if fields["image"].views != 2 or images.ndim < 5 or images.shape[1] != 2:
        raise UserError(
            "the task 'byol' needs two views of each image, but the augmentation makes arrays of "
            f"{'x'.join(map(str, images.shape[1:]))}: set augment to \"views(2, '...')\""
        )
    return images
