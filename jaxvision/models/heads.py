"""What stands between an encoder and its user: the linear classifier, attention pooling, projection heads."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.layers import batch_norm
from jaxvision.models.order import Groups
from jaxvision.models.transformer import Attention, Mlp

HEAD_INITS = {"zeros": nn.initializers.zeros, "normal": nn.initializers.normal(0.01)}


def linear_head(num_classes: int, init: str, bias: float = 0.0, name: str = "head") -> nn.Dense:
    """The classifier: features [..., D] -> float32 logits [..., K], computed in float32.

    Call it inside a module's compact method.

    Args:
      num_classes: K.
      init: the kernel's initialiser. "zeros" starts at the uniform prediction (Dosovitskiy et al.
        2021; Kolesnikov et al. 2020), "normal" has a deviation of 0.01 (Goyal et al. 2017, sec. 5.1).
      bias: its initial value. With a sigmoid loss over thousands of classes, -10 starts near the loss of
        predicting none, instead of ln 2 for each class (big_vision's configs for ImageNet-21k).
      name: of its parameters.
    """
    bias_init = nn.initializers.constant(bias)
    return nn.Dense(num_classes, kernel_init=HEAD_INITS[init], bias_init=bias_init, dtype=jnp.float32, name=name)


class AttentionPool(nn.Module):
    """Multi-head attention pooling (MAP): a learned query over tokens [B, N, D], then an MLP -> [B, D].

    Source: Zhai et al. 2022, sec. 3.3; the MLP and its residual as in their code, big_vision.
    """

    num_heads: int
    mlp_dim: int
    gelu: str = "tanh"
    attention: str = "xla"
    norm_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        b, _, d = tokens.shape
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, d))
        probe = jnp.broadcast_to(probe, (b, 1, d)).astype(self.dtype)
        x = Attention(self.num_heads, self.attention, dtype=self.dtype, name="attention")(probe, tokens)
        y = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name="norm")(x)
        return (x + Mlp(self.mlp_dim, gelu=self.gelu, dtype=self.dtype, name="mlp")(y, train))[:, 0]


class Projection(nn.Module):
    """Fully connected layers over features [B, D], each with BatchNorm and, but for the last, ReLU.

    The head g(h) of contrastive pretraining: no layer, a linear one, or several with `hidden` units between (SimCLR,
    Chen et al. 2020, sec. 4.2: two; SimCLRv2, Chen et al. 2020b, sec. 2: three). BatchNorm after every layer, no bias
    before it and no offset after the last are those of their code.

    Attributes:
      layers: how many.
      out: dimension of the last; None for one that is like those before it, with ReLU: the first layers of a head.
      hidden: units of the others, D by default.
      norm: whether there is BatchNorm; without it all layers but the last have a bias.
      last_norm: whether there is BatchNorm behind the last of them, too. Without it that layer has a bias: BYOL's heads
        (Grill et al. 2020, sec. 3.3).

    Returns:
      The outputs of all layers, float32 [B, hidden], ..., [B, out].
    """

    layers: int
    out: int | None = None
    hidden: int | None = None
    norm: bool = True
    dtype: jnp.dtype = jnp.float32
    last_norm: bool = True

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        x, outputs = features, []
        for i in range(self.layers):
            last = self.out is not None and i == self.layers - 1
            width = self.out if last else self.hidden or features.shape[-1]
            norm = self.norm and (self.last_norm or not last)
            bias = not self.last_norm if last else not norm
            kernel_init = HEAD_INITS["normal"]
            x = nn.Dense(width, bias, kernel_init=kernel_init, dtype=self.dtype, name=f"dense_{i}")(x)
            if norm:
                x = batch_norm(f"norm_{i}", train, self.dtype, bias=not last)(x)
            x = x if last else nn.relu(x)
            outputs.append(x.astype(jnp.float32))
        return tuple(outputs)


class Projected(nn.Module):
    """A model without a classifier, and a projection head on its features.

    The variables are those of the model, and `projection` beside them, so that either can be had without the other.

    Attributes:
      backbone: `images -> (features [B, D], out)`.
      projection: the head. With `out` set it is for pretraining: the features stay those of the backbone. Else its
        layers belong to the network from then on: their last output is what is returned as features.
      num_classes: K of a linear classifier on these features, or None.

    Returns:
      (features, out): of the backbone; `out` gains "projection" [B, out], the last output of the head (the features
      where it has no layers), "projections", those of all layers, "backbone" [B, D], and "logits" [B, K].
    """

    backbone: nn.Module
    projection: Projection
    num_classes: int | None = None

    def setup(self) -> None:
        nn.share_scope(self, self.backbone)

    @property
    def dtype(self) -> jnp.dtype:
        """Of the computation."""
        return self.backbone.dtype

    def layer_order(self) -> Groups:
        """See `order`."""
        return self.backbone.layer_order()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        features, out = self.backbone(images, train)
        layers = self.projection(features, train)
        projection = layers[-1] if layers else features
        out |= {"backbone": features, "projection": projection, "projections": layers}
        if self.projection.out is None:
            features = projection
        if self.num_classes:
            backbone = self.backbone
            out["logits"] = linear_head(self.num_classes, backbone.head_init, backbone.head_bias)(features)
        return features, out


class Predicted(nn.Module):
    """A model with a projection head, and a predictor on what that projects (BYOL, Grill et al. 2020, sec. 3.1).

    The variables are those of the model, and `predictor` beside them.

    Attributes:
      network: Model with its projection, a `Projected`.
      predictor: Head on its "projection" [B, E].

    Returns:
      (features, out) of the model; `out` gains "prediction" [B, E].
    """

    network: Projected
    predictor: Projection

    def setup(self) -> None:
        nn.share_scope(self, self.network)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        features, out = self.network(images, train)
        return features, {**out, "prediction": self.predictor(out["projection"], train)[-1]}


def bare(task: str, model: nn.Module) -> nn.Module:
    """The model of a task that puts layers of its own on the features.

    Raises:
      UserError: it has some of another pretraining already.
    """
    if isinstance(model, Projected):
        raise UserError(
            f"the task {task!r} puts its own layers on the features: take projection_layers out of config.model, where "
            "they are for fine-tuning"
        )
    return model
