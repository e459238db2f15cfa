"""Nearest neighbours: the training images that are most similar to an image, or closest to it, vote for its label."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError, unknown
from jaxvision.evals import features
from jaxvision.evals.classify import rank
from jaxvision.evals.columns import Rows, blocks, computed, place
from jaxvision.evals.dataset import EvalSet
from jaxvision.losses.pairs import unit
from jaxvision.parallel.collectives import against_rows
from jaxvision.parallel.distributed import gather
from jaxvision.parallel.mesh import batch_axis_size, batch_sharding
from jaxvision.registry import part

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables

QUERIES = 1024  # images that are judged at a time
TOPK = (1, 5)
TEMPERATURE = 0.07  # of cosines
DISTANCES = ("cosine", "l1", "l2")


@part("evaluator", "knn", small={"k": (5,)})
def make_knn(
    *,
    task: "Task",
    data: EvalSet,
    train: EvalSet,
    k: tuple[int, ...] = (20, 200),
    temperature: float | None = None,
    layer: str = "features",
    chunk: int = 8192,
    distance: str = "cosine",
) -> "Callable[[Variables], dict[str, float]]":
    """Makes the evaluator of a vote by nearest neighbours. Nothing is learned, and little can be tuned.

    Wu et al. 2018, sec. 3.4: each of the k training images with the largest cosine s votes for its class, with the
    weight exp(s / temperature). The paper uses k = 200 and 0.07; Caron et al. 2021 (DINO), sec. 3.2, find k = 20 best
    for most runs.

    Cover & Hart 1967: with `distance="l2"` or "l1", each of the k closest images has one vote. k = 1 and the model
    `identity` make the classifier on raw pixels that textbooks begin with.

    The n training features are spread over the devices. Each device searches its own, `chunk` at a time, so memory is
    n d / devices for the features and 1,024 x chunk for the similarities.

    Args:
      task: Task whose `outputs` have `layer`.
      data: Split to evaluate.
      train: Split of the neighbours, `train_split` in a config. It must not have images of `data`, since an image is
        its own nearest neighbour.
      k: Numbers of neighbours.
      temperature: Temperature of the weights of cosines, above 0; None for 0.07.
      layer: Name of the layer, an output of the model such as "features" or "stages/1"; maps are averaged.
      chunk: Number of training images that a device compares at a time; it changes nothing else.
      distance: Measure of nearness: "cosine"; "l2", the Euclidean distance; or "l1", the sum of absolute differences,
        which takes as many operations, but is no product of matrices and so is slower.

    Returns:
      `run(variables) -> {"knn20_t0.07/top1": ..., "knn20_t0.07/top5": ..., "examples": n}`: accuracies in [0, 1] for
      each k, `top5` for six classes or more. With the other distances the names are "knn20_l2/top1". A class without a
      neighbour is never right. Ties are broken by order: of training images that are equally near, such as copies, the
      earlier in the set is nearer; of classes with equal votes the first counts.

    Raises:
      UserError: If a set has no classes, the sets have different classes, k is larger than the number of training
        images, or an option is out of range.
    """
    num_classes = features.check_sets("knn", data, train)
    for name, values in (("k", k), ("chunk", (chunk,))):
        if not values or any(not isinstance(value, int) or value < 1 for value in values):
            raise UserError(f"{name} must be whole numbers of at least 1, not {values!r}")
    if max(k) > len(train.source):
        raise UserError(f"k is {max(k)}, but {train.info.name} {train.info.split} has {len(train.source)} images")
    if distance not in DISTANCES:
        raise unknown("distance of knn", distance, DISTANCES)
    if temperature is not None and distance != "cosine":
        raise UserError(f"temperature weighs cosines, and with distance={distance!r} each neighbour has one vote")
    if temperature is not None and not temperature > 0:
        raise UserError(f"temperature must be positive, not {temperature!r}")
    degrees = None if distance != "cosine" else TEMPERATURE if temperature is None else temperature
    of_train = features.make_features(task=task, data=train, layer=layer)
    of_data = features.make_features(task=task, data=data, layer=layer)
    topk = [n for n in TOPK if n < num_classes or n == 1]

    @jax.jit
    def judge(queries, labels, bank, bank_labels):
        similarities, votes = nearest(queries, bank, bank_labels, max(k), chunk, data.mesh, distance)
        ranks = []
        for n in k:
            scores = vote(similarities[:, :n], votes[:, :n], num_classes, degrees)
            voted = jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0] > 0
            ranks.append(jnp.where(voted, rank(scores, labels), num_classes))
        return jnp.stack(ranks)  # k b

    def run(variables: "Variables") -> dict[str, float]:
        learned, judged = of_train(variables), of_data(variables)
        bank = _spread(learned.array, learned.labels, chunk, data.mesh)
        queries = blocks((judged.array, judged.labels), QUERIES, data.mesh)
        ranks_of_rows = [gather(ranks) for ranks in computed(judge(*some, *bank) for some in queries)]
        ranks = np.concatenate(ranks_of_rows, axis=1)[:, : len(judged.labels)]
        suffix = distance if degrees is None else f"t{degrees:g}"
        names = [features.protocol_name(f"knn{n}_{suffix}", layer) for n in k]
        metrics = {f"{name}/top{n}": float(np.mean(row < n)) for name, row in zip(names, ranks) for n in topk}
        return metrics | {"examples": float(len(judged.labels))}

    return run


def nearest(
    queries: jax.Array,
    bank: jax.Array,
    labels: jax.Array,
    k: int,
    chunk: int,
    mesh: jax.sharding.Mesh,
    distance: str = "cosine",
) -> tuple[jax.Array, jax.Array]:
    """Finds the k rows of a bank that are nearest to each query.

    Args:
      queries: Queries, float [q, d].
      bank: Bank, float [n, d], split over the devices of the mesh. Each device has a multiple of `chunk` rows, or less
        than `chunk`.
      labels: Labels of the rows, int32 [n], split in the same way; -1 marks rows that only fill up the bank.
      k: Number of neighbours, at most the number of rows that are not marked.
      chunk: Number of rows that a device compares at a time.
      mesh: Mesh of the devices.
      distance: Measure of nearness, one of `DISTANCES`.

    Returns:
      (similarities float32 [q, k] in falling order, labels int32 [q, k]). Of equal similarities the earlier row comes
      first.
    """

    def search(queries, bank, labels):
        n = min(chunk, len(bank))
        chunks = bank.reshape(-1, n, bank.shape[1]), labels.reshape(-1, n)

        def look(best, chunk):
            rows, row_labels = chunk
            s = jnp.where(row_labels >= 0, similarity(queries, rows, distance), -jnp.inf)  # q n
            candidates = jnp.broadcast_to(row_labels, s.shape)
            return _largest(*(jnp.concatenate(pair, axis=1) for pair in zip(best, (s, candidates))), k), None

        nothing = jnp.full((len(queries), k), -jnp.inf), jnp.full((len(queries), k), -1, jnp.int32)
        return jax.lax.scan(look, nothing, chunks)[0]

    return _largest(*against_rows(search, mesh)(queries, bank, labels), k)


def similarity(queries: jax.Array, rows: jax.Array, distance: str) -> jax.Array:
    """Compares each query with each row: the cosine, or minus the distance.

    Args:
      queries: Queries, float [q, d].
      rows: Rows, float [n, d].
      distance: "cosine", "l1" or "l2". The last is sqrt(|x|^2 + |y|^2 - 2 x y), a product of matrices, so its square
        has a rounding error of some 1e-7 (|x|^2 + |y|^2).

    Returns:
      float32 [q, n].

    >>> similarity(jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 0.0], [3.0, 3.0]]), "l1").tolist()
    [[-7.0, -1.0]]
    """
    if distance == "l1":
        # One query at a time, so that no array [q, n, d] is made.
        return jax.lax.map(lambda query: -jnp.abs(rows - query).sum(-1), queries)
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    if distance == "cosine":
        return product(unit(queries), unit(rows).T)
    squares = jnp.square(queries).sum(-1)[:, None] + jnp.square(rows).sum(-1) - 2 * product(queries, rows.T)
    return -jnp.sqrt(jnp.where(squares < 0, 0, squares))  # `maximum` would lose a NaN on a CPU


def vote(similarities: jax.Array, labels: jax.Array, num_classes: int, temperature: float | None) -> jax.Array:
    """Sums exp(s / temperature) over the neighbours of each class, divided by the largest weight; or counts them.

    Wu et al. 2018, sec. 3.4.

    Args:
      similarities: Cosines of the neighbours, float [q, k] in falling order; or other similarities.
      labels: Labels of the neighbours, int [q, k].
      num_classes: Number of classes.
      temperature: Temperature of the weights, above 0; None for one vote each, if the similarity is finite.

    Returns:
      float32 [q, num_classes].

    >>> votes = vote(jnp.array([[1.0, 0.9, 0.9]]), jnp.array([[2, 0, 0]]), 3, temperature=0.1)
    >>> [f"{x:.3f}" for x in votes[0]]
    ['0.736', '0.000', '1.000']
    """
    if temperature is None:
        weights = jnp.where(jnp.isfinite(similarities), 1.0, 0.0)
    else:
        weights = jnp.exp((similarities - similarities[:, :1]) / temperature)
    rows = jnp.arange(len(labels))[:, None]
    return jnp.zeros((len(labels), num_classes)).at[rows, labels].add(weights)


@partial(jax.jit, static_argnames="k")
def _largest(similarities: jax.Array, labels: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    best, at = jax.lax.top_k(similarities, k)
    return best, jnp.take_along_axis(labels, at, axis=1)


def _spread(values: Rows, labels: np.ndarray, chunk: int, mesh: jax.sharding.Mesh) -> list[jax.Array]:
    """The bank of `nearest` on the devices, filled up so that each has whole chunks."""
    parts = batch_axis_size(mesh)
    each = -(-len(values) // parts)
    if each > chunk:
        each = -(-each // chunk) * chunk
    marked = np.pad(labels, (0, parts * each - len(labels)), constant_values=-1)
    return [place(rows, 0, parts * each, batch_sharding(mesh)) for rows in (values, marked)]
