"""Operations on the token ids of captions, beside those on images."""

import jax
import jax.numpy as jnp

from jaxvision.augment.operations import Operation
from jaxvision.augment.registry import ops
from jaxvision.errors import UserError, unknown

CHOICES = ("random", "first")


@ops.register(evaluation=lambda which="random": "pick_caption('first')")
def pick_caption(which: str = "random"):
    """Keeps one of several captions of each image: `tokens` [B, C, L] becomes [B, L], `tokens_mask` likewise.

    For host operations that keep them all, `tokenize(..., caption='all', captions=C)`, so that a set whose captions
    are drawn at random can lie in memory. In evaluation the first is taken.

    Args:
      which: "random", uniformly among the captions that are there, or "first", with which a batch may also hold images
        alone.
    """
    if which not in CHOICES:
        raise unknown("augmentation pick_caption: choice of caption", which, CHOICES)

    def op(rng, batch):
        if which == "first" and "tokens" not in batch:
            return batch
        tokens, mask = _tokens("pick_caption", batch)
        if tokens.ndim != 3:
            raise UserError(
                "augmentation pick_caption: there is one caption of each image; keep several in the host spec, as in "
                "tokenize('bytes', caption='all', captions=5)"
            )
        count = mask.any(axis=2).sum(axis=1)  # rows of padding come last
        chosen = jnp.zeros_like(count) if which == "first" else jax.random.randint(rng, count.shape, 0, count)
        pick = lambda x: jnp.take_along_axis(x, chosen[:, None, None], axis=1)[:, 0]
        return {**batch, "tokens": pick(tokens), "tokens_mask": pick(mask)}

    def bind(call, scene):
        several = {name: scene.fields[name] for name in ("tokens", "tokens_mask") if name in scene.fields}
        return op, scene.with_fields({name: field._replace(shape=field.shape[1:]) for name, field in several.items()})

    return Operation(bind)


@ops.register(evaluation="")
def shuffle_captions():
    """Gives each image of the batch the caption of another, drawn anew in every step: a control that can learn nothing.

    Whatever a model trained so tells of images and texts together, it does not have from pairs.
    """

    def op(rng, batch):
        tokens, mask = _tokens("shuffle_captions", batch)
        order = jax.random.permutation(rng, len(tokens))
        return {**batch, "tokens": tokens[order], "tokens_mask": mask[order]}

    return Operation(lambda call, scene: (op, scene))


def _tokens(op: str, batch: dict) -> tuple[jax.Array, jax.Array]:
    if not {"tokens", "tokens_mask"} <= batch.keys():
        raise UserError(f"augmentation {op} needs data.fields with 'tokens' and 'tokens_mask'")
    return batch["tokens"], batch["tokens_mask"]
