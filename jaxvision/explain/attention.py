"""Attention of Vision Transformers, as maps: of the last block, rolled out over all, and what of it counts for a class.

With the texts of a model of image and text as classes, `relevance` shows which patches a text attends to.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError
from jaxvision.explain.base import Explanation, Outputs, Subject, in_batches, maps_over, score, without_classes
from jaxvision.models.attention_maps import attended
from jaxvision.registry import part

HEADS = 6  # most heads that are drawn


@functools.partial(jax.jit, static_argnums=0)
def attention(outputs: Outputs, variables: Any, images: jax.Array) -> tuple[jax.Array, ...]:
    """Computes the weights of every self-attention of a transformer.

    Args:
      outputs: Pure function of variables and images that applies a transformer of this package once.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].

    Returns:
      Weights of each block from the input on, float32 [b, heads, n, n]; rows sum to 1. Empty without attention.

    Raises:
      UserError: The blocks are scanned or computed again, so none can be looked into.
    """
    _, found = attended(lambda: outputs(variables, images))
    return tuple(found.weights.values())


def rollout(weights: Sequence[jax.Array]) -> jax.Array:
    """Multiplies the attention of all blocks, each averaged over heads and mixed with the identity for the residual.

    Source: Abnar and Zuidema 2020, arXiv 2005.00928, sec. 3: A = 0.5 W + 0.5 I, and eq. 1.

    Args:
      weights: Weights of each block from the input on, float [b, heads, n, n].

    Returns:
      float32 [b, n, n]: how much of each token at the end (row) comes from each token at the start; rows sum to 1.

    >>> rollout([jnp.eye(2)[None, None]] * 3)[0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    n = weights[0].shape[-1]
    total = jnp.eye(n)
    for of_block in weights:
        total = (0.5 * of_block.mean(axis=1) + 0.5 * jnp.eye(n)) @ total
    return jnp.broadcast_to(total, (len(weights[0]), n, n))


@functools.partial(jax.jit, static_argnums=0)
def relevance(outputs: Outputs, variables: Any, images: jax.Array, targets: jax.Array) -> jax.Array:
    """Computes how much each token counts for a class: attention times its gradient, where positive, over all blocks.

    With a text as the class of a model of image and text, this is the attention of the text to the image.

    Source: Chefer, Gur, Wolf 2021, arXiv 2103.15679, eq. 5 and 6: R = R + mean_heads((dS/dA * A)^+) R.

    Args:
      outputs: Pure function of variables and images that applies a transformer once and returns "logits" [b, k].
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b].

    Returns:
      float32 [b, n, n]: what each token at the start (column) adds to each at the end (row).

    Raises:
      UserError: The blocks are scanned or computed again, so none can be looked into.
    """

    def of(offsets: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
        out, found = attended(lambda: outputs(variables, images), offsets)
        return score(out, targets).sum(), found

    _, shapes = jax.eval_shape(of, {})
    # What an attention has mixed, before its output layer, has the shape of its values.
    zeros = {key: jnp.zeros(x.shape, jnp.float32) for key, x in shapes.values.items()}
    gradients, found = jax.grad(of, has_aux=True)(zeros)
    n = next(iter(found.weights.values())).shape[-1]
    total = jnp.broadcast_to(jnp.eye(n), (len(images), n, n))
    for key, weights in found.weights.items():
        by_weight = jnp.einsum("bqhd,bnhd->bhqn", gradients[key], found.values[key].astype(jnp.float32))
        total = total + jax.nn.relu(by_weight * weights).mean(axis=1) @ total
    return total


def patches(matrix: np.ndarray, grid: tuple[int, int], token: bool) -> np.ndarray:
    """Takes the map over the patches out of a matrix of tokens.

    Args:
      matrix: Matrix by row and column of tokens, float [b, n, n]; the patches are the last ones.
      grid: Number of patches down and across.
      token: True to take the row of the first token, the class token; False for the mean over the rows of the patches.

    Returns:
      float [b, h, w].

    >>> patches(np.arange(9.0).reshape(1, 3, 3), (1, 2), True).tolist()
    [[[1.0, 2.0]]]
    """
    count = grid[0] * grid[1]
    row = matrix[:, 0] if token else matrix[:, -count:].mean(axis=1)
    return row[:, -count:].reshape(len(matrix), *grid)


def _why_not(subject: Subject, **options: Any) -> str | None:
    like = jax.ShapeDtypeStruct((1, *subject.images.shape[1:]), jnp.float32)
    try:
        found = jax.eval_shape(lambda v, x: attention(subject.outputs, v, x), subject.variables, like)
    except UserError as error:
        return str(error)
    shapes = subject.shapes()
    if not found or len({x.shape[-1] for x in found}) > 1 or len(getattr(shapes.get("map"), "shape", ())) != 4:
        return "it is not a Vision Transformer"
    block = options.get("block", -1)
    if not -len(found) <= block < len(found):
        raise UserError(f"attention(block={block}): the model has the blocks 0 to {len(found) - 1}")
    return None


def _why_no_relevance(subject: Subject, **_: Any) -> str | None:
    return without_classes(subject) or _why_not(subject)


def _layout(subject: Subject, n: int) -> tuple[tuple[int, int], bool]:
    """The grid of the patches, and whether there is a token before them."""
    h, w = subject.shapes()["map"].shape[1:3]
    return (h, w), n > h * w


@part("explanation", "attention", maps=True, passes=2, refuses=_why_not)
def explain_attention(subject: Subject, *, block: int = -1) -> Explanation:
    """What the class token of a ViT attends to, head by head (Caron et al. 2021); without one, the patches.

    Args:
      subject: Model and images.
      block: Number of the block from 0 on; -1 for the last.
    """

    weights = in_batches(subject, lambda x, _: attention(subject.outputs, subject.variables, x)[block])  # n heads t t
    grid, token = _layout(subject, weights.shape[-1])
    heads = np.stack([patches(weights[:, i], grid, token) for i in range(weights.shape[1])], axis=1)
    shown = {"mean of the heads": heads.mean(axis=1)}
    shown |= {f"head {i}": heads[:, i] for i in range(min(heads.shape[1], HEADS))}
    who = "the class token" if token else "a patch, on average,"
    text = (
        f"How much {who} attends to each patch in block {block} (-1 is the last), and head by head (Caron et al. 2021)."
    )
    return Explanation("Attention", text, maps_over(subject, shown), heads.mean(axis=1))


@part("explanation", "rollout", maps=True, passes=2, refuses=_why_not)
def explain_rollout(subject: Subject) -> Explanation:
    """Attention multiplied over all blocks of a ViT (Abnar and Zuidema 2020).

    Args:
      subject: Model and images.
    """
    whole = in_batches(subject, lambda x, _: rollout(attention(subject.outputs, subject.variables, x)))
    maps = patches(whole, *_layout(subject, whole.shape[-1]))
    text = (
        "How much of what the network reads at its end comes from each patch, if each block passes on half of its "
        "input and half of what it attends to (Abnar and Zuidema 2020). It does not depend on the class."
    )
    return Explanation("Attention rollout", text, maps_over(subject, {"rollout": maps}), maps)


@part("explanation", "relevance", maps=True, passes=4, refuses=_why_no_relevance)
def explain_relevance(subject: Subject) -> Explanation:
    """The attention that counts for a class, or of a text to an image (Chefer et al. 2021).

    Args:
      subject: Model and images.
    """
    whole = in_batches(subject, lambda x, k: relevance(subject.outputs, subject.variables, x, k))
    grid, token = _layout(subject, whole.shape[-1])
    count = grid[0] * grid[1]
    whole[:, np.arange(whole.shape[1]), np.arange(whole.shape[1])] -= 1  # what every token is to itself
    maps = patches(whole, grid, token)
    text = (
        f"Which of the {count} patches count for the class: attention times the gradient of the logit with respect to "
        "it, where positive, over all blocks (Chefer et al. 2021). With words as classes (`--labels`), it is what a "
        "text attends to in the image."
    )
    return Explanation("Relevance", text, maps_over(subject, {"relevance": maps}), maps)
