"""SwAV: the views of an image predict which prototypes its other views are assigned to. No negatives, no teacher."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxvision.arguments import COUNT, POSITIVE, Range
from jaxvision.fields import Field
from jaxvision.losses import representation
from jaxvision.losses.pairs import unit
from jaxvision.losses.sinkhorn import sinkhorn
from jaxvision.losses.swapped import in_use, swapped_prediction
from jaxvision.models import heads
from jaxvision.registry import part
from jaxvision.tasks import queue as queues
from jaxvision.tasks.task import (
    PAIRS,
    PARTS,
    After,
    Batch,
    Joint,
    ModelFn,
    Task,
    Variables,
    collection_pattern,
    in_training,
    module_pattern,
    outputs_of,
)
from jaxvision.tasks.views import as_examples, by_image, crops_of

QUEUE, PROTOTYPES = "queue", "prototypes"


@part("task", "swav", small={"prototypes": 6, "projection_dim": 8, "hidden": 16, "queue": 8})
def make_swav(
    *,
    model: ModelFn,
    steps: Callable[[str | int], int],
    fields: Mapping[str, Field] = PAIRS,
    prototypes: Annotated[int, Range(2)] = 3000,
    temperature: POSITIVE = 0.1,
    epsilon: POSITIVE = 0.05,
    iterations: COUNT = 3,
    queue: Annotated[int, Range(0)] = 0,
    queue_starts: str | int = "15 epochs",
    projection_dim: COUNT = 128,
    hidden: COUNT = 2048,
    norm: bool = True,
) -> Task:
    """Makes the task that predicts, from each view of an image, the assignment of its large views to prototypes.

    SwAV (Caron et al. 2020, arXiv 2006.09882, sec. 3). The features z of all views, of length 1, are compared with K
    prototypes c, also of length 1. Sinkhorn's algorithm assigns the large views of the batch to the prototypes so that
    all of them are used equally (eq. 3 to 5), for each large view of the images by itself. Every other view predicts
    this assignment by a softmax over z c (eq. 2 and 6). Assignments are those of the whole batch, on any number of
    devices and with `train.accumulate`, apart from BatchNorm, which sees a microbatch.

    If the batch is small, the assignment also uses the features of earlier batches, from a queue for each large view
    (sec. 3.1, "Working with small batches"). As in the authors' code it takes part once it is full. The authors keep
    the prototypes fixed in the first epoch; in a config this is `optimizer.freeze`.

    Batches: `image` float [b, g, h, w, 3] with g at least 2, and, from `multi_crop`, `local_image` [b, l, h', w', 3].
    Each size is one pass through the network (sec. 3.2), all features together go through the head.

    Metrics: `prototypes_used`, the number of prototypes that the first views of the batch prefer;
    `assignment_entropy`, the mean entropy of an assignment divided by ln K; `embedding_std` of z; and
    `loss_over_chance`, the loss divided by ln K. If all images get the same features, these are 1, 1, 0 and 1.

    Outputs, for images [b, h, w, 3]: the outputs of the backbone and "projection" [b, projection_dim].

    Args:
      model: Function of the number of classes, here None, that builds the backbone.
      steps: Function that turns a duration into steps.
      fields: Fields of a batch; the images must have views.
      prototypes: Number K of prototypes, 3,000 for ImageNet in the paper.
      temperature: Temperature of the predictions, above 0.
      epsilon: Temperature of the assignments, above 0. High values lead to a collapse (sec. 3.1); the authors' README
        advises 0.03 against one.
      iterations: Number of iterations of Sinkhorn's algorithm.
      queue: Number of features of earlier batches for each large view, 0 for no queue. The paper has 3,840 with a batch
        of 256.
      queue_starts: Duration after which the queue begins to be filled.
      projection_dim: Width of z.
      hidden: Number of units in the hidden layer of the head.
      norm: True for BatchNorm after this hidden layer.
    """
    backbone = heads.bare_backbone("swav", model(None))
    head = heads.Projection(2, projection_dim, hidden, norm, last_norm=False, dtype=backbone.dtype)
    network = heads.Projected(backbone, head)
    starts = steps(queue_starts) if queue else 0

    def init(rng: jax.Array, batch: Batch) -> Variables:
        large = crops_of("swav", batch, fields)[0]
        variables = network.init(rng, large[:, 0], train=False)
        directions = jax.random.normal(jax.random.fold_in(rng, 1), (prototypes, projection_dim))
        params = {**variables["params"], PROTOTYPES: {"kernel": unit(directions).T}}
        variables = {**variables, "params": params}
        if queue:
            variables[QUEUE] = queues.make_queue(jnp.zeros((queue, large.shape[1] * projection_dim)))
        return variables

    def embed(variables: Variables, batch: Batch, rng: jax.Array) -> tuple[jax.Array, Variables]:
        crops = crops_of("swav", batch, fields)
        (_, out), updates = in_training(network, _of_network(variables), tuple(map(as_examples, crops)), rng=rng)
        return by_image(unit(out["projection"]), crops), updates

    # Each large view of the images is assigned by itself.
    assign = jax.vmap(partial(sinkhorn, epsilon=epsilon, iterations=iterations), in_axes=1, out_axes=1)

    def compare(variables: Variables, z: jax.Array, batch: Batch) -> tuple:
        kernel = variables["params"][PROTOTYPES]["kernel"]  # d k
        scores = _scores(z, kernel)  # b v k
        g = batch["image"].shape[1]
        if queue:
            rows = variables[QUEUE]["rows"].reshape(queue, g, -1)  # n g d
            with_earlier = lambda: assign(jnp.concatenate([_scores(rows, kernel), scores[:, :g]]))[queue:]
            full = queues.filled(variables[QUEUE]).all()
            targets = jax.lax.cond(full, with_earlier, lambda: assign(scores[:, :g]))  # b g k
        else:
            targets = assign(scores[:, :g])
        value = swapped_prediction(scores, targets, temperature).mean()
        metrics = {
            "prototypes_used": in_use(scores[:, 0]),
            "assignment_entropy": -jax.scipy.special.xlogy(targets, targets).sum(-1).mean() / jnp.log(prototypes),
            "embedding_std": representation.embedding_std(z[:, 0]),
            "loss_over_chance": value / jnp.log(prototypes),
        }
        return value, metrics, jax.lax.stop_gradient(z[:, :g])

    def after(done: After) -> Variables:
        params = done.variables["params"]
        kernel = unit(params[PROTOTYPES]["kernel"].T).T  # d k
        updates = {"params": {**params, PROTOTYPES: {"kernel": kernel}}}
        if queue:
            before, rows = done.variables[QUEUE], done.rows.reshape(len(done.rows), -1)
            pushed = queues.push(before, rows)
            updates[QUEUE] = jax.tree.map(lambda new, old: jnp.where(done.step < starts, old, new), pushed, before)
        return updates

    def outputs(variables: Variables, batch: Batch) -> dict[str, Any]:
        return outputs_of(network, _of_network(variables), batch["image"])

    return Task(
        init,
        Joint(embed, compare),
        outputs,
        after=after,
        parts={
            QUEUE: collection_pattern(QUEUE),
            PROTOTYPES: module_pattern(PROTOTYPES),
            "projection": module_pattern("projection"),
            **PARTS,
        },
        progress=("prototypes_used", "embedding_std"),
        least=2,
    )


def _scores(features: jax.Array, kernel: jax.Array) -> jax.Array:
    # Accelerators multiply with fewer bits by default; dividing by epsilon would magnify that error.
    return jnp.matmul(features, kernel, precision=jax.lax.Precision.HIGHEST)


def _of_network(variables: Variables) -> Variables:
    return {name: collection for name, collection in variables.items() if name != QUEUE}
