"""Embeddings of texts by a model of image and text."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision.data import text
from jaxvision.data.host_ops import host_ops
from jaxvision.errors import UserError
from jaxvision.evals.columns import Column, Rows, blocks, computed
from jaxvision.evals.store import Features, Store
from jaxvision.parallel.distributed import any_process
from jaxvision.parallel.mesh import batch_axis_size
from jaxvision.specs import parse

if TYPE_CHECKING:
    from jaxvision.tasks.task import Task, Variables

BATCH = 256  # texts at a time
LAYER = "text_embedding"


class Texts(NamedTuple):
    """The tokenizer of a model and the field of its captions, from `tokenize` in the host spec.

    Attributes:
      tokenizer: Function `tokenizer(texts) -> int32 [n, length]`.
      field: Name of the field of examples that holds their captions.
    """

    tokenizer: text.Tokenizer
    field: str


def find_texts(*hosts: str | None) -> Texts | None:
    """Makes the tokenizer of the first host spec that has `tokenize`.

    Args:
      *hosts: Host specs, or None, in order of preference.

    Returns:
      The tokenizer with its field, or None if no spec has `tokenize`.

    >>> find_texts("decode", "decode|tokenize('bytes', 16)").tokenizer("a cat").shape
    (1, 16)
    """
    for host in hosts:
        for call in parse(host or ""):
            if call.name == "tokenize":
                arguments = host_ops.named(call).kwargs
                options = {key: arguments[key] for key in ("length", "path", "lower", "pad")}
                return Texts(text.make_tokenizer(arguments["tokenizer"], **options), arguments["field"])
    return None


def make_embedder(
    *, task: "Task", texts: Texts, mesh: Mesh, store: Store | None = None
) -> "Callable[[Variables, Sequence[str]], Rows]":
    """Makes the function that embeds texts.

    Args:
      task: Task whose `outputs` for a batch of only `tokens` and `tokens_mask` have "text_embedding" [b, d].
      texts: Tokenizer of the model.
      mesh: Mesh of the devices that a batch of texts is split over.
      store: Store that keeps embeddings, so that evaluations of the same variables share them; None keeps none.

    Returns:
      `run(variables, ["a cat", ...]) -> float32 [n, d]`, equal on every process, and on the devices if they are few. It
      raises UserError if there are no texts.
    """
    parts = batch_axis_size(mesh)
    latest: dict[str, Any] = {}  # the latest texts and their tokens

    @jax.jit
    def apply(variables, tokens, mask):
        return task.outputs(variables, {"tokens": tokens, "tokens_mask": mask})[LAYER].astype(np.float32)

    def compute(variables: "Variables", ids: tuple[np.ndarray, np.ndarray]) -> Rows:
        rows = -(-min(BATCH, len(ids[0])) // parts) * parts
        column = Column(len(ids[0]), mesh)
        filled = [np.pad(x, ((0, -len(x) % rows), (0, 0)), mode="edge") for x in ids]  # one shape, compiled once
        for embedded in computed(apply(variables, *some) for some in blocks(filled, rows, mesh, split=True)):
            column.add(embedded)
        return column.take(np.arange(len(ids[0])))

    def run(variables: "Variables", sentences: Sequence[str]) -> Rows:
        if not sentences:
            raise UserError("there are no texts to embed")
        if latest.get("sentences") != sentences:  # most evaluators ask for the same ones each time
            ids = texts.tokenizer.with_mask(list(sentences))
            tokens = hashlib.sha256(b"".join(x.tobytes() for x in ids)).hexdigest()
            latest.update(sentences=list(sentences), ids=ids, tokens=tokens)
        ids = latest["ids"]
        if store is None:
            return compute(variables, ids)
        key = variables, {"tokens": latest["tokens"], "shape": ids[0].shape}, LAYER
        kept = store.find(*key)
        if any_process(kept is None) or kept is None:
            values = compute(variables, ids)
            kept = Features(values, np.zeros(len(sentences), np.int32), np.arange(len(sentences)))
            store.keep(*key, kept)
        return kept.array

    return run
