"""A linear probe and a k-NN that watch the features of a run while it trains, beside any task (`config.online`).

Both read what an evaluation would see: `Task.outputs` of the first view of the step's batch, with the variables before
the step and no gradient to them. What they learn is a collection of its own, `online`, so the network is trained as it
would be without them, bit for bit.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxvision.errors import UserError
from jaxvision.evals.features import pick_layer
from jaxvision.evals.knn import vote
from jaxvision.evals.views import outputs_with_key
from jaxvision.fields import Field
from jaxvision.layout import ONLINE, collection_pattern
from jaxvision.losses.pairs import unit
from jaxvision.sections import OnlineKnn, OnlineProbe
from jaxvision.tasks import queue
from jaxvision.tasks.task import After, Batch, Joint, Loss, Metrics, Task, Variables

PyTree = Any


class Watcher(NamedTuple):
    """Something that learns from features and labels beside a task.

    Attributes:
      layer: Name of the output of the task that it reads.
      init: Function `dimension -> state`.
      judge: Function `(state, features [b, d], labels [b]) -> metrics`, before the update.
      update: Function `(state, features, labels) -> state` after the step.
    """

    layer: str
    init: Callable[[int], PyTree]
    judge: Callable[[PyTree, jax.Array, jax.Array], Metrics]
    update: Callable[[PyTree, jax.Array, jax.Array], PyTree]


def make_probe(section: OnlineProbe, classes: int) -> Watcher:
    """Makes a linear classifier that is trained by Adam.

    Features are standardised over the batch, by a BatchNorm without scale and offset as in MAE's linear probing (He et
    al. 2022, app. A.1), so that one learning rate suits features of any size. An update that is not finite is left out.

    Args:
      section: Section `online.probe`.
      classes: Number k of classes.
    """
    tx = optax.adam(section.learning_rate)

    def losses(weights: PyTree, features: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = (features - features.mean(0)) * jax.lax.rsqrt(features.var(0) + 1e-6)
        logits = x @ weights["kernel"] + weights["bias"]
        rows = optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
        return _mean(rows, labels), _mean(logits.argmax(-1) == labels, labels)

    def init(dimension: int) -> PyTree:
        weights = {"kernel": jnp.zeros((dimension, classes)), "bias": jnp.zeros(classes)}
        return {"weights": weights, "optimizer": tx.init(weights)}

    def judge(state: PyTree, features: jax.Array, labels: jax.Array) -> Metrics:
        loss, top1 = losses(state["weights"], features, labels)
        return {"probe_loss": loss, "probe_top1": top1}

    def update(state: PyTree, features: jax.Array, labels: jax.Array) -> PyTree:
        grads = jax.grad(lambda weights: losses(weights, features, labels)[0])(state["weights"])
        updates, optimizer = tx.update(grads, state["optimizer"])
        new = {"weights": optax.apply_updates(state["weights"], updates), "optimizer": optimizer}
        finite = jnp.isfinite(optax.tree.norm(grads))
        return jax.tree.map(lambda x, old: jnp.where(finite, x, old), new, state)

    return Watcher(section.layer, init, judge, update)


def make_knn(section: OnlineKnn, classes: int) -> Watcher:
    """Makes a vote of nearest neighbours among the features of the last images, see `evals.knn`.

    The features in the queue are those of the step in which their images were seen, so most are older than the network.
    An image that comes again while it is in the queue finds itself.

    Args:
      section: Section `online.knn`.
      classes: Number of classes.
    """
    k = min(section.k, section.size)

    def init(dimension: int) -> PyTree:
        labels = queue.make_queue(jnp.full(section.size, -1, jnp.int32))
        return {"features": queue.make_queue(jnp.zeros((section.size, dimension))), "labels": labels}

    def judge(state: PyTree, features: jax.Array, labels: jax.Array) -> Metrics:
        theirs = state["labels"]["rows"]
        s = jnp.matmul(unit(features), state["features"]["rows"].T, precision=jax.lax.Precision.HIGHEST)  # b n
        best, at = jax.lax.top_k(jnp.where(theirs >= 0, s, -1e9), k)
        votes = vote(best, theirs[at], classes, section.temperature)
        right = (votes.argmax(-1) == labels) & (theirs >= 0).any()
        return {"knn_top1": _mean(right, labels)}

    def update(state: PyTree, features: jax.Array, labels: jax.Array) -> PyTree:
        return {
            "features": queue.push(state["features"], unit(features)),
            "labels": queue.push(state["labels"], labels),
        }

    return Watcher(section.layer, init, judge, update)


def beside(task: Task, watchers: Mapping[str, Watcher], fields: Mapping[str, Field]) -> Task:
    """Puts watchers beside a task.

    Args:
      task: Task. If it has players, the watchers see the variables before the first one moves.
      watchers: Watchers by the name of their state in the collection `online`.
      fields: Fields of a batch after its augmentation.

    Returns:
      The task, with the metrics of the watchers, `online/NAME`, and the part `online`, which no other run takes over.
    """
    outputs_of = outputs_with_key(task)

    def see(variables: Variables, batch: Batch) -> dict[str, jax.Array]:
        """The features [b, d] of the first views, by watcher."""
        first = {name: x[:, 0] if name in fields and fields[name].views else x for name, x in batch.items()}
        # The barrier keeps XLA from sharing computation with the training, which might change its rounding.
        variables, first = jax.lax.optimization_barrier(jax.lax.stop_gradient((_own(variables), first)))
        outputs = outputs_of(variables, first, None)
        return {name: pick_layer(outputs, watcher.layer) for name, watcher in watchers.items()}

    def judged(variables: Variables, seen: dict[str, jax.Array], batch: Batch) -> tuple[Metrics, PyTree]:
        """The metrics of the watchers, and the rows from which they learn after the step."""
        states, labels = variables[ONLINE], _labels(batch)
        metrics: Metrics = {}
        for name, watcher in watchers.items():
            metrics |= {f"{ONLINE}/{key}": x for key, x in watcher.judge(states[name], seen[name], labels).items()}
        return metrics, {"seen": seen, "labels": labels}

    def watched(loss: Loss) -> Loss:
        if isinstance(loss, Joint):
            return _watched_joint(loss, see, judged)

        def of(variables: Variables, batch: Batch, rng: jax.Array) -> tuple:
            value, (metrics, updates, *rows) = loss(_own(variables), batch, rng)
            more, learned = judged(variables, see(variables, batch), batch)
            return value, ({**metrics, **more}, updates, {"task": rows[0] if rows else None, ONLINE: learned})

        return of

    def init(rng: jax.Array, batch: Batch) -> Variables:
        variables = task.init(rng, batch)
        shapes = jax.eval_shape(see, variables, batch)
        return {**variables, ONLINE: {name: w.init(shapes[name].shape[-1]) for name, w in watchers.items()}}

    first = next(iter(task.players), None)  # the player that is watched

    def after(done: After) -> Variables:
        rows = done.rows if first is None else done.rows[first]
        rest = rows["task"] if first is None else {**done.rows, first: rows["task"]}
        changed = {} if task.after is None else task.after(done._replace(variables=_own(done.variables), rows=rest))
        states, learned = done.variables[ONLINE], rows[ONLINE]
        new = {n: w.update(states[n], learned["seen"][n], learned["labels"]) for n, w in watchers.items()}
        return {**changed, ONLINE: new}

    def outputs(variables: Variables, batch: Batch, rng: jax.Array | None = None) -> dict[str, Any]:
        return outputs_of(_own(variables), batch, rng)

    players = {
        name: player._replace(loss=watched(player.loss) if name == first else _without(player.loss))
        for name, player in task.players.items()
    }
    return task._replace(
        init=init,
        loss=None if task.loss is None else watched(task.loss),
        outputs=outputs,
        after=after,
        players=players,
        parts={ONLINE: collection_pattern(ONLINE), **task.parts},
        progress=(*task.progress, *(f"{ONLINE}/{name}_top1" for name in watchers)),
    )


def check_labels(fields: Mapping[str, Field], classes: int | None, multi_label: bool) -> int:
    """Checks that every image has one label.

    Args:
      fields: Fields of a batch.
      classes: Number of classes of the training set, or None.
      multi_label: True if an image has any number of labels.

    Returns:
      The number of classes.

    Raises:
      UserError: The batch has no labels, or several for an image.
    """
    if "label" not in fields:
        raise UserError(
            f"config.online judges features by labels, but a batch has only the fields {', '.join(fields)}: "
            "add 'label' to data.fields, or take the section online out"
        )
    if not classes:
        raise UserError(
            "config.online judges features by labels, but this data set names no classes: set data.classes, or take "
            "the section online out"
        )
    if multi_label:
        raise UserError(
            "config.online needs one label for each image, and images of this set have many: take the section out"
        )
    return classes


def _watched_joint(loss: Joint, see: Callable, judged: Callable) -> Joint:
    """The same for a loss that compares examples: features come with the embeddings, labels with the whole batch."""

    def embed(variables: Variables, batch: Batch, rng: jax.Array) -> tuple[Any, Variables]:
        embeddings, updates = loss.embed(_own(variables), batch, rng)
        return {"task": embeddings, ONLINE: see(variables, batch)}, updates

    def compare(variables: Variables, embeddings: Any, batch: Batch) -> tuple:
        value, metrics, *rows = loss.compare(_own(variables), embeddings["task"], batch)
        more, learned = judged(variables, jax.lax.stop_gradient(embeddings[ONLINE]), batch)
        return value, {**metrics, **more}, {"task": rows[0] if rows else None, ONLINE: learned}

    return Joint(embed, compare)


def _without(loss: Loss) -> Loss:
    """A loss that gets the variables without those of the watchers."""
    if isinstance(loss, Joint):
        embed, compare = loss.embed, loss.compare
        return Joint(lambda v, *rest: embed(_own(v), *rest), lambda v, *rest: compare(_own(v), *rest))
    return lambda variables, *rest: loss(_own(variables), *rest)


def _own(variables: Variables) -> Variables:
    return {name: collection for name, collection in variables.items() if name != ONLINE}


def _labels(batch: Batch) -> jax.Array:
    """The class of each image, int32 [b], the largest share of labels that were mixed; -1 for none."""
    labels = batch["label"]
    return labels if labels.ndim == 1 else labels.argmax(-1).astype(jnp.int32)


def _mean(values: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over the images that have a label; 0 if none has."""
    known = labels >= 0
    return jnp.where(known, values, 0).sum() / jnp.maximum(known.sum(), 1)
