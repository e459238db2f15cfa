"""A classifier of several pieces of an image: one trunk sees each piece by itself, a head sees them side by side."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import linear_head
from jaxvision.models.layers import batch_norm


class SideBySide(nn.Module):
    """Features of the pieces [b, n, d] and questions int32 [b, q, p] -> a vector for each question [b, q, hidden].

    The layers are fully connected, with BatchNorm and ReLU. Each may be left out.

    Attributes:
      part_dim: Width of a layer over each piece by itself; None for no such layer.
      hidden: Width of a layer over the p pieces of a question, joined. None for no such layer: then the vector has
        p * d or p * part_dim numbers.
      dtype: Type of the computation, float32 or bfloat16.
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


class PiecesClassifier(nn.Module):
    """One trunk over all pieces of an image, and a classifier of some of them side by side.

    The variables are the trunk's own and, next to them, `projection`, the layers over several pieces, and `head`.

    Applied to n pieces of each image, float [b, n, h, w, 3], and q questions, int32 [b, q, p], it returns logits,
    float32 [b, q, k]. A question is the indices of p pieces that stand side by side. Each piece goes through the trunk
    once, even if it is in several questions.

    Attributes:
      trunk: Model `images -> (features [b, d], out)`, without a head.
      num_classes: Number k of classes.
      part_dim: Width of a layer over each piece, or None for the features of the trunk.
      hidden: Width of a layer over the pieces of a question, or None for no such layer.
    """

    trunk: nn.Module
    num_classes: int
    part_dim: int | None = None
    hidden: int | None = None

    def setup(self) -> None:
        nn.share_scope(self, self.trunk)

    @nn.compact
    def __call__(self, pieces: jax.Array, questions: jax.Array, train: bool = False) -> jax.Array:
        b, n = pieces.shape[:2]
        features, _ = self.trunk(pieces.reshape(b * n, *pieces.shape[2:]), train)
        side_by_side = SideBySide(self.part_dim, self.hidden, self.trunk.dtype, name="projection")
        x = side_by_side(features.reshape(b, n, -1), questions, train)
        return linear_head(self.num_classes, self.trunk.head_init, self.trunk.head_bias)(x.astype(jnp.float32))
