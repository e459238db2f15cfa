"""A classifier of several parts of an image, seen apart by one trunk and then side by side."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import linear_head
from jaxvision.models.layers import batch_norm


class SideBySide(nn.Module):
    """Features of the parts [B, N, D] and questions int32 [B, Q, P] -> a vector for each question [B, Q, hidden].

    Fully connected layers with BatchNorm and ReLU: one over each part by itself, where `part_dim` is given, and one
    over all parts of a question, where `hidden` is; without it the vector has P D or P part_dim numbers.
    """

    part_dim: int | None
    hidden: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, features: jax.Array, questions: jax.Array, train: bool) -> jax.Array:
        if self.part_dim is not None:
            features = self._layer("part", self.part_dim, features, train)  # b n d
        x = jax.vmap(lambda f, q: f[q])(features, questions)  # b q p d
        x = x.reshape(*x.shape[:2], -1)
        return x if self.hidden is None else self._layer("hidden", self.hidden, x, train)

    def _layer(self, name: str, width: int, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Dense(width, use_bias=False, dtype=self.dtype, name=f"{name}_dense")(x)
        return nn.relu(batch_norm(f"{name}_norm", train, self.dtype)(x))


class PartsClassifier(nn.Module):
    """One trunk over all parts of an image, and a classifier of some of them side by side.

    The variables are those of the trunk, and beside them `projection`, the layers over several parts, and `head`.

    Attributes:
      trunk: `images -> (features [B, D], out)`, without a head.
      num_classes: K.
      part_dim: width of a layer over each part, or None for the features of the trunk.
      hidden: width of a layer over the parts of a question, or None.

    Called with parts, float [B, N, h, w, 3], and questions, int32 [B, Q, P], which of the N parts stand side by side,
    it returns logits float32 [B, Q, K]. Each part goes through the trunk once.
    """

    trunk: nn.Module
    num_classes: int
    part_dim: int | None = None
    hidden: int | None = None

    def setup(self) -> None:
        nn.share_scope(self, self.trunk)

    @nn.compact
    def __call__(self, parts: jax.Array, questions: jax.Array, train: bool = False) -> jax.Array:
        b, n = parts.shape[:2]
        features, _ = self.trunk(parts.reshape(b * n, *parts.shape[2:]), train)
        beside = SideBySide(self.part_dim, self.hidden, self.trunk.dtype, name="projection")
        x = beside(features.reshape(b, n, -1), questions, train)
        return linear_head(self.num_classes, self.trunk.head_init, self.trunk.head_bias)(x.astype(jnp.float32))
