"""AlexNet: Krizhevsky et al. 2012 and Krizhevsky 2014; ZFNet: Zeiler & Fergus 2014, arXiv 1311.2901."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import local_response_norm, max_pool
from jaxvision.models.options import one_of, positive, rate
from jaxvision.models.order import Groups
from jaxvision.models.plain import FullyConnected, Layer, PlainStage
from jaxvision.registry import part

GRID = 6  # side of the map that the first hidden layer sees
STAGES = {"stem": (1, 1), "stage1": (2, 2), "stage2": (3, 5)}  # first and last convolution; then a max pooling


class Plan(NamedTuple):
    """The five convolutions, and what stands between them.

    Attributes:
      layers: Convolutions; the first, the second and the last are followed by 3x3 max pooling of stride 2.
      norm: Place of the local response normalisation of the first two: "none", "before" or "after" the pooling.
      pool_padding: Padding of the first two poolings in pixels.
      min_size: Least side of the images in pixels, from which a pixel is left in the end.
    """

    layers: tuple[Layer, ...]
    norm: str
    pool_padding: int
    min_size: int


ALEXNETS = {
    "2014": Plan((Layer(64, 11, 4, 2), Layer(192, 5), Layer(384), Layer(256), Layer(256)), "none", 0, 63),
    "2012": Plan(
        (Layer(96, 11, 4, 0), Layer(256, 5, groups=2), Layer(384), Layer(384, groups=2), Layer(256, groups=2)),
        "before",
        0,
        67,
    ),
}
# Zeiler & Fergus 2014, fig. 3; the paddings follow from its sizes 110, 55, 26 and 13.
ZFNET = Plan((Layer(96, 7, 2, 1), Layer(256, 5, 2, 0), Layer(384), Layer(384), Layer(256)), "after", 1, 53)
WORDS = {
    "2014": "without normalisation, one column, as in torchvision; for images of 224x224 pixels",
    "2012": "two groups and local response normalisation; for images of 227x227 pixels",
}


class AlexNet(nn.Module):
    """Module of `alexnet` and `zfnet`, which document and check the options."""

    num_classes: int | None
    plan: Plan
    width: float = 1.0
    hidden: int = 4096
    dropout: float = 0.5
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return ("stem",), ("stage1",), ("stage2",), ("hidden/fc6",), ("hidden/fc7",)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        least = self.plan.min_size
        if min(images.shape[1:3]) < least:
            raise UserError(f"this network needs images of at least {least}x{least} pixels, not {images.shape[1:3]}")
        x, convs, maps = images, [], []
        layers = tuple(layer.scaled(self.width) for layer in self.plan.layers)
        for name, (first, last) in STAGES.items():
            convs += PlainStage(first, layers[first - 1 : last], False, self.dtype, name=name)(x, train)
            x, final = convs[-1], last == len(layers)
            x = local_response_norm(x) if self.plan.norm == "before" and not final else x
            x = max_pool(x, padding=0 if final else self.plan.pool_padding)
            x = local_response_norm(x) if self.plan.norm == "after" and not final else x
            maps.append(x)
        out: dict[str, Any] = {"stem": maps[0], "stages": tuple(maps[1:]), "convs": tuple(convs), "map": x}
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        out["fc6"], out["fc7"] = FullyConnected(GRID, self.hidden, self.dropout, self.dtype, name="hidden")(x, train)
        features = out["fc7"].astype(jnp.float32)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


SMALL = {"width": 1 / 16, "hidden": 16, "dropout": 0.0}


@part("model", small=SMALL, variants=WORDS, image_size=64)
def alexnet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str | int = "2014",
    width: float = 1.0,
    hidden: int = 4096,
    dropout: float = 0.5,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> AlexNet:
    """AlexNet: five convolutions, three poolings and two hidden layers.

    Source: Krizhevsky 2014, arXiv 1404.5997, and for the variant "2012" Krizhevsky et al. 2012.

    Applied to float images [b, height, width, 3] of at least 63x63 pixels (67x67 for "2012") it returns float32
    features [b, hidden], the second hidden layer, and `out`: "convs" (after each convolution and its ReLU), "stem" and
    "stages" (the maps behind the poolings, at about 1/8, 1/16 and 1/32 of the image's sides), "map" [b, h, w, 256] (the
    last of them), "tokens" [b, h * w, 256], "fc6" and "fc7" [b, hidden], and "logits" float32 [b, k].

    The hidden layers see a grid of 6x6 places, which is the map of images of the usual size. Maps of other images are
    averaged to this grid, as in torchvision.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      variant: Form: "2014", the single column of Krizhevsky 2014, arXiv 1404.5997, as in torchvision; or "2012", the
        original with groups for two GPUs and local response normalisation (Krizhevsky et al. 2012, sec. 3). The
        sizes in that paper need images of 227x227 pixels, not of 224x224 as it says.
      width: Factor of the channels of every convolution, above 0.
      hidden: Number of units of each hidden layer.
      dropout: Rate of dropout behind both hidden layers, in [0, 1) (Krizhevsky et al. 2012, sec. 4.2); torchvision has
        it before them.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range; or, when it is applied, images that are too small.
    """
    plan = ALEXNETS[one_of("AlexNet variant", str(variant), ALEXNETS)]
    return _build(num_classes, plan, width, hidden, dropout, head_init, head_bias, dtype)


@part("model", small=SMALL, image_size=64)
def zfnet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    width: float = 1.0,
    hidden: int = 4096,
    dropout: float = 0.5,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> AlexNet:
    """ZFNet, an AlexNet with 7x7 instead of 11x11 pixels in the first layer and half its stride, for 224x224 pixels.

    Source: Zeiler & Fergus 2014, arXiv 1311.2901, fig. 3. The paper does not say how maps are contrast normalised
    behind the first two poolings; here as in AlexNet.

    It takes images of at least 53x53 pixels and returns what `alexnet` does; the maps behind the poolings are at about
    1/4, 1/16 and 1/32 of the image's sides.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      width: Factor of the channels of every convolution, above 0.
      hidden: Number of units of each hidden layer.
      dropout: Rate of dropout behind both hidden layers, in [0, 1).
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An option value out of range; or, when it is applied, images that are too small.
    """
    return _build(num_classes, ZFNET, width, hidden, dropout, head_init, head_bias, dtype)


def _build(
    num_classes: int | None,
    plan: Plan,
    width: float,
    hidden: int,
    dropout: float,
    head_init: str,
    head_bias: float,
    dtype: jnp.dtype,
) -> AlexNet:
    return AlexNet(
        num_classes=num_classes,
        plan=plan,
        width=positive("width", width),
        hidden=positive("hidden", hidden),
        dropout=rate("dropout", dropout),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
