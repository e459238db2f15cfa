"""ResNet v2, in which BatchNorm and ReLU come before each convolution and nothing after the sum.

He et al. 2016b, "Identity mappings in deep residual networks", arXiv 1603.05027. Wide ResNet and Big Transfer are
built from the same blocks: `wide_resnet.py`, `bit.py`.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.found import part
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, Dropout, DropPath, batch_norm, global_mean, linear_decay, max_pool
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.models.resnet_blocks import Stage

IMAGENET_BLOCKS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3), "200": (3, 24, 36, 3)}
CIFAR_BLOCKS = {"110": (18, 18, 18), "164": (18, 18, 18), "1001": (111, 111, 111)}
STEMS = ("imagenet", "cifar")
STRIDES_IN = ("3x3", "1x1")
GROUPS = 32  # of GroupNorm
GROUP_NORM_EPSILON = 1e-5


def norm_relu(x: jax.Array, name: str, norm: str, train: bool, dtype: jnp.dtype) -> jax.Array:
    """BatchNorm ("batch") or GroupNorm ("group"), then ReLU; call it inside a module's compact method."""
    if norm == "batch":
        return nn.relu(batch_norm(name, train, dtype)(x))
    return nn.relu(nn.GroupNorm(GROUPS, epsilon=GROUP_NORM_EPSILON, dtype=dtype, name=name)(x))


class Block(nn.Module):
    """Pre-activation block of two 3x3 convolutions or 1x1, 3x3, 1x1: [B, H, W, C] -> [B, h, w, D].

    D is `channels`, or four times as many behind a bottleneck. He et al. 2016b, fig. 4e. `standardize` is
    weight standardisation; dropout comes before the second convolution.
    """

    channels: int
    stride: int
    bottleneck: bool = True
    stride_in: str = "3x3"
    norm: str = "group"
    standardize: bool = True
    standardize_epsilon: float = 1e-10
    zero_init_residual: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, strength: float = 1.0) -> jax.Array:
        standardize = {"standardize": self.standardize, "standardize_epsilon": self.standardize_epsilon}
        conv = functools.partial(Conv, **standardize, dtype=self.dtype)
        activate = functools.partial(norm_relu, norm=self.norm, train=train, dtype=self.dtype)
        layers = self._layers()
        features = layers[-1][0]
        y = activate(x, "norm1")
        if x.shape[-1] != features or self.stride > 1:
            x = conv(features, 1, self.stride, name="shortcut_conv")(y)
        for i, layer in enumerate(layers, 1):
            if i > 1:
                y = activate(y, f"norm{i}")
            if i == 2:
                y = Dropout(self.dropout)(y, train)
            zero = {"kernel_init": nn.initializers.zeros} if self.zero_init_residual and i == len(layers) else {}
            y = conv(*layer, name=f"conv{i}", **zero)(y)
        return x + DropPath(self.drop_path)(y, strength, train)

    def _layers(self) -> list[tuple[int, int, int]]:
        """(features, kernel size, stride) of each convolution."""
        if not self.bottleneck:
            return [(self.channels, 3, self.stride), (self.channels, 3, 1)]
        first, second = (1, self.stride) if self.stride_in == "3x3" else (self.stride, 1)
        return [(self.channels, 1, first), (self.channels, 3, second), (4 * self.channels, 1, 1)]


class ResNetV2(nn.Module):
    """See the builders for the options, which are checked there: `resnet_v2`, `wide_resnet`, `bit`."""

    num_classes: int | None
    blocks: tuple[int, ...]
    channels: int
    stem_channels: int
    stem: str = "imagenet"
    pool_padding: float = -jnp.inf
    bottleneck: bool = True
    stride_in: str = "3x3"
    norm: str = "batch"
    standardize: bool = False
    standardize_epsilon: float = 1e-10
    zero_init_residual: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """See `order`."""
        return stem_and_stages(len(self.blocks))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        standardize = {"standardize": self.standardize, "standardize_epsilon": self.standardize_epsilon}
        conv = functools.partial(Conv, **standardize, dtype=self.dtype)
        x = conv(self.stem_channels, size, stride, name="stem_conv")(images)
        if self.stem == "imagenet":
            x = max_pool(x, self.pool_padding)
        out = {"stem": x}
        stages = []
        for i, strengths in enumerate(linear_decay(self.blocks)):
            block = functools.partial(
                Block,
                channels=self.channels * 2**i,
                bottleneck=self.bottleneck,
                stride_in=self.stride_in,
                norm=self.norm,
                **standardize,
                zero_init_residual=self.zero_init_residual,
                dropout=self.dropout,
                drop_path=self.drop_path,
                dtype=self.dtype,
            )
            x = Stage(strengths, 1 if i == 0 else 2, block, name=f"stage{i + 1}")(x, train)
            stages.append(x)
        out["stages"] = tuple(stages)
        x = norm_relu(x, "norm", self.norm, train, self.dtype)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part("model", small={"variant": 164, "blocks": (1, 1)})
def resnet_v2(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str | int = "50",
    blocks: tuple[int, ...] | None = None,
    width: float = 1.0,
    stem: str | None = None,
    stride_in: str = "3x3",
    drop_path: float = 0.0,
    zero_init_residual: bool = False,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> ResNetV2:
    """Pre-activation ResNet with BatchNorm. What a block receives also leaves it, with something added.

    Applied to float images [B, H, W, 3] it returns float32 features [B, D] and `out`: "stem", "stages"
    (the map of each stage), "map" [B, h, w, D] (the last of them after the last norm), "tokens"
    [B, h * w, D], and "logits" float32 [B, K]. In training apply it with `mutable=["batch_stats"]`.

    Where a block changes the shape, its shortcut is a projection of what its first norm and ReLU return, as in
    the authors' code and in timm. The paper has that in the first block of all even where the shape stays (110
    layers), and its ImageNet code the stem's norm before max pooling; here, as in timm, max pooling comes first.

    Args:
      num_classes: K, or None for no head.
      dtype: of the computation; parameters and statistics are float32.
      variant: layers: 50, 101, 152, 200 (ImageNet), or 110, of two convolutions a block, and 164, 1001, of
        bottlenecks (CIFAR).
      blocks: of each stage, in place of the variant's.
      width: multiplies the channels of every layer, 64 or (CIFAR) 16 in the first one.
      stem: "imagenet" (7x7 of stride 2, max pooling) or "cifar" (3x3); default by variant.
      stride_in: the convolution of a bottleneck that strides: "3x3" as in timm, or "1x1" as in the paper's code.
      drop_path: stochastic depth rate of the last block, growing linearly (Huang et al. 2016, arXiv 1603.09382).
      zero_init_residual: start with the last kernel of each branch at 0, as timm does and the paper does not.
      head_init: "normal" or "zeros".
      head_bias: initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: an unknown variant or option value.
    """
    variant = one_of("ResNet v2 variant", str(variant), IMAGENET_BLOCKS | CIFAR_BLOCKS)
    cifar = variant in CIFAR_BLOCKS
    channels = round((16 if cifar else 64) * positive("width", width))
    return ResNetV2(
        num_classes=num_classes,
        blocks=tuple(blocks or (IMAGENET_BLOCKS | CIFAR_BLOCKS)[variant]),
        channels=channels,
        stem_channels=channels,
        stem=one_of("stem", stem or ("cifar" if cifar else "imagenet"), STEMS),
        bottleneck=variant != "110",
        stride_in=one_of("stride_in", stride_in, STRIDES_IN),
        zero_init_residual=zero_init_residual,
        drop_path=rate("drop_path", drop_path),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
