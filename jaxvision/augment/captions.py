"""Operations on the token ids of captions."""

import jax
import jax.numpy as jnp

from jaxvision.augment.operations import Operation
from jaxvision.augment.registry import ops
from jaxvision.errors import UserError, unknown

CHOICES = ("random", "first")


@ops.register(evaluation=lambda which="random": "pick_caption('first')")
def pick_caption(which: str = "random") -> Operation:
    """Keeps one of several captions of each image: `tokens` [b, t, n] and `tokens_mask` become [b, n].

    It follows a host operation that keeps all captions, `tokenize(..., caption='all', captions=T)`, so that a set can
    stay in memory although its captions are drawn at random. Evaluation takes the first caption.

    Args:
      which: Choice of the caption, "random" to draw uniformly among those that an image has, or "first". With "first" a
        batch may have images only.

    Raises:
      UserError: If `which` is neither. When called, if a batch has no tokens, or one caption for each image only.
    """
    if which not in CHOICES:
        raise unknown("augmentation pick_caption: choice of caption", which, CHOICES)

    def op(rng, batch):
        if which == "first" and "tokens" not in batch:
            return batch
        tokens, mask = _tokens("pick_caption", batch)
        if tokens.ndim != 3:
            raise UserError(
                "augmentation pick_caption: there is only one caption for each image: keep several in the host spec, "
                "as in tokenize('bytes', caption='all', captions=5)"
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
def shuffle_captions() -> Operation:
    """Gives each image of the batch the caption of another, in a random order in every step.

    This is a control experiment: a model that is trained like this has learned nothing from pairs.
    """

    def op(rng, batch):
        tokens, mask = _tokens("shuffle_captions", batch)
        order = jax.random.permutation(rng, len(tokens))
        return {**batch, "tokens": tokens[order], "tokens_mask": mask[order]}

    return Operation(lambda call, scene: (op, scene))


def _tokens(op: str, batch: dict) -> tuple[jax.Array, jax.Array]:
    if not {"tokens", "tokens_mask"} <= batch.keys():
        raise UserError(f"augmentation {op} needs tokens: add 'tokens' and 'tokens_mask' to data.fields")
    return batch["tokens"], batch["tokens_mask"]
