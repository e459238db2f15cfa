"""ResNet with BatchNorm: He et al. 2016, "Deep residual learning for image recognition", arXiv 1512.03385.

Options make its descendants: wide bottlenecks (Zagoruyko and Komodakis 2016), ResNeXt (Xie et al. 2017), squeeze and
excitation (Hu et al. 2018), ResNet-D (He et al. 2019) and stochastic depth (Huang et al. 2016).
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, batch_norm, global_mean, linear_decay, max_pool
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.models.resnet_blocks import ResNetBlock, ResNetStage
from jaxvision.registry import part

IMAGENET_BLOCKS = {  # He et al. 2016, table 1
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 6, 3),
    "101": (3, 4, 23, 3),
    "152": (3, 8, 36, 3),
}
# He et al. 2016, sec. 4.2: 6n + 2 layers in three stages. "8" is not in the paper: the smallest one, for quick runs.
CIFAR_BLOCKS = {str(6 * n + 2): (n, n, n) for n in (1, 3, 5, 7, 9, 18, 200)}
BOTTLENECK = ("50", "101", "152")
RESNET_D = {"stem": "deep", "shortcut": "D"}
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {  # variant: number of layers, and the options that it stands for
    **{layers: (layers, {}) for layers in IMAGENET_BLOCKS},
    **{layers: (layers, {"stem": "cifar", "shortcut": "A"}) for layers in CIFAR_BLOCKS},
    **{f"{layers}d": (layers, RESNET_D) for layers in IMAGENET_BLOCKS},
    **{f"se{layers}": (layers, {"squeeze_excite": 16}) for layers in IMAGENET_BLOCKS},
    "wide50_2": ("50", {"width_per_group": 128}),
    "wide101_2": ("101", {"width_per_group": 128}),
    "resnext50_32x4d": ("50", {"groups": 32, "width_per_group": 4}),
    "resnext101_32x8d": ("101", {"groups": 32, "width_per_group": 8}),
    "resnext101_64x4d": ("101", {"groups": 64, "width_per_group": 4}),
}
VARIANTS = {
    name: in_words((IMAGENET_BLOCKS | CIFAR_BLOCKS)[layers], *(f"{key} {value}" for key, value in preset.items()))
    for name, (layers, preset) in PRESETS.items()
}
STEMS = ("imagenet", "deep", "cifar")
SHORTCUTS = ("A", "zeros_centred", "B", "C", "D", "none")
STRIDES_IN = ("3x3", "1x1")


class ResNet(nn.Module):
    """Module of `resnet`, which documents and checks the options."""

    num_classes: int | None
    blocks: tuple[int, ...]
    channels: int
    bottleneck: bool = False
    stem: str = "imagenet"
    shortcut: str = "B"
    stride_in: str = "3x3"
    groups: int = 1
    width_per_group: int = 64
    squeeze_excite: int | None = None
    drop_path: float = 0.0
    zero_init_residual: bool = True
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(len(self.blocks))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        x = self._stem(images, train)
        out: dict[str, Any] = {"stem": x}
        stages = []
        for i, strengths in enumerate(linear_decay(self.blocks)):
            block = functools.partial(
                ResNetBlock,
                channels=self.channels * 2**i,
                bottleneck=self.bottleneck,
                shortcut=self.shortcut,
                stride_in=self.stride_in,
                groups=self.groups,
                width_per_group=self.width_per_group,
                squeeze_excite=self.squeeze_excite,
                drop_path=self.drop_path,
                zero_init_residual=self.zero_init_residual,
                dtype=self.dtype,
            )
            x = ResNetStage(strengths, 1 if i == 0 else 2, block, name=f"stage{i + 1}")(x, train)
            stages.append(x)
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out

    def _stem(self, x: jax.Array, train: bool) -> jax.Array:
        """[b, h, w, 3] -> [b, h / 4, w / 4, channels], or without striding for CIFAR."""
        layers = {  # suffix of the names, features, kernel size, stride
            "imagenet": [("", self.channels, 7, 2)],
            "deep": [("1", self.channels // 2, 3, 2), ("2", self.channels // 2, 3, 1), ("3", self.channels, 3, 1)],
            "cifar": [("", self.channels, 3, 1)],
        }[self.stem]
        for suffix, features, size, stride in layers:
            x = Conv(features, size, stride, dtype=self.dtype, name=f"stem_conv{suffix}")(x)
            x = nn.relu(batch_norm(f"stem_norm{suffix}", train, self.dtype)(x))
        return x if self.stem == "cifar" else max_pool(x)


@part("model", small={"variant": "8", "width": 0.5}, variants=VARIANTS)
def resnet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str | int = "50",
    width: float = 1.0,
    stem: str | None = None,
    shortcut: str | None = None,
    stride_in: str = "3x3",
    groups: int | None = None,
    width_per_group: int | None = None,
    squeeze_excite: int | None = None,
    drop_path: float = 0.0,
    zero_init_residual: bool | None = None,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> ResNet:
    """ResNet with BatchNorm as in the first paper, with the activation after the sum, and its descendants.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stem", "stages"
    (the map of each stage), "map" [b, h, w, d] (the last of them), "tokens" [b, h * w, d], and "logits"
    float32 [b, k]. In training apply it with `mutable=["batch_stats"]`; under jit the statistics are
    those of the global batch, even if it is sharded.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Number of layers: 18, 34, 50, 101, 152 (ImageNet), or 8, 20, 32, 44, 56, 110, 1202 (CIFAR). Or name of a
        combination of the options below: "50d" (ResNet-D) and "se50" (SE-ResNet), both of all ImageNet depths,
        "wide50_2", "wide101_2", "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d". An option that is given
        overrides that of the variant.
      width: Factor of the channels of every layer, above 0. The first layer has 64 channels, or 16 for CIFAR.
      stem: First layers: "imagenet" (7x7 of stride 2, max pooling), "deep" (three 3x3 instead of the 7x7: He et al.
        2019, arXiv 1812.01187, fig. 2b) or "cifar" (3x3). None for the variant's.
      shortcut: Form of a shortcut whose ends have different shapes: "A" subsamples and pads with zero channels, "B"
        projects, "D" averages 2x2 pixels and projects (He et al. 2019, fig. 2c). "C" projects everywhere. "none" is the
        plain network without shortcuts of He et al. 2016, sec. 4.2. None for the variant's; the paper has "A" for CIFAR
        and does not say where the zero channels are. In "A" they are last; in "zeros_centred" one half is first, the
        other last. Trained from scratch, these two differ only in the order of channels. But weights of one compute
        something else in the other, and no array says which they belong to.
      stride_in: Convolution of a bottleneck that strides: "3x3" as in torchvision (ResNet v1.5), or "1x1" as in the
        paper, which is some 0.5 % less accurate on ImageNet.
      groups: Number of groups of the bottleneck's 3x3 convolution, its cardinality (Xie et al. 2017, arXiv 1611.05431);
        None for the variant's, which is 1 except in ResNeXt.
      width_per_group: Number of the bottleneck's inner channels in each group of the first stage, at `width` 1; None
        for the variant's, which is 64 in a plain ResNet.
      squeeze_excite: Divisor of the channels inside squeeze and excitation, 16 in Hu et al. 2018, sec. 6.4. None for
        the variant's, which only "se..." has. timm keeps at least 8 channels there, so the first stage of its
        seresnet18 and seresnet34 differs. Its legacy_seresnet50 strides like the paper's, `stride_in="1x1"`, but pads
        the stem's max pooling only at the right and the bottom, which is not offered here.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); earlier blocks have less, in proportion to their
        depth (Huang et al. 2016, arXiv 1603.09382).
      zero_init_residual: True to start the last scale of each branch at 0 (Goyal et al. 2017, sec. 5.1), so that each
        block starts as its shortcut. None for True, except in the plain network, where nothing would be left.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, an option value out of range, or options that do not go together.
    """
    layers, preset = PRESETS[one_of("ResNet variant", str(variant), PRESETS)]
    overrides = {
        "stem": stem,
        "shortcut": shortcut,
        "groups": groups,
        "width_per_group": width_per_group,
        "squeeze_excite": squeeze_excite,
    }
    options: dict[str, Any] = dict(stem="imagenet", shortcut="B", groups=1, width_per_group=64, squeeze_excite=None)
    options |= preset | {name: value for name, value in overrides.items() if value is not None}
    for name in ("groups", "width_per_group", "squeeze_excite"):
        positive(name, 1 if options[name] is None else options[name])
    if layers not in BOTTLENECK and (options["groups"], options["width_per_group"]) != (1, 64):
        raise UserError(f"groups and width_per_group shape a bottleneck, and ResNet-{layers} has none")
    plain = one_of("shortcut", options["shortcut"], SHORTCUTS) == "none"
    if plain and (zero_init_residual or drop_path):
        raise UserError('shortcut "none" has nothing but its branches: set no zero_init_residual and no drop_path')
    one_of("stem", options["stem"], STEMS)
    return ResNet(
        num_classes=num_classes,
        blocks=(IMAGENET_BLOCKS | CIFAR_BLOCKS)[layers],
        channels=round((16 if layers in CIFAR_BLOCKS else 64) * positive("width", width)),
        bottleneck=layers in BOTTLENECK,
        stride_in=one_of("stride_in", stride_in, STRIDES_IN),
        drop_path=rate("drop_path", drop_path),
        zero_init_residual=not plain if zero_init_residual is None else zero_init_residual,
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
        **options,
    )
