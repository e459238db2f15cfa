"""VGG: Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image recognition", 1409.1556."""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import max_pool
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.models.plain import FullyConnected, Layer, PlainStage
from jaxvision.registry import part

CHANNELS = (64, 128, 256, 512, 512)
GRID = 7  # side of the map that the first hidden layer sees
MIN_SIZE = 32
KERNELS = {  # sides of the kernels of each stage; Simonyan & Zisserman 2015, table 1: A, B, C, D, E
    "11": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "13": ((3, 3),) * 5,
    "16c": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "16": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "19": ((3, 3), (3, 3), (3,) * 4, (3,) * 4, (3,) * 4),
}
VARIANTS = {f"{name}{norm}": (kernels, bool(norm)) for norm in ("", "_bn") for name, kernels in KERNELS.items()}
WORDS = {
    name: in_words(
        map(len, kernels), *(["the third of a stage 1x1"] if "c" in name else []), *(["BatchNorm"] if norm else [])
    ).replace("blocks", "convolutions")
    for name, (kernels, norm) in VARIANTS.items()
}


class VGG(nn.Module):
    """Module of `vgg`, which documents and checks the options."""

    num_classes: int | None
    kernels: tuple[tuple[int, ...], ...]
    norm: bool
    width: float = 1.0
    hidden: int = 4096
    dropout: float = 0.5
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return *stem_and_stages(len(self.kernels))[1:], ("hidden/fc6",), ("hidden/fc7",)  # no stem

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        if min(images.shape[1:3]) < MIN_SIZE:
            raise UserError(f"VGG needs images of at least {MIN_SIZE}x{MIN_SIZE} pixels, not {images.shape[1:3]}")
        x, convs, stages = images, [], []
        firsts = itertools.accumulate(map(len, self.kernels), initial=1)
        for i, (first, sizes, channels) in enumerate(zip(firsts, self.kernels, CHANNELS), 1):
            layers = tuple(Layer(channels, size).scaled(self.width) for size in sizes)
            convs += PlainStage(first, layers, self.norm, self.dtype, name=f"stage{i}")(x, train)
            x = max_pool(convs[-1], size=2, padding=0)
            stages.append(x)
        out: dict[str, Any] = {"stages": tuple(stages), "convs": tuple(convs), "map": x}
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        out["fc6"], out["fc7"] = FullyConnected(GRID, self.hidden, self.dropout, self.dtype, name="hidden")(x, train)
        features = out["fc7"].astype(jnp.float32)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part(
    "model",
    small={"variant": "11_bn", "width": 1 / 16, "hidden": 16, "dropout": 0.0},
    variants=WORDS,
    image_size=MIN_SIZE,
)
def vgg(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str | int = "16",
    width: float = 1.0,
    hidden: int = 4096,
    dropout: float = 0.5,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> VGG:
    """VGG: five stages of 3x3 convolutions, each followed by 2x2 max pooling, and two hidden layers.

    Applied to float images [b, height, width, 3] of at least 32x32 pixels it returns float32 features [b, hidden], the
    second hidden layer, and `out`: "convs" (after each convolution and its ReLU; conv3_3 of the 16 layers is
    "convs/6"), "stages" (the maps behind the poolings, 1/2 to 1/32 of the image's sides), "map" [b, h, w, 512] (the
    last of them), "tokens" [b, h * w, 512], "fc6" and "fc7" [b, hidden], and "logits" float32 [b, k]. With BatchNorm
    apply it with `mutable=["batch_stats"]` in training.

    The hidden layers see a grid of 7x7 places, which is the map of a 224x224 image. Maps of other images are averaged
    to this grid, as in torchvision; timm slides the hidden layers over larger maps instead.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Number of layers: 11, 13, 16, 19 (A, B, D, E in the paper), or "16c", the paper's C with 1x1 kernels in
        the third convolution of the last three stages. With "_bn" behind it there is BatchNorm after every
        convolution, which the paper does not have; torchvision does.
      width: Factor of the channels of every convolution, above 0.
      hidden: Number of units of each hidden layer.
      dropout: Rate of dropout behind both hidden layers, in [0, 1).
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range; or, when it is applied, images that are too small.
    """
    kernels, norm = VARIANTS[one_of("VGG variant", str(variant), VARIANTS)]
    return VGG(
        num_classes=num_classes,
        kernels=kernels,
        norm=norm,
        width=positive("width", width),
        hidden=positive("hidden", hidden),
        dropout=rate("dropout", dropout),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
