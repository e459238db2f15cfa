"""A queue of rows from earlier batches, such as the negatives of MoCo or the prototypes' features of SwAV.

It is a collection of a task's variables that `Task.after` replaces, once an optimizer step. So checkpoints hold it, a
resumed run goes on with it, and the order of its rows is that of the whole batch on any number of devices.
"""

from typing import TypedDict

import jax
import jax.numpy as jnp


class Queue(TypedDict):
    """A queue of fixed length.

    Attributes:
      rows: Rows, float32 [n, d], or [n] of integers; the oldest are overwritten first.
      seen: Number of rows that were pushed so far, int32 []. Rows from `seen` on, if it is below n, are not from data.
    """

    rows: jax.Array
    seen: jax.Array


def make_queue(rows: jax.Array) -> Queue:
    """Makes a queue that begins with these rows, none of which is from data.

    Args:
      rows: Initial rows, float [n, d]: random directions for MoCo, zeros where unfilled rows are masked. Integers [n],
        such as labels, stay integers.
    """
    real = jnp.issubdtype(rows.dtype, jnp.inexact)
    return {"rows": rows.astype(jnp.float32) if real else rows, "seen": jnp.zeros((), jnp.int32)}


def filled(queue: Queue) -> jax.Array:
    """Tells which rows are from data, bool [n].

    Args:
      queue: Queue.
    """
    return jnp.arange(len(queue["rows"])) < queue["seen"]


def push(queue: Queue, rows: jax.Array) -> Queue:
    """Overwrites the oldest rows with new ones. If there are more new rows than the queue holds, the last ones stay.

    Args:
      queue: Queue of n rows.
      rows: New rows, [b, d] or [b], in the order of the batch.

    >>> queue = make_queue(jnp.zeros((3, 1)))
    >>> for batch in ([[1.0], [2.0]], [[3.0], [4.0]]):
    ...     queue = push(queue, jnp.array(batch))
    >>> queue["rows"].ravel().tolist(), int(queue["seen"])
    ([4.0, 2.0, 3.0], 4)
    """
    n, b = len(queue["rows"]), len(rows)
    kept = rows[max(0, b - n) :]
    # The number of rows is kept modulo n once the queue is full, so that it never overflows.
    start = queue["seen"] + b - len(kept)
    places = (start + jnp.arange(len(kept))) % n
    total = queue["seen"] + b
    return {
        "rows": queue["rows"].at[places].set(kept.astype(queue["rows"].dtype)),
        "seen": jnp.where(total < n, total, n + total % n),
    }


def nearest(queue: Queue, vectors: jax.Array) -> jax.Array:
    """Returns, for each vector, the row of the queue with the largest inner product, which takes no gradient.

    For a queue of rows of length 1 it is the row with the smallest angle, and with the smallest distance (Dwibedi et
    al. 2021, NNCLR, eq. 4).

    Args:
      queue: Queue of n rows.
      vectors: Vectors, float [..., d].

    Returns:
      float32 [..., d].

    >>> queue = make_queue(jnp.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> nearest(queue, jnp.array([[0.6, 0.8], [2.0, 0.5]])).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    rows = jax.lax.stop_gradient(queue["rows"])
    similarity = jnp.matmul(vectors.astype(jnp.float32), rows.T, precision=jax.lax.Precision.HIGHEST)  # ... n
    return rows[similarity.argmax(-1)]
