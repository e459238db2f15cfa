"""MoCo v3: from a view of an image, the network predicts the teacher's projection of the other, among the batch's."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxvision.arguments import COUNT, POSITIVE, Range
from jaxvision.fields import Field
from jaxvision.losses import representation
from jaxvision.losses.info_nce import against_batch
from jaxvision.losses.pairs import unit
from jaxvision.models import heads
from jaxvision.registry import part
from jaxvision.tasks import teacher as teachers
from jaxvision.tasks.task import (
    PAIRS,
    PARTS,
    After,
    Batch,
    Joint,
    Metrics,
    ModelFn,
    Task,
    Variables,
    module_pattern,
    outputs_of,
)
from jaxvision.tasks.teacher import TEACHER
from jaxvision.tasks.views import apart, views_of

PREDICTOR = "predictor"


@part("task", "moco_v3", small={"hidden": 16, "projection_dim": 8})
def make_moco_v3(
    *,
    model: ModelFn,
    total_steps: int,
    over_batch: Callable[[Callable], Callable] | None = None,
    fields: Mapping[str, Field] = PAIRS,
    temperature: POSITIVE = 0.2,
    momentum: Annotated[float, Range(0, 1)] = 0.99,
    schedule: teachers.Schedule = "cosine",
    projection_layers: COUNT = 3,
    projection_dim: COUNT = 256,
    hidden: COUNT = 4096,
    predictor_norm: bool = True,
    chunk: COUNT | None = 1024,
) -> Task:
    """Makes the task that tells the teacher's projection of the other view from those of all other images.

    MoCo v3 (Chen, Xie, He 2021, arXiv 2104.02057, sec. 3 and alg. 1). There is no queue: the negatives are the keys of
    the batch on all devices. Each view predicts the key of the other; the loss is the sum of both directions, times 2
    `temperature`. The teacher has the same backbone and projection. It starts as a copy, takes no gradients, and moves
    towards the network after every optimizer step. Network and teacher see one view after the other, so each view is a
    batch of its own for BatchNorm, over all devices, as with the authors' SyncBN. All keys come from the same batch, so
    its statistics tell nothing, and nothing is shuffled.

    A ViT needs its patch projection frozen as it was drawn (sec. 4): `optimizer.freeze`, see the config.

    Batches: `image` float [b, 2, h, w, 3], from two views in the augmentation. With `train.accumulate` the gradient is
    that of the whole batch, but for BatchNorm.

    Metrics: `contrastive_top1`, the share of predictions that are nearest to their own key; `similarity`, the mean
    cosine of prediction and key; `embedding_std` of the keys, which falls to 0 if all images have one projection.

    Outputs, for images [b, h, w, 3]: the outputs of the trained network, with "projection" and "prediction" [b, d].

    Args:
      model: Function of the number of classes, here None, that builds the backbone.
      total_steps: Number of steps of the run, which `schedule` needs.
      over_batch: Function that lays a loss over the devices of the run; None leaves the layout to XLA.
      fields: Fields of a batch; the images must have two views.
      temperature: Divisor of the cosines, above 0: 0.2 for a ViT, 1 for a ResNet.
      momentum: Share of the teacher that stays in the first step, in [0, 1].
      schedule: Schedule of that share: "cosine" moves it to 1; "constant" leaves it.
      projection_layers: Number of layers of the projection: 3 for a ViT, 2 for a ResNet. The predictor has 2. BatchNorm
        follows each of them; the last one of a head has neither scale nor offset.
      projection_dim: Width of projection and prediction.
      hidden: Number of units in the hidden layers of both heads.
      predictor_norm: True for BatchNorm after the predictor's last layer, too, as in the authors' code for a ViT; False
        as in that for a ResNet.
      chunk: Number of queries that a device compares with all keys at a time; None for all at once. It limits the
        memory of the loss and changes nothing else.
    """

    def head(layers: int, dtype: Any, last_norm: bool = True) -> heads.Projection:
        return heads.Projection(
            layers, projection_dim, hidden, dtype=dtype, last_norm=last_norm, last_scale=False, last_bias=False
        )

    def projected() -> heads.Projected:
        backbone = heads.bare_backbone("moco_v3", model(None))
        return heads.Projected(backbone, head(projection_layers, backbone.dtype))

    teacher, student = projected(), projected()
    network = heads.Predicted(student, head(2, student.dtype, predictor_norm))

    def both(predictions: jax.Array, keys: jax.Array, axis_name: Any = None) -> tuple[jax.Array, jax.Array]:
        memory = dict(chunk=chunk, axis_name=axis_name)
        ways = [against_batch(predictions[:, i], keys[:, 1 - i], temperature, **memory) for i in (0, 1)]
        losses, correct = (jnp.stack(one, axis=1) for one in zip(*ways))
        return losses, correct  # b v each

    compare_all = both if over_batch is None else over_batch(both)

    def init(rng: jax.Array, batch: Batch) -> Variables:
        variables = network.init(rng, views_of("moco_v3", batch, fields, 2)[:, 0], train=False)
        return teachers.copied(variables, without=(PREDICTOR,))

    def embed(variables: Variables, batch: Batch, rng: jax.Array) -> tuple[dict[str, jax.Array], Variables]:
        images = jnp.moveaxis(views_of("moco_v3", batch, fields, 2), 1, 0)  # v b h w c
        mine, theirs = jax.random.split(rng)
        (_, out), updates = apart(network, teachers.trained(variables), images, mine)
        (_, target), moved = apart(teacher, variables[TEACHER], images, theirs)
        embeddings = {"predictions": out["prediction"], "keys": jax.lax.stop_gradient(target["projection"])}
        updates = {**updates, TEACHER: {**variables[TEACHER], **moved}}
        return {name: jnp.moveaxis(x, 0, 1) for name, x in embeddings.items()}, updates  # b v d

    def compare(_: Variables, embeddings: dict[str, jax.Array], __: Batch) -> tuple[jax.Array, Metrics]:
        predictions, keys = embeddings["predictions"], embeddings["keys"]
        losses, correct = compare_all(predictions, keys)
        metrics = {
            "contrastive_top1": correct.mean(),
            "similarity": (unit(predictions) * unit(keys)[:, ::-1]).sum(-1).mean(),
            "embedding_std": representation.embedding_std(keys[:, 0]),
        }
        return 2 * temperature * losses.sum(1).mean(), metrics

    def after(done: After) -> Variables:
        return teachers.followed(done, teachers.momentum_at(done.step, total_steps, momentum, schedule))

    def outputs(variables: Variables, batch: Batch) -> dict[str, Any]:
        return outputs_of(network, teachers.trained(variables), batch["image"])

    return Task(
        init,
        Joint(embed, compare),
        outputs,
        after=after,
        parts={
            **teachers.PART,
            PREDICTOR: module_pattern(PREDICTOR),
            "projection": module_pattern("projection"),
            **PARTS,
        },
        progress=("contrastive_top1", "embedding_std"),
        least=2,
    )
