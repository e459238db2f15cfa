"""Inception v3, Szegedy et al. 2016, arXiv 1512.00567; v4 and Inception-ResNet v2, Szegedy et al. 2017, 1602.07261.

The numbers of channels are those of the authors' code, which the papers give in part.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.inception_blocks import (
    Block,
    Branch,
    C,
    ConvUnit,
    InceptionNet,
    Pool,
    Stage,
    chain,
    first_blocks,
)
from jaxvision.models.layers import avg_pool, global_mean
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.registry import part

STEM = (C(32, 3, 2, 0), C(32, 3, 1, 0), C(64, 3))
HALVE = Pool("max", 3, 2, 0)
ROW, COLUMN = (1, 7), (7, 1)  # kernels whose product is as large as a 7x7 one
FORK = (1, 3), (3, 1)
EPSILON = 1e-3
MIN_SIZE = 75
AUX = ((3, 5),)  # behind the last module at 17x17


def _halving(*branches: Branch) -> Block:
    return Block((*branches, (HALVE,)))


def _fork(channels: int) -> tuple[C, ...]:
    return tuple(C(channels, size) for size in FORK)


# Inception v3. Its averages count the padding as zeros, as in torchvision and timm; those of v4 do not.
V3_AVERAGE = Pool("avg", counts_padding=True)


def _v3_a(pooled: int) -> Block:
    """Szegedy et al. 2016, fig. 5; one 5x5 kernel is left, as in the authors' code."""
    return Block(((C(64),), (C(48), C(64, 5)), (C(64), C(96, 3), C(96, 3)), (V3_AVERAGE, C(pooled))))


def _v3_c(inner: int) -> Block:
    """Szegedy et al. 2016, fig. 6."""
    sevens = (C(inner), C(inner, ROW), C(192, COLUMN))
    double = (C(inner), C(inner, COLUMN), C(inner, ROW), C(inner, COLUMN), C(192, ROW))
    return Block(((C(192),), sevens, double, (V3_AVERAGE, C(192))))


V3_E = Block(  # fig. 7
    ((C(320),), (C(384), _fork(384)), (C(448), C(384, 3), _fork(384)), (V3_AVERAGE, C(192)))
)
V3 = (
    Stage((chain(C(80), C(192, 3, 1, 0)),), HALVE),
    Stage((_v3_a(32), _v3_a(64), _v3_a(64)), HALVE),
    Stage(
        (
            _halving((C(384, 3, 2, 0),), (C(64), C(96, 3), C(96, 3, 2, 0))),
            *(_v3_c(inner) for inner in (128, 160, 160, 192)),
        )
    ),
    Stage(
        (
            _halving((C(192), C(320, 3, 2, 0)), (C(192), C(192, ROW), C(192, COLUMN), C(192, 3, 2, 0))),
            V3_E,
            V3_E,
        )
    ),
)
# Inception v4: Szegedy et al. 2017, fig. 3 to 8.
AVERAGE = Pool("avg", padding=1)
V4_A = Block(((C(96),), (C(64), C(96, 3)), (C(64), C(96, 3), C(96, 3)), (AVERAGE, C(96))))
V4_B = Block(
    (
        (C(384),),
        (C(192), C(224, ROW), C(256, COLUMN)),
        (C(192), C(192, COLUMN), C(224, ROW), C(224, COLUMN), C(256, ROW)),
        (AVERAGE, C(128)),
    )
)
V4_C = Block(
    (
        (C(256),),
        (C(384), _fork(256)),
        (C(384), C(448, (3, 1)), C(512, (1, 3)), _fork(256)),
        (AVERAGE, C(256)),
    )
)
V4 = (
    Stage(
        (
            Block(((HALVE,), (C(96, 3, 2, 0),))),
            Block(((C(64), C(96, 3, 1, 0)), (C(64), C(64, ROW), C(64, COLUMN), C(96, 3, 1, 0)))),
        )
    ),
    Stage((_halving((C(192, 3, 2, 0),)), *[V4_A] * 4)),
    Stage((_halving((C(384, 3, 2, 0),), (C(192), C(224, 3), C(256, 3, 2, 0))), *[V4_B] * 7)),
    Stage(
        (
            _halving((C(192), C(192, 3, 2, 0)), (C(256), C(256, ROW), C(320, COLUMN), C(320, 3, 2, 0))),
            *[V4_C] * 3,
        )
    ),
)
# Inception-ResNet v2: the stem of v3, and blocks with the factors of the authors' code (0.1 to 0.3 in sec. 3.3).
RESNET_A = Block(((C(32),), (C(32), C(32, 3)), (C(32), C(48, 3), C(64, 3))), residual=0.17)
RESNET_B = Block(((C(192),), (C(128), C(160, ROW), C(192, COLUMN))), residual=0.1)
RESNET_C = Block(((C(192),), (C(192), C(224, (1, 3)), C(256, (3, 1)))), residual=0.2)
RESNET_V2 = (
    V3[0],
    Stage(
        (
            Block(((C(96),), (C(48), C(64, 5)), (C(64), C(96, 3), C(96, 3)), (AVERAGE, C(64)))),
            *[RESNET_A] * 10,
        ),
        HALVE,
    ),
    Stage((_halving((C(384, 3, 2, 0),), (C(256), C(256, 3), C(384, 3, 2, 0))), *[RESNET_B] * 20)),
    Stage(
        (
            _halving((C(256), C(384, 3, 2, 0)), (C(256), C(288, 3, 2, 0)), (C(256), C(288, 3), C(320, 3, 2, 0))),
            *[RESNET_C] * 9,
            RESNET_C._replace(residual=1.0, relu=False),
            chain(C(1536)),
        )
    ),
)
VARIANTS = {"v3": V3, "v4": V4, "resnet_v2": RESNET_V2}


class AuxiliaryHead(nn.Module):
    """Auxiliary classifier of Inception v3 on its 17x17 map: [b, h, w, c] -> logits float32 [b, k].

    Szegedy et al. 2016, sec. 4, with BatchNorm (fig. 8).

    Attributes:
      num_classes: Number k of classes.
      width, epsilon, dtype: See `inception_blocks.ConvUnit`.
    """

    num_classes: int
    width: float
    epsilon: float | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to logits [b, k]."""
        if min(x.shape[1:3]) < 17:
            raise UserError("aux=True needs images of at least 299x299 pixels")
        x = avg_pool(x, 5, 3, 0)
        for i, spec in enumerate((C(128), C(768, 5, 1, 0)), 1):
            x = ConvUnit(spec, self.width, self.epsilon, self.dtype, name=f"unit{i}")(x, train)
        return linear_head(self.num_classes, "normal")(global_mean(x))


def _auxiliary(network: InceptionNet, name: str) -> nn.Module:
    assert network.num_classes is not None
    return AuxiliaryHead(network.num_classes, network.width, network.epsilon, network.dtype, name=name)


class Inception(InceptionNet):
    """Module of `inception`, which documents and checks the options."""


@part(
    "model",
    small={"width": 1 / 16, "blocks": (1, 1), "dropout": 0.0},
    variants={name: in_words(len(stage.blocks) for stage in stages) for name, stages in VARIANTS.items()},
    image_size=MIN_SIZE,
)
def inception(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "v3",
    width: float = 1.0,
    blocks: tuple[int, ...] | None = None,
    aux: bool = False,
    dropout: float = 0.2,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> Inception:
    """Inception v3, Inception v4 and Inception-ResNet v2, for images of 299x299 pixels. `googlenet` has v1 and v2.

    Applied to float images [b, height, width, 3] of at least 75x75 pixels it returns float32 features [b, d] of 2048
    (v3) or 1536 numbers and `out`: "stem" (the first three convolutions, at 1/2 of the image's sides), "stages" (the
    last maps at about 1/4, 1/8, 1/16 and 1/32: 71, 35, 17 and 8 pixels of 299), "blocks" (the map of every module),
    "map" [b, h, w, d] (the last of them), "tokens" [b, h * w, d], "logits" float32 [b, k], and with `aux` "aux_logits",
    a tuple of one float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Network: "v3", "v4" or "resnet_v2".
      width: Factor of the channels of every convolution, above 0.
      blocks: Number of modules of each stage, counted from its first, for the first one to four stages; None for all.
      aux: True for the auxiliary classifier of v3, behind its last module at 17x17 pixels; its images have at least
        299x299 pixels. The task `supervised` trains it, see its `aux_weight`.
      dropout: Rate of dropout before the head, in [0, 1); 0.2 in the authors' code, 0.5 in torchvision.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range; or, when it is applied, images that are too small.
    """
    stages = VARIANTS[one_of("Inception variant", variant, VARIANTS)]
    if aux and (variant != "v3" or blocks is not None):
        raise UserError('aux=True is for the variant "v3" with all its blocks')
    return Inception(
        num_classes=num_classes,
        stem=STEM,
        stages=first_blocks("Inception", stages, blocks),
        width=positive("width", width),
        epsilon=EPSILON,
        dropout=rate("dropout", dropout),
        min_size=MIN_SIZE,
        aux=AUX if aux else (),
        aux_head=_auxiliary if aux else None,
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
