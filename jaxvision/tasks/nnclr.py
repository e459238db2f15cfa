"""NNCLR: the nearest neighbour of a view, among embeddings of earlier batches, must find the image's other view."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.arguments import COUNT, POSITIVE
from jaxvision.fields import Field
from jaxvision.layout import collection_pattern
from jaxvision.losses import representation
from jaxvision.losses.info_nce import against_batch
from jaxvision.losses.pairs import unit
from jaxvision.models import heads
from jaxvision.registry import part
from jaxvision.tasks import queue as queues
from jaxvision.tasks.siamese import Siamese
from jaxvision.tasks.task import PAIRS, After, Batch, Joint, ModelFn, Task, Variables

QUEUE = "queue"


@part("task", "nnclr", small={"queue_size": 32, "hidden": 16, "predictor_hidden": 16, "projection_dim": 8})
def make_nnclr(
    *,
    model: ModelFn,
    over_batch: Callable[[Callable], Callable] | None = None,
    fields: Mapping[str, Field] = PAIRS,
    temperature: POSITIVE = 0.1,
    queue_size: COUNT = 98_304,
    projection_dim: COUNT = 256,
    hidden: COUNT = 2048,
    predictor_hidden: COUNT = 4096,
    chunk: COUNT | None = 1024,
) -> Task:
    """Makes the task that takes a neighbour of an image, not the image itself, as the positive of its other view.

    NNCLR (Dwibedi et al. 2021, arXiv 2104.14548, sec. 3.2 and its pseudocode). For each view, the nearest projection is
    looked up in a queue of projections of earlier batches, the support set. This neighbour must find the prediction of
    the image's other view among those of all other images of the batch. The queue takes no gradient; the gradient flows
    through the predictions. After every optimizer step, the projections of the first view of the whole batch replace
    the oldest rows. At first the queue holds random directions.

    The loss compares the whole batch, on any number of devices and with `train.accumulate`; only BatchNorm sees a
    microbatch. The paper passes one view after the other; here both views of all images are one batch for BatchNorm.

    Batches: `image` float [b, 2, h, w, 3], from `views(2, ...)` or two different views in the augmentation.

    Metrics: `contrastive_top1`, the share of neighbours whose image has the most similar prediction; it is 0 in a
    collapse. `neighbour_similarity`, the mean cosine of a projection and its neighbour: about that of random directions
    while the queue fills. `embedding_std` of the projections falls to 0 if all images are projected to one point.

    Outputs, for images [b, h, w, 3]: the outputs of the backbone, with "projection" and "prediction" [b, d].

    Args:
      model: Function of the number of classes, here None, that builds the backbone.
      over_batch: Function `parallel.collectives.over_batch` for the mesh of the run; None leaves the layout to XLA.
      fields: Fields of a batch; the images must have two views.
      temperature: Divisor of the cosines, above 0.
      queue_size: Number of projections in the queue.
      projection_dim: Width d of projection and prediction.
      hidden: Number of units of the two hidden layers of the projection head, which has BatchNorm after each layer.
      predictor_hidden: Number of units of the predictor's hidden layer, the only one there with BatchNorm.
      chunk: Number of images that a device compares with all others at a time; None for all at once. It limits the
        memory of the loss and changes nothing else.
    """
    backbone = heads.bare_backbone("nnclr", model(None))
    projection = heads.Projection(3, projection_dim, hidden, dtype=backbone.dtype)
    predictor = heads.Projection(2, projection_dim, predictor_hidden, last_norm=False, dtype=backbone.dtype)
    siamese = Siamese("nnclr", heads.Predicted(heads.Projected(backbone, projection), predictor), fields)

    def compare_rows(neighbours: jax.Array, predictions: jax.Array, axis_name: Any = None) -> tuple:
        memory = dict(chunk=chunk, axis_name=axis_name)
        ways = [against_batch(neighbours[:, i], predictions[:, 1 - i], temperature, **memory) for i in (0, 1)]
        losses, correct = (jnp.stack(one, axis=1) for one in zip(*ways))
        return losses, correct  # b v each

    compare_all = compare_rows if over_batch is None else over_batch(compare_rows)

    def own(variables: Variables) -> Variables:
        return {name: collection for name, collection in variables.items() if name != QUEUE}

    def init(rng: jax.Array, batch: Batch) -> Variables:
        queue_rng, rng = jax.random.split(rng)
        queue = queues.make_queue(unit(jax.random.normal(queue_rng, (queue_size, projection_dim))))
        return {**siamese.init(rng, batch), QUEUE: queue}

    def embed(variables: Variables, batch: Batch, rng: jax.Array) -> tuple:
        return siamese.embed(own(variables), batch, rng)

    def compare(variables: Variables, embeddings: dict[str, jax.Array], batch: Batch) -> tuple:
        z = unit(jax.lax.stop_gradient(embeddings["projection"]))  # b v d
        neighbours = queues.nearest(variables[QUEUE], z)
        losses, correct = compare_all(neighbours, embeddings["prediction"])
        metrics = {
            "contrastive_top1": correct.mean(),
            "neighbour_similarity": (z * neighbours).sum(-1).mean(),
            "embedding_std": representation.embedding_std(z[:, 0]),
        }
        return losses.mean(), metrics, z[:, 0]

    def after(done: After) -> Variables:
        return {QUEUE: queues.push(done.variables[QUEUE], done.rows)}

    def outputs(variables: Variables, batch: Batch) -> dict[str, Any]:
        return siamese.outputs(own(variables), batch)

    return Task(
        init,
        Joint(embed, compare),
        outputs,
        after=after,
        parts={QUEUE: collection_pattern(QUEUE), **siamese.parts},
        progress=("contrastive_top1", "embedding_std"),
        least=2,
    )
