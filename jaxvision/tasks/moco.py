"""MoCo v1 and v2: a view of an image must find the teacher's key of the other view among the keys of a long queue."""

from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxvision.arguments import COUNT, POSITIVE, Range
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.layout import collection_pattern
from jaxvision.losses import representation
from jaxvision.losses.info_nce import against_queue
from jaxvision.losses.pairs import unit
from jaxvision.models import heads
from jaxvision.registry import part
from jaxvision.tasks import queue as queues
from jaxvision.tasks import teacher as teachers
from jaxvision.tasks.task import PAIRS, PARTS, After, Batch, ModelFn, Task, Variables, module_pattern, outputs_of
from jaxvision.tasks.teacher import TEACHER
from jaxvision.tasks.views import apart, views_of

QUEUE = "queue"


@part("task", "moco", small={"queue_size": 32, "projection_dim": 8, "norm_splits": 2})
def make_moco(
    *,
    model: ModelFn,
    fields: Mapping[str, Field] = PAIRS,
    temperature: POSITIVE = 0.2,
    momentum: Annotated[float, Range(0, 1)] = 0.999,
    queue_size: COUNT = 65_536,
    projection_layers: COUNT = 2,
    projection_dim: COUNT = 128,
    projection_hidden: COUNT | None = None,
    symmetric: bool = False,
    norm_splits: COUNT = 8,
) -> Task:
    """Makes the task that finds the teacher's key of the other view of an image among the keys of earlier batches.

    MoCo (He et al. 2020, arXiv 1911.05722, alg. 1), by default with the head, temperature and augmentation of MoCo v2
    (Chen et al. 2020, arXiv 2003.04297). The first view gives the query of the trained network, the second the key of
    the teacher, which starts as a copy, takes no gradients, and follows the network after every optimizer step. The
    negatives are `queue_size` keys of earlier batches; at first they are random directions. After every step, the keys
    of the whole batch replace the oldest.

    BatchNorm lets the network cheat: the statistics of a batch mark its query and its key, but not the queue (sec. 3.3,
    "Shuffling BN"). The authors train on 8 devices with statistics of their own, and shuffle the keys between devices.
    Here statistics are global, so the task does the same itself: it splits the batch into `norm_splits` parts, shuffled
    for the keys, on any number of devices. Queries and keys never share a batch.

    Batches: `image` float [b, 2, h, w, 3], from `views(2, ...)` in the augmentation. With `train.accumulate` the queue
    stands still during a step, so the gradient is that of the whole batch, but for BatchNorm.

    Metrics: `contrastive_top1`, the share of queries whose key is more similar than the whole queue; `similarity`, the
    mean cosine of query and key; `embedding_std` of the queries, which falls to 0 if all images are projected to one
    point.

    Outputs, for images [b, h, w, 3]: the outputs of the trained network, "projection" [b, d] and "projections".

    Args:
      model: Function of the number of classes, here None, that builds the backbone.
      fields: Fields of a batch; the images must have two views.
      temperature: Divisor of the cosines, above 0: 0.2 in v2, 0.07 in v1.
      momentum: Share of the teacher that stays in a step, in [0, 1].
      queue_size: Number of keys in the queue.
      projection_layers: Number of layers of the head, without BatchNorm: 2 in v2, 1 in v1.
      projection_dim: Width of queries and keys.
      projection_hidden: Number of units between the layers; None for the width of the features.
      symmetric: True to add the loss with the views exchanged, and to queue the keys of both views, as in the authors'
        demo on CIFAR-10.
      norm_splits: Number of parts of a batch (with `train.accumulate`, of a microbatch) that have BatchNorm statistics
        of their own; 1 for those of the whole batch, which a network can use to cheat.
    """

    def encoder() -> heads.Projected:
        backbone = heads.bare_backbone("moco", model(None))
        head = heads.Projection(
            projection_layers, projection_dim, projection_hidden, norm=False, dtype=backbone.dtype, last_norm=False
        )
        return heads.Projected(backbone, head)

    network, teacher = encoder(), encoder()
    directions = ((0, 1), (1, 0)) if symmetric else ((0, 1),)
    of_queries, of_keys = (jnp.array(views) for views in zip(*directions))

    def own(variables: Variables) -> Variables:
        return {name: collection for name, collection in teachers.trained(variables).items() if name != QUEUE}

    def encode(module: Any, variables: Variables, images: jax.Array, rng: jax.Array) -> tuple[jax.Array, Variables]:
        """Projections [b, v, d] of images [b, v, h, w, 3], and updated statistics."""
        b, v = images.shape[:2]
        parts = jnp.moveaxis(images, 1, 0).reshape(v * norm_splits, b // norm_splits, *images.shape[2:])
        (_, out), updates = apart(module, variables, parts, rng)
        return jnp.moveaxis(out["projection"].reshape(v, b, -1), 0, 1), updates

    def init(rng: jax.Array, batch: Batch) -> Variables:
        images = views_of("moco", batch, fields, 2)
        queue_rng, rng = jax.random.split(rng)
        queue = queues.make_queue(unit(jax.random.normal(queue_rng, (queue_size, projection_dim))))
        return {**teachers.copied(network.init(rng, images[:, 0], train=False)), QUEUE: queue}

    def loss(variables: Variables, batch: Batch, rng: jax.Array) -> tuple:
        images = views_of("moco", batch, fields, 2)
        b = len(images)
        if b % norm_splits:
            raise UserError(f"task.norm_splits={norm_splits} does not divide {b} images: set it to a divisor, or to 1")
        query_rng, key_rng, order_rng = jax.random.split(rng, 3)
        order = jax.random.permutation(order_rng, b) if norm_splits > 1 else jnp.arange(b)
        queries, updates = encode(network, own(variables), images[:, of_queries], query_rng)
        shuffled, moved = encode(teacher, variables[TEACHER], images[order][:, of_keys], key_rng)
        keys = unit(jax.lax.stop_gradient(shuffled[jnp.argsort(order)]))  # b v d
        flat = queries.reshape(-1, projection_dim)
        losses, correct = against_queue(flat, keys.reshape(flat.shape), variables[QUEUE]["rows"], temperature)
        metrics = {
            "contrastive_top1": correct.mean(),
            "similarity": (unit(queries) * keys).sum(-1).mean(),
            "embedding_std": representation.embedding_std(queries[:, 0]),
        }
        value = len(directions) * losses.mean()  # the sum over directions
        return value, (metrics, {**updates, TEACHER: {**variables[TEACHER], **moved}}, keys)

    def after(done: After) -> Variables:
        keys = done.rows.reshape(-1, projection_dim)
        return {**teachers.followed(done, momentum), QUEUE: queues.push(done.variables[QUEUE], keys)}

    def outputs(variables: Variables, batch: Batch) -> dict[str, Any]:
        return outputs_of(network, own(variables), batch["image"])

    return Task(
        init,
        loss,
        outputs,
        after=after,
        parts={
            **teachers.PART,
            QUEUE: collection_pattern(QUEUE),
            "projection": module_pattern("projection"),
            **PARTS,
        },
        progress=("contrastive_top1", "embedding_std"),
    )
