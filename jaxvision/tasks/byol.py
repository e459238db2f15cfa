"""BYOL: the network predicts, from one view of an image, how its moving average projects another. No negatives."""

from collections.abc import Mapping
from typing import Annotated, Any

import jax

from jaxvision.arguments import COUNT, Range
from jaxvision.fields import Field
from jaxvision.losses import representation
from jaxvision.losses.pairs import unit
from jaxvision.models import heads
from jaxvision.registry import part
from jaxvision.tasks import teacher as teachers
from jaxvision.tasks.task import (
    PAIRS,
    PARTS,
    After,
    Batch,
    ModelFn,
    Task,
    Variables,
    in_training,
    module_pattern,
    outputs_of,
)
from jaxvision.tasks.teacher import TEACHER
from jaxvision.tasks.views import as_examples, views_of

PREDICTOR = "predictor"


@part("task", "byol", small={"hidden": 16, "projection_dim": 8})
def make_byol(
    *,
    model: ModelFn,
    total_steps: int,
    fields: Mapping[str, Field] = PAIRS,
    momentum: Annotated[float, Range(0, 1)] = 0.996,
    schedule: teachers.Schedule = "cosine",
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
      schedule: Schedule of that share: "cosine" moves it to 1; "constant" leaves it.
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
        variables = network.init(rng, views_of("byol", batch, fields, 2)[:, 0], train=False)
        return teachers.copied(variables, without=(PREDICTOR,))

    def loss(variables: Variables, batch: Batch, rng: jax.Array) -> tuple:
        images = as_examples(views_of("byol", batch, fields, 2))
        b = len(images) // 2
        (_, out), updates = in_training(network, teachers.trained(variables), images, rng=rng)
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
        return teachers.followed(done, teachers.momentum_at(done.step, total_steps, momentum, schedule))

    def outputs(variables: Variables, batch: Batch) -> dict[str, Any]:
        return outputs_of(network, teachers.trained(variables), batch["image"])

    return Task(
        init,
        loss,
        outputs,
        after=after,
        parts={
            **teachers.PART,
            PREDICTOR: module_pattern(PREDICTOR),
            "projection": module_pattern("projection"),
            **PARTS,
        },
        progress=("similarity", "embedding_std"),
    )
