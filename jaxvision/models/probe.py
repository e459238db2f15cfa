"""A classifier on one layer of a network: what the layer knows, as a network of a given size can read it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision import paths
from jaxvision.errors import UserError
from jaxvision.models.heads import linear_head
from jaxvision.models.layers import batch_norm
from jaxvision.models.nin import Stage

HIDDEN = {"linear": 0, "mlp": 200, "conv": 192}  # units or channels of Gidaris et al. 2018, sec. 3.1, by kind


class Classifier(nn.Module):
    """Reads one layer, [B, D], [B, N, D] or [B, h, w, D] -> float32 logits [B, K].

    Attributes:
      kind: "linear": on the layer averaged over its places. "mlp": the whole layer flattened, then two layers of
        `hidden` units with BatchNorm and ReLU. "conv": a stage of NIN with `hidden` channels (3x3, 1x1, 1x1),
        averaged over its places.
      num_classes: K.
      hidden: see `kind`.
    """

    kind: str
    num_classes: int
    hidden: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if self.kind == "mlp":
            x = x.reshape(x.shape[0], -1)
            for i in (1, 2):
                x = nn.Dense(self.hidden, use_bias=False, dtype=self.dtype, name=f"dense{i}")(x)
                x = nn.relu(batch_norm(f"norm{i}", train, self.dtype)(x))
            x = x.astype(jnp.float32)
        else:
            if self.kind == "conv":
                if x.ndim != 4:
                    raise UserError(f"a classifier 'conv' reads a map [B, h, w, D], not a layer of shape {x.shape}")
                x = Stage(3, (self.hidden,) * 3, self.dtype, name="stage")(x, train)
            x = x.astype(jnp.float32).mean(axis=tuple(range(1, x.ndim - 1)))
        return linear_head(self.num_classes, "normal", name="logits")(x)


class Probed(nn.Module):
    """A backbone, and a classifier on one of its layers.

    The variables are those of the backbone, and `head` beside them.

    Attributes:
      network: the backbone, `images -> (features [B, D], out)`, without a head.
      layer: "features", or the name of an output, as in "map" or "stages/1".
      kind, num_classes, hidden: of the classifier.
      statistics: "batch" or "running": how the backbone is applied in training. The classifier is always applied as in
        training then.

    Returns (features, out) of the backbone, with "logits" of the classifier.
    """

    network: nn.Module
    layer: str
    kind: str
    num_classes: int
    hidden: int
    statistics: str = "batch"

    def setup(self) -> None:
        # The field is not called `backbone`: a `Projected` network has a child of that name in the scope they share.
        nn.share_scope(self, self.network)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        features, out = self.network(images, train and self.statistics == "batch")
        x = paths.leaf({"features": features, **out}, self.layer, "layer")
        head = Classifier(self.kind, self.num_classes, self.hidden, self.network.dtype, name="head")
        return features, {**out, "logits": head(x, train)}
