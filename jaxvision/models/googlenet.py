"""GoogLeNet, that is Inception v1: Szegedy et al. 2015, arXiv 1409.4842; BN-Inception: Ioffe & Szegedy 2015."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.inception_blocks import (
    Block,
    C,
    ConvUnit,
    InceptionNet,
    Lrn,
    Pool,
    Stage,
    chain,
    first_blocks,
)
from jaxvision.models.layers import Dropout
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.plain import GridDense, adaptive_avg_pool
from jaxvision.registry import part

STEM = (C(64, 7, 2),)
AUX = ((3, 1), (3, 4))  # behind the modules 4a and 4d
AUX_GRID, AUX_HIDDEN = 4, 1024
HALVE, AROUND = Pool("max", 3, 2, "CEIL"), Pool("max")
AVERAGE = Pool("avg", counts_padding=True)
MIN_SIZE = 32


def _v1(ones: int, reduce_3: int, threes: int, reduce_5: int, fives: int, pooled: int, size: int) -> Block:
    """A row of table 1 of the paper; `size` is 5, or 3 in torchvision's network."""
    return Block(((C(ones),), (C(reduce_3), C(threes, 3)), (C(reduce_5), C(fives, size)), (AROUND, C(pooled))))


def _v1_stages(size: int, norm: bool) -> tuple[Stage, ...]:
    """Szegedy et al. 2015, table 1; local response normalisation as in fig. 3."""
    lrn = () if norm else (Lrn(),)
    return (
        Stage((chain(*lrn, C(64), C(192, 3), *lrn),), HALVE),
        Stage((_v1(64, 96, 128, 16, 32, 32, size), _v1(128, 128, 192, 32, 96, 64, size)), HALVE),
        Stage(
            (
                _v1(192, 96, 208, 16, 48, 64, size),
                _v1(160, 112, 224, 24, 64, 64, size),
                _v1(128, 128, 256, 24, 64, 64, size),
                _v1(112, 144, 288, 32, 64, 64, size),
                _v1(256, 160, 320, 32, 128, 128, size),
            ),
            HALVE,
        ),
        Stage(
            (_v1(256, 160, 320, 32, 128, 128, size), _v1(384, 192, 384, 48, 128, 128, size)),
            HALVE._replace(size=2) if norm else HALVE,
        ),
    )


def _v2(ones: int, reduce_3: int, threes: int, reduce_double: int, double: int, pooled: int, pool: Pool) -> Block:
    double_threes = (C(reduce_double), C(double, 3), C(double, 3))
    return Block(((C(ones),), (C(reduce_3), C(threes, 3)), double_threes, (pool, C(pooled))))


def _v2_halving(reduce_3: int, threes: int, reduce_double: int, double: int) -> Block:
    pool = Pool("max", 3, 2, "SAME")  # as the strided convolutions, for maps of odd sides too
    double_threes = (C(reduce_double), C(double, 3), C(double, 3, 2))
    return Block(((C(reduce_3), C(threes, 3, 2)), double_threes, (pool,)))


V2_STAGES = (  # Ioffe & Szegedy 2015, fig. 5
    Stage((chain(C(64), C(192, 3)),), HALVE),
    Stage((_v2(64, 64, 64, 64, 96, 32, AVERAGE), _v2(64, 64, 96, 64, 96, 64, AVERAGE)), HALVE),
    Stage(
        (
            _v2_halving(128, 160, 64, 96),
            _v2(224, 64, 96, 96, 128, 128, AVERAGE),
            _v2(192, 96, 128, 96, 128, 128, AVERAGE),
            _v2(160, 128, 160, 128, 160, 128, AVERAGE),
            _v2(96, 128, 192, 160, 192, 128, AVERAGE),
        )
    ),
    Stage(
        (
            _v2_halving(128, 192, 192, 256),
            _v2(352, 192, 320, 160, 224, 128, AVERAGE),
            _v2(352, 192, 320, 192, 224, 128, AROUND),
        )
    ),
)
VARIANTS = {  # stages, epsilon of BatchNorm, dropout
    "v1": (_v1_stages(5, norm=False), None, 0.4),
    "v1_bn": (_v1_stages(3, norm=True), 1e-3, 0.2),
    "v2": (V2_STAGES, 1e-5, 0.0),
}
NOTES = {
    "v1": "5x5 kernels and local response normalisation, as in the paper",
    "v1_bn": "BatchNorm and 3x3 in place of 5x5 kernels, as in torchvision",
    "v2": "BatchNorm, two 3x3 in place of a 5x5 kernel",
}


class AuxiliaryHead(nn.Module):
    """Auxiliary classifier on an inner map: [b, h, w, c] -> logits float32 [b, k]. Szegedy et al. 2015, sec. 5.

    The map is averaged to 4x4 places, as in torchvision; the paper's 5x5 windows of stride 3 give these from 14x14.

    Attributes:
      num_classes: Number k of classes.
      width, epsilon, dtype: See `inception_blocks.ConvUnit`.
      dropout: Rate of dropout behind the hidden layer.
    """

    num_classes: int
    width: float
    epsilon: float | None
    dtype: jnp.dtype
    dropout: float = 0.7

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to logits [b, k]."""
        x = ConvUnit(C(128), self.width, self.epsilon, self.dtype, name="unit")(adaptive_avg_pool(x, AUX_GRID), train)
        x = nn.relu(GridDense(AUX_HIDDEN, nn.initializers.he_normal(), self.dtype, name="fc")(x))
        return linear_head(self.num_classes, "normal")(Dropout(self.dropout)(x, train).astype(jnp.float32))


def _auxiliary(network: InceptionNet, name: str) -> nn.Module:
    assert network.num_classes is not None
    return AuxiliaryHead(network.num_classes, network.width, network.epsilon, network.dtype, name=name)


class GoogLeNet(InceptionNet):
    """Module of `googlenet`, which documents and checks the options."""


@part(
    "model",
    small={"variant": "v1_bn", "width": 1 / 16, "blocks": (1, 1, 1), "dropout": 0.0},
    variants={name: in_words((len(s.blocks) for s in VARIANTS[name][0]), NOTES[name]) for name in VARIANTS},
    image_size=MIN_SIZE,
)
def googlenet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "v1",
    width: float = 1.0,
    blocks: tuple[int, ...] | None = None,
    aux: bool = False,
    dropout: float | None = None,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> GoogLeNet:
    """GoogLeNet, that is Inception v1, and BN-Inception, which is also called Inception v2.

    Applied to float images [b, height, width, 3] of at least 32x32 pixels it returns float32 features [b, 1024] and
    `out`: "stem" (the first convolution, 1/2 of the image's sides), "stages" (the last maps at 1/4, 1/8, 1/16, 1/32),
    "blocks" (the map of every Inception module; the first is that of the convolutions at 1/4), "map" [b, h, w, 1024]
    (the last of them), "tokens" [b, h * w, 1024], "logits" float32 [b, k], and with `aux` "aux_logits", a pair of
    float32 [b, k]. With BatchNorm apply it with `mutable=["batch_stats"]` in training.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      variant: Form: "v1", the paper's (Szegedy et al. 2015, arXiv 1409.4842, table 1), "v1_bn", torchvision's, or "v2"
        (Ioffe & Szegedy 2015, arXiv 1502.03167, fig. 5; modules 4c and 4d have 608 channels, as their branches add up
        to, where the figure says 576).
      width: Factor of the channels of every convolution, above 0.
      blocks: Number of modules of each stage, counted from its first, for the first one to four stages; None for all.
      aux: True for two auxiliary classifiers, behind the modules 4a and 4d of "v1" and "v1_bn" (Szegedy et al. 2015,
        sec. 5). The task `supervised` trains them, see its `aux_weight`.
      dropout: Rate of dropout before the head, in [0, 1); None for the variant's: 0.4, 0.2 in torchvision, 0 in v2.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range; or, when it is applied, images that are too small.
    """
    stages, epsilon, rate_of_variant = VARIANTS[one_of("GoogLeNet variant", variant, VARIANTS)]
    if aux and (variant == "v2" or blocks is not None):
        raise UserError('aux=True is for the variants "v1" and "v1_bn" with all their blocks')
    return GoogLeNet(
        num_classes=num_classes,
        stem=STEM,
        stages=first_blocks("GoogLeNet", stages, blocks),
        width=positive("width", width),
        epsilon=epsilon,
        dropout=rate("dropout", rate_of_variant if dropout is None else dropout),
        min_size=MIN_SIZE,
        aux=AUX if aux else (),
        aux_head=_auxiliary if aux else None,
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
