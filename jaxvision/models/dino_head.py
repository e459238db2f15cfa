"""The head of DINO: an MLP to a short vector of length 1, and its scores with many prototypes."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import Images, over_sizes
from jaxvision.models.transformer import GELUS


class DinoHead(nn.Module):
    """Fully connected layers with GELU, scaled to length 1, then a linear layer with columns of fixed length.

    Caron et al. 2021, arXiv 2104.14294, sec. 3.1 and app. C, "Projection head": features [b, d] -> bottleneck [b, e]
    (`embed`) -> scores of prototypes [b, k] (`score`). The two are apart because scores are linear in the bottleneck:
    what is kept for the examples of a batch is the bottleneck, hundreds of times smaller.

    Attributes:
      prototypes: Number k of prototypes.
      layers: Number of fully connected layers before the prototypes, at least 1.
      hidden: Number of units of all but the last of them.
      bottleneck: Dimension e of the last of them.
      fixed_norm: True for prototypes of length 1 (`norm_last_layer` in the authors' code); False to learn their
        lengths, `last_layer/scale`, from 1 on.
      dtype: Type of the computation of the MLP, float32 or bfloat16; the rest is float32.
    """

    prototypes: int
    layers: int = 3
    hidden: int = 2048
    bottleneck: int = 256
    fixed_norm: bool = True
    dtype: jnp.dtype = jnp.float32

    def setup(self) -> None:
        widths = [self.hidden] * (self.layers - 1) + [self.bottleneck]
        init = nn.initializers.truncated_normal(0.02)
        self.dense = [nn.Dense(width, kernel_init=init, dtype=self.dtype) for width in widths]
        self.last_layer = Prototypes(self.prototypes, self.fixed_norm)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Maps features [..., d] to the scores, float32 [..., k]."""
        return self.score(self.embed(features))

    def embed(self, features: jax.Array) -> jax.Array:
        """Maps features [..., d] to the bottleneck, float32 [..., e] of length 1."""
        x = features
        for dense in self.dense[:-1]:
            x = GELUS["exact"](dense(x))
        x = self.dense[-1](x).astype(jnp.float32)
        # Longer than 0, so that the gradient of a bottleneck of zeros is finite; torch's `normalize` does the same.
        return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))

    def score(self, bottleneck: jax.Array) -> jax.Array:
        """Maps bottlenecks [..., e] to the scores, float32 [..., k].

        Args:
          bottleneck: Results of `embed`, float32 [..., e].
        """
        return self.last_layer(bottleneck)


class Prototypes(nn.Module):
    """A linear layer without bias whose columns have a length of their own (Salimans and Kingma 2016, eq. 2).

    Attributes:
      count: Number k of columns.
      fixed_norm: True for columns of length 1; False to learn their lengths, "scale", from 1 on.
    """

    count: int
    fixed_norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x, float32 [..., e], to float32 [..., k]."""
        init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's default of a linear layer
        kernel = self.param("kernel", init, (x.shape[-1], self.count))
        columns = kernel * jax.lax.rsqrt(jnp.square(kernel).sum(0, keepdims=True))
        if not self.fixed_norm:
            columns = columns * self.param("scale", nn.initializers.ones, (self.count,))
        # In full float32: temperatures divide by 0.04, and would magnify the error of fewer bits.
        return jnp.matmul(x, columns, precision=jax.lax.Precision.HIGHEST)


class DinoNetwork(nn.Module):
    """A model without a classifier, and the head of DINO on its features, and of iBOT on tokens of patches.

    The variables are the model's own and, next to them, `projection` and `patch_projection`. So each can be loaded
    without the others.

    Attributes:
      backbone: Model `images -> (features [b, d], out)`, without a head; a ViT if patches are masked.
      projection: Head on the features.
      patch_projection: Head on the tokens of patches; None for the same as on the features.

    Returns:
      (features, out) of the backbone, see `heads.over_sizes` for images of several sizes. `out` also has "projection",
      the head's bottleneck for all features, float32 [b, e], and with `picked` "patches", that for the picked tokens of
      the images of the first size, [b, m, e].
    """

    backbone: nn.Module
    projection: DinoHead
    patch_projection: DinoHead | None = None

    def setup(self) -> None:
        nn.share_scope(self, self.backbone)

    def __call__(
        self,
        images: Images,
        masked: jax.Array | None = None,
        picked: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, dict]:
        """Maps images to the features and the outputs by name.

        Args:
          images: Images [b, height, width, 3], or those of several sizes.
          masked: Patches of the images of the first size that a token replaces, bool [b, n]; None for no such token.
          picked: Patches of these images whose tokens go through a head, int32 [b, m]; None for none.
          train: True in training.
        """
        first = images[0] if isinstance(images, tuple) else images

        def trunk(some: jax.Array, train: bool) -> tuple[jax.Array, dict]:
            hidden = {} if masked is None or some is not first else {"masked": masked}
            return self.backbone(some, train, **hidden)

        features, out = over_sizes(trunk, images, train)
        out = out | {"projection": self.projection.embed(features)}
        if picked is not None:
            tokens = jnp.take_along_axis(out["tokens"], picked[..., None], axis=1)
            out["patches"] = self._of_patches().embed(tokens)
        if self.is_initializing():  # the last layers, which are not called otherwise
            self.score(out["projection"])
            if picked is not None:
                self.score_patches(out["patches"])
        return features, out

    def score(self, bottleneck: jax.Array) -> jax.Array:
        """Maps bottlenecks of features [..., e] to the scores of prototypes, float32 [..., k].

        Args:
          bottleneck: Results of the head, float32 [..., e].
        """
        return self.projection.score(bottleneck)

    def score_patches(self, bottleneck: jax.Array) -> jax.Array:
        """Maps bottlenecks of patches [..., e] to the scores of prototypes, float32 [..., k].

        Args:
          bottleneck: Results of the head, float32 [..., e].
        """
        return self._of_patches().score(bottleneck)

    def _of_patches(self) -> DinoHead:
        return self.projection if self.patch_projection is None else self.patch_projection
