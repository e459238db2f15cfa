"""Layers behind an encoder: the linear classifier, attention pooling, projection heads."""

from collections.abc import Callable
from typing import TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError

from jaxvision.errors import UserError
from jaxvision.models.layers import batch_norm
from jaxvision.models.order import Groups
from jaxvision.models.transformer import Attention, Mlp

# Images [b, h, w, 3], or several such arrays that differ in size, as crops do.
Images: TypeAlias = jax.Array | tuple[jax.Array, ...]
HEAD_INITS = {"zeros": nn.initializers.zeros, "normal": nn.initializers.normal(0.01)}


def linear_head(num_classes: int, init: str, bias: float = 0.0, name: str = "head") -> nn.Dense:
    """Makes the classifier: features [..., d] -> float32 logits [..., k], computed in float32.

    Call it inside a module's compact method.

    Args:
      num_classes: Number k of classes.
      init: Initialiser of the kernel. "zeros" starts at the uniform prediction (Dosovitskiy et al. 2021; Kolesnikov et
        al. 2020), "normal" has a standard deviation of 0.01 (Goyal et al. 2017, sec. 5.1).
      bias: Initial logit of every class. With a sigmoid loss over thousands of classes, -10 starts near the loss of
        predicting no class, instead of ln 2 for each class (big_vision's configs for ImageNet-21k).
      name: Name of the parameters.
    """
    bias_init = nn.initializers.constant(bias)
    return nn.Dense(num_classes, kernel_init=HEAD_INITS[init], bias_init=bias_init, dtype=jnp.float32, name=name)


class AttentionPool(nn.Module):
    """Multi-head attention pooling (MAP): a learned query over tokens [b, n, d], then an MLP -> [b, d].

    Source: Zhai et al. 2022, sec. 3.3; the MLP and its residual as in their code, big_vision.

    Attributes:
      num_heads: Number of attention heads.
      mlp_dim: Number of hidden units of the MLP.
      gelu: Form of the GELU, a key of `transformer.GELUS`.
      attention: Implementation of attention, "xla" or "cudnn".
      norm_epsilon: Number that is added to the variance in the LayerNorm.
      dtype: Type of the computation, float32 or bfloat16.
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
    """Fully connected layers over features [b, d], each with BatchNorm and all but the last with ReLU.

    It is the head g(h) of contrastive pretraining: no layer, a linear one, or several with `hidden` units between
    (SimCLR, Chen et al. 2020, sec. 4.2: two; SimCLRv2, Chen et al. 2020b, sec. 2: three). As in their code there is
    BatchNorm after every layer, no bias before it, and no offset after the last layer.

    Attributes:
      layers: Number of layers, at least 0.
      out: Dimension of the last layer. None makes the last layer like the others, with `hidden` units and ReLU: the
        first layers of a longer head.
      hidden: Number of units of the other layers; None for as many as there are features.
      norm: True for BatchNorm; without it all layers but the last have a bias.
      dtype: Type of the computation, float32 or bfloat16.
      last_norm: True for BatchNorm after the last layer, too. Without it that layer has a bias, as in BYOL's heads
        (Grill et al. 2020, sec. 3.3).
      last_scale: True for a learned scale in that BatchNorm; False as in SimSiam and MoCo v3.
      last_bias: True for a bias of the last layer if no BatchNorm follows; False as in Barlow Twins and VICReg, whose
        losses no offset changes.

    Returns:
      The outputs of all layers, float32 [b, hidden], ..., [b, out].
    """

    layers: int
    out: int | None = None
    hidden: int | None = None
    norm: bool = True
    dtype: jnp.dtype = jnp.float32
    last_norm: bool = True
    last_scale: bool = True
    last_bias: bool = True

    @nn.compact
    def __call__(self, features: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        x, outputs = features, []
        for i in range(self.layers):
            last = self.out is not None and i == self.layers - 1
            width = self.out if last and self.out is not None else self.hidden or features.shape[-1]
            norm = self.norm and (self.last_norm or not last)
            bias = self.last_bias and not self.last_norm if last else not norm
            kernel_init = HEAD_INITS["normal"]
            x = nn.Dense(width, bias, kernel_init=kernel_init, dtype=self.dtype, name=f"dense_{i}")(x)
            if norm:
                scale = self.last_scale or not last
                x = batch_norm(f"norm_{i}", train, self.dtype, bias=not last, scale=scale)(x)
            x = x if last else nn.relu(x)
            outputs.append(x.astype(jnp.float32))
        return tuple(outputs)


class Projected(nn.Module):
    """A model without a classifier, and a projection head on its features.

    The variables are the model's own and, next to them, `projection`. So either can be loaded without the other.

    Attributes:
      backbone: Model `images -> (features [b, d], out)`, without a head.
      projection: Projection head. If its `out` is set, it is for pretraining and the features stay the backbone's.
        Otherwise its layers belong to the network, and the last output is returned as the features.
      num_classes: Number k of classes of a linear classifier on the features, or None for no classifier.

    Returns:
      (features, out) of the backbone; see `over_sizes` for images of several sizes. `out` also has "projection"
      [b, out], the last output of the head (the features if it has no layers), "projections", the outputs of all its
      layers, "backbone" [b, d], the backbone's features, and "logits" [b, k].
    """

    backbone: nn.Module
    projection: Projection
    num_classes: int | None = None

    def setup(self) -> None:
        nn.share_scope(self, self.backbone)

    @property
    def dtype(self) -> jnp.dtype:
        """Type of the computation."""
        return self.backbone.dtype

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return self.backbone.layer_order()

    @nn.compact
    def __call__(self, images: Images, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3], or those of several sizes, to the features and the outputs by name."""
        features, out = over_sizes(self.backbone, images, train)
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
    """A model with a projection head, and a predictor of projections (BYOL, Grill et al. 2020, sec. 3.1).

    The variables are the model's own and, next to them, `predictor`.

    Attributes:
      network: Model with its projection head, a `Projected`.
      predictor: Head on the model's "projection" [b, e].

    Returns:
      (features, out) of the model; `out` also has "prediction" [b, e].
    """

    network: Projected
    predictor: Projection

    def setup(self) -> None:
        nn.share_scope(self, self.network)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to the features [b, d] and the outputs by name."""
        features, out = self.network(images, train)
        return features, {**out, "prediction": self.predictor(out["projection"], train)[-1]}


def over_sizes(
    model: Callable[[jax.Array, bool], tuple[jax.Array, dict]], images: Images, train: bool
) -> tuple[jax.Array, dict]:
    """Applies a model to images of several sizes, in one pass for each size (Caron et al. 2020, SwAV, sec. 3.2).

    BatchNorm takes its statistics from each pass alone, as in the code of SwAV and DINO. Call it inside a module.

    Args:
      model: Model `images -> (features [b, d], out)`.
      images: Images [b, h, w, 3], or a tuple of such arrays, one for each size.
      train: True in training.

    Returns:
      The features [n, d] of all images, one array after the other, and the intermediates of the first array.

    Raises:
      UserError: If the model has parameters for one image size only.
    """
    if not isinstance(images, tuple):
        return model(images, train)
    try:
        passes = [model(some, train) for some in images]
    except ScopeParamShapeError as error:
        sizes = " and ".join(f"{some.shape[1]}x{some.shape[2]}" for some in images)
        raise UserError(
            f"the parameters of this model depend on the size of the images, so it cannot take images of {sizes}: "
            "choose another model; for a ViT with posemb='learned', set model.base_grid to the number of patches along "
            "the side of the larger images"
        ) from error
    return jnp.concatenate([features for features, _ in passes]), passes[0][1]


def bare_backbone(task: str, model: nn.Module) -> nn.Module:
    """Returns the model, if it has no projection layers: for a task that adds layers of its own.

    Args:
      task: Name of the task, for the message.
      model: Model of the config, without a head.

    Raises:
      UserError: A model with projection layers.
    """
    if isinstance(model, Projected):
        raise UserError(
            f"the task {task!r} adds its own layers to the features: remove projection_layers from config.model, they "
            "are for fine-tuning"
        )
    return model
