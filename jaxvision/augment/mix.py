"""Mixing pairs of images and their labels: mixup and cutmix.

Each image is mixed with the one before it in the batch. Batches come shuffled, so this is as random
as a permutation drawn anew, an image never meets itself (in a batch of two or more), and on several
devices only one image crosses from a device to the next (tests/augment/test_augment_sharded.py).
Several views of an example are mixed with the same views of the example before, all by the same weights.
"""

import jax
import jax.numpy as jnp

from jaxvision.augment.erase import box_mask
from jaxvision.augment.registry import number, ops
from jaxvision.traced import known

# Operations that mix labels as well: `augment.make` gives them labels as float32 [B, K].
MIXING = frozenset({"mixup", "cutmix", "mixup_or_cutmix"})


@ops.register(evaluation="")
def mixup(alpha: float, per_example: bool = False):
    """Blends pairs of images and of labels: `lam * x_i + (1 - lam) * x_j` with lam ~ Beta(alpha, alpha).

    Zhang et al. 2018, eq. 1. `alpha=0` mixes nothing.

    Args:
      alpha: at least 0.
      per_example: draw `lam` for every image; the default, once for the batch, is the paper's code.
    """
    number("mixup", "alpha", alpha)

    def op(rng, batch):
        lam = _beta(rng, alpha, len(batch["image"]) if per_example else 1)
        return _mix(batch, lam[:, None, None, None], lam)

    return op


@ops.register(evaluation="")
def cutmix(alpha: float, per_example: bool = False):
    """Pastes a box of one image into another and mixes labels by the share of pixels (Yun et al. 2019, alg. 1).

    With lam ~ Beta(alpha, alpha) the box has the image's shape and 1 - lam of its area; its centre is
    uniform over the image and what lies outside is cut off. `alpha=0` mixes nothing.

    Args:
      alpha: at least 0.
      per_example: draw a box for every image; the default, once for the batch, is the paper's code.
    """
    number("cutmix", "alpha", alpha)

    def op(rng, batch):
        lam_key, box_key = jax.random.split(rng)
        lam = _beta(lam_key, alpha, len(batch["image"]) if per_example else 1)
        return _mix(batch, *_cutmix_weights(box_key, lam, batch["image"].shape[-3:-1]))

    return op


@ops.register(evaluation="")
def mixup_or_cutmix(mixup_alpha: float = 0.8, cutmix_alpha: float = 1.0, switch: float = 0.5):
    """Takes cutmix with probability `switch` and mixup otherwise, once for the whole batch.

    The recipe of DeiT (Touvron et al. 2021, table 9) and of timm's `Mixup(mode="batch")`, whose
    defaults these are; timm pairs images with the reversed batch instead of the image before.
    """
    number("mixup_or_cutmix", "mixup_alpha", mixup_alpha)
    number("mixup_or_cutmix", "cutmix_alpha", cutmix_alpha)
    number("mixup_or_cutmix", "switch", switch, high=1)
    blend, paste = mixup(mixup_alpha), cutmix(cutmix_alpha)

    def op(rng, batch):
        switch_key, op_key = jax.random.split(rng)
        return jax.lax.cond(jax.random.bernoulli(switch_key, switch), paste, blend, op_key, batch)

    return op


def _beta(rng, alpha: float, n: int):
    """Draws n values of Beta(alpha, alpha), ones where alpha is 0."""
    if known(alpha):
        return jax.random.beta(rng, alpha, alpha, (n,)) if alpha else jnp.ones(n)
    positive = jnp.where(alpha > 0, alpha, 1.0)
    return jnp.where(alpha > 0, jax.random.beta(rng, positive, positive, (n,)), 1.0)


def _cutmix_weights(rng, lam, sides: tuple[int, int]):
    cut = jnp.sqrt(1 - lam)
    height, width = (cut * sides[0]).astype(int), (cut * sides[1]).astype(int)
    keys = jax.random.split(rng, len(lam))
    keep = ~jax.vmap(box_mask, in_axes=(0, None, 0, 0))(keys, sides, height, width)  # n h w
    return keep[..., None], keep.mean(axis=(1, 2))


def _mix(batch, weight, share):
    """Mixes images by `weight` [B or 1, H or 1, W or 1, 1] and labels by `share` [B or 1], the part of the first."""

    def mix(first, weight):
        return weight * first + (1 - weight) * jnp.roll(first, 1, axis=0)

    views = (1,) * (batch["image"].ndim - weight.ndim)
    weight = weight.reshape(len(weight), *views, *weight.shape[1:])
    return {**batch, "image": mix(batch["image"], weight), "label": mix(batch["label"], share[:, None])}
