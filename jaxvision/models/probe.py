"""A classifier on one layer of a network: it measures what the layer knows, for a classifier of a given size."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision import paths
from jaxvision.errors import UserError
from jaxvision.models.heads import linear_head
from jaxvision.models.layers import BatchNorm, batch_norm
from jaxvision.models.nin import NinStage

HIDDEN = {"linear": 0, "mlp": 200, "conv": 192}  # units or channels of Gidaris et al. 2018, sec. 3.1, by kind


class Classifier(nn.Module):
    """Classifies one layer of a network, [b, d], [b, n, d] or [b, h, w, d] -> float32 logits [b, k].

    Attributes:
      kind: Kind of the classifier. "linear" averages the layer over its places. "mlp" flattens the whole layer, then
        has two layers of `hidden` units with BatchNorm and ReLU. "conv" is a stage of NIN with `hidden` channels (3x3,
        1x1, 1x1), averaged over its places. All end in a linear layer.
      num_classes: Number k of classes.
      hidden: Number of hidden units or channels; "linear" has none.
      norm: True for BatchNorm without scale and offset before the linear layer of "linear" (He et al. 2022, MAE, app.
        A.1): features of any scale then suit one learning rate. Its epsilon is that of the authors' code.
      dtype: Type of the computation, float32 or bfloat16; logits are float32.
    """

    kind: str
    num_classes: int
    hidden: int
    norm: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps a layer x, [b, d], [b, n, d] or [b, h, w, d], to logits [b, k]."""
        if self.kind == "mlp":
            x = x.reshape(x.shape[0], -1)
            for i in (1, 2):
                x = nn.Dense(self.hidden, use_bias=False, dtype=self.dtype, name=f"dense{i}")(x)
                x = nn.relu(batch_norm(f"norm{i}", train, self.dtype)(x))
            x = x.astype(jnp.float32)
        else:
            if self.kind == "conv":
                if x.ndim != 4:
                    raise UserError(f"a classifier 'conv' needs a map [b, h, w, d], not a layer of shape {x.shape}")
                x = NinStage(3, (self.hidden,) * 3, self.dtype, name="stage")(x, train)
            x = x.astype(jnp.float32).mean(axis=tuple(range(1, x.ndim - 1)))
        if self.norm:
            x = BatchNorm(train, momentum=0.9, epsilon=1e-6, use_bias=False, use_scale=False, name="norm")(x)
        return linear_head(self.num_classes, "normal", name="logits")(x)


class Probed(nn.Module):
    """A backbone, and a classifier on one of its layers.

    The variables are the backbone's own and, next to them, `head`.

    Attributes:
      network: Backbone `images -> (features [b, d], out)`, without a head.
      layer: Name of the layer: "features", or an output of the backbone, such as "map" or "stages/1".
      kind: Kind of the classifier, see `Classifier`.
      num_classes: Number k of classes.
      hidden: Number of hidden units or channels of the classifier.
      statistics: Statistics with which the backbone's BatchNorm normalises in training, "batch" or "running". With
        "running" the backbone computes as in evaluation; the classifier always computes as in training then.
      norm: True for BatchNorm before the classifier's linear layer, see `Classifier`.

    Returns:
      (features, out) of the backbone; `out` also has "logits" [b, k] of the classifier.
    """

    network: nn.Module
    layer: str
    kind: str
    num_classes: int
    hidden: int
    statistics: str = "batch"
    norm: bool = False

    def setup(self) -> None:
        # The field is not called `backbone`: a `Projected` network has a child of that name in the scope they share.
        nn.share_scope(self, self.network)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to the features [b, d] and the outputs by name."""
        features, out = self.network(images, train and self.statistics == "batch")
        x = paths.leaf({"features": features, **out}, self.layer, "layer")
        head = Classifier(self.kind, self.num_classes, self.hidden, self.norm, self.network.dtype, name="head")
        return features, {**out, "logits": head(x, train)}
