"""What a model of image and text makes of texts."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision.data import text
from jaxvision.data.host_ops import host_ops
from jaxvision.errors import UserError
from jaxvision.evals.store import Features, Store, digest
from jaxvision.parallel.distributed import any_process, gather
from jaxvision.parallel.gate import tick
from jaxvision.parallel.mesh import batch_axis_size, split_rows
from jaxvision.specs import parse

BATCH = 256  # texts at a time
LAYER = "text_embedding"


class Texts(NamedTuple):
    """How a model is given texts, as the `tokenize` of its host spec says.

    Attributes:
      tokenizer: `tokenizer(texts) -> int32 [n, length]`.
      field: of examples, where their captions are.
    """

    tokenizer: text.Tokenizer
    field: str


def find_texts(*hosts: str | None) -> Texts | None:
    """From the first of the host specs that has `tokenize`; None where none has.

    >>> find_texts("decode", "decode|tokenize('bytes', 16)").tokenizer("a cat").shape
    (1, 16)
    """
    for host in hosts:
        for call in parse(host or ""):
            if call.name == "tokenize":
                given = host_ops.named(call).kwargs
                made = {key: given[key] for key in ("length", "path", "lower", "pad")}
                return Texts(text.make_tokenizer(given["tokenizer"], **made), given["field"])
    return None


def make_embedder(
    *, task: Any, texts: Texts, mesh: Mesh, store: Store | None = None
) -> Callable[[Any, Sequence[str]], np.ndarray]:
    """Prepares the embedding of texts for any variables.

    Args:
      task: its `outputs` of a batch of `tokens` and `tokens_mask` alone must have "text_embedding" [B, D].
      texts: how they become tokens.
      mesh: over which a batch of texts is split.
      store: where embeddings are kept, so that evaluations of the same variables share them.

    Returns:
      `run(variables, ["a cat", ...]) -> float32 [n, D]`, whole and equal on every process.
    """
    parts = batch_axis_size(mesh)

    @jax.jit
    def apply(variables, tokens, mask):
        return task.outputs(variables, {"tokens": tokens, "tokens_mask": mask})[LAYER].astype(np.float32)

    def compute(variables: Any, ids: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        rows = -(-min(BATCH, len(ids[0])) // parts) * parts
        found = []
        for start in range(0, len(ids[0]), rows):
            tick()
            some = [x[start : start + rows] for x in ids]
            filled = [np.pad(x, ((0, rows - len(x)), (0, 0)), mode="edge") for x in some]  # one shape, compiled once
            found.append(gather(apply(variables, *split_rows(filled, mesh)))[: len(some[0])])
        return np.concatenate(found)

    def run(variables: Any, of: Sequence[str]) -> np.ndarray:
        if not of:
            raise UserError("there are no texts to embed")
        ids = texts.tokenizer.with_mask(list(of))
        if store is None:
            return compute(variables, ids)
        tokens = hashlib.sha256(b"".join(x.tobytes() for x in ids)).hexdigest()
        key = digest(variables), {"tokens": tokens, "shape": ids[0].shape}, LAYER
        kept = store.find(*key)
        if any_process(kept is None):
            values = compute(variables, ids)
            kept = Features(values, np.zeros(len(of), np.int32), np.arange(len(of)))
            store.keep(*key, kept)
        return kept.values

    return run
