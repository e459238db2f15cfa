"""Swin Transformer v2: Liu et al. 2022, arXiv 2111.09883. Norms after the branches, cosines, a network for the bias."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.models import windows
from jaxvision.models.heads import HEAD_INITS
from jaxvision.models.layers import DropPath
from jaxvision.models.options import in_words, one_of, positive, rate
from jaxvision.models.swin import DEVIATIONS, EPSILON, NORMAL, Swin, heads_of
from jaxvision.models.transformer import GELUS, Mlp, attend
from jaxvision.registry import part

VARIANTS = {  # blocks of each stage, channels of the first; Liu et al. 2022, sec. 3.4
    "tiny": ((2, 2, 6, 2), 96),
    "small": ((2, 2, 18, 2), 96),
    "base": ((2, 2, 18, 2), 128),
}
LEAST_TEMPERATURE = 0.01
BIAS_UNITS = 512  # of the network for the bias
LARGEST_BIAS = 16


def log_offsets(size: tuple[int, int], pretrained: int | None) -> np.ndarray:
    """Computes the log-spaced coordinates of all offsets between two places of a window.

    Args:
      size: Height and width of the window.
      pretrained: Side of the window in pretraining, whose largest offset is 1; None for this window.

    Returns:
      float32 [(2 * rows - 1) * (2 * columns - 1), 2]: (down, across), 0 for no offset, about 1.06 for the largest one
      of pretraining, in the order of `windows.offsets`.

    Source: Liu et al. 2022, sec. 3.3, eq. 4; the factor of 8 and the logarithm to the base 8 are the authors' code's.

    >>> print(log_offsets((1, 2), None).round(3))
    [[ 0.    -1.057]
     [ 0.     0.   ]
     [ 0.     1.057]]
    """
    spans = [(pretrained or side) - 1 for side in size]
    sides = [8 * np.arange(1 - side, side) / max(span, 1) for side, span in zip(size, spans)]
    offsets = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
    return (np.sign(offsets) * np.log2(np.abs(offsets) + 1) / math.log2(8)).astype(np.float32)


class CosineAttention(nn.Module):
    """Attention within windows by the cosine of queries and keys: [b, m, n, c] -> the same.

    Its kernels are those of `transformer.Attention`; keys have no bias. A network of two layers makes the bias of each
    offset, so that the weights serve windows of any size.

    Source: Liu et al. 2022, eq. 2 and 3; as in the authors' code, the bias lies between 0 and 16.

    Attributes:
      num_heads: Number of heads.
      pretrained_window: Side of the window in pretraining; None for the window at hand.
      dtype: Type of the computation, float32 or bfloat16; cosines and softmax are float32.
    """

    num_heads: int
    pretrained_window: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, cover: windows.Windows) -> jax.Array:
        """Maps windows x [b, m, n, c] to the same shape."""
        c = x.shape[-1]
        heads = (self.num_heads, c // self.num_heads)
        dense = functools.partial(nn.DenseGeneral, kernel_init=NORMAL, dtype=self.dtype)
        query, value = dense(heads, name="query")(x), dense(heads, name="value")(x)
        key = dense(heads, use_bias=False, name="key")(x)  # b m n heads c/heads
        logs = self.param("log_scale", nn.initializers.constant(math.log(10)), (self.num_heads,))
        query = unit(query) * jnp.exp(jnp.minimum(logs, -math.log(LEAST_TEMPERATURE)))[:, None]
        y = attend(query, unit(key), value, bias=self._bias(cover), scale=1.0).astype(self.dtype)
        return dense(c, axis=(-2, -1), name="out")(y)

    def _bias(self, cover: windows.Windows) -> jax.Array:
        """Returns what is added to the products: float32 [heads, n, n], or [m, heads, n, n] for shifted windows."""
        x = nn.relu(nn.Dense(BIAS_UNITS, name="bias_0")(log_offsets(cover.size, self.pretrained_window)))
        table = nn.Dense(self.num_heads, use_bias=False, name="bias_1")(x)
        bias = LARGEST_BIAS * nn.sigmoid(table)[windows.offsets(cover.size, cover.size)].transpose(2, 0, 1)
        hidden = windows.hidden(cover)
        return bias if hidden is None else bias + hidden


def unit(x: jax.Array) -> jax.Array:
    """Scales vectors to length 1, in float32. A zero vector stays zero, with a zero gradient.

    Args:
      x: Vectors, float [..., d].

    Returns:
      float32 [..., d].

    >>> bool(jnp.allclose(unit(jnp.array([3.0, 4.0])), jnp.array([0.6, 0.8])))
    True
    """
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))  # torch's least length, squared


class SwinV2Block(nn.Module):
    """Attention within windows, then an MLP, each before a LayerNorm: [b, h, w, c] -> the same.

    Source: Liu et al. 2022, sec. 3.2, fig. 1.

    Attributes:
      num_heads: Number of heads.
      shifted: True to shift the windows by half of their side.
      window: Side of a window.
      pretrained_window: Side of the window in pretraining; None for the window at hand.
      drop_path: Rate of stochastic depth at strength 1.
      gelu: Form of the GELU, a key of `transformer.GELUS`.
      norm_epsilon: Number that is added to the variance in the LayerNorms.
      dtype: Type of the computation, float32 or bfloat16.
    """

    num_heads: int
    shifted: bool
    window: int
    pretrained_window: int | None
    drop_path: float
    gelu: str
    norm_epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, strength: float, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to the same shape."""
        drop_path = DropPath(self.drop_path)
        zeros = nn.initializers.zeros
        norm = functools.partial(nn.LayerNorm, self.norm_epsilon, dtype=self.dtype, scale_init=zeros)
        cover = windows.cover(x.shape[1:3], self.window, self.shifted)
        attention = CosineAttention(self.num_heads, self.pretrained_window, self.dtype, name="attention")
        y = windows.join(attention(windows.split(x, cover), cover), cover)
        x = x + drop_path(norm(name="attention_norm")(y), strength, train)
        y = Mlp(4 * x.shape[-1], gelu=self.gelu, deviations=DEVIATIONS, dtype=self.dtype, name="mlp")(x, train)
        return x + drop_path(norm(name="mlp_norm")(y), strength, train)


class SwinV2(Swin):
    """Module of `swin_v2`, which documents and checks the options."""

    pretrained_window: int | None = None

    norm_last = True

    def block(self) -> Callable[..., nn.Module]:
        """Returns the factory of a block, `(num_heads, shifted, name) -> module`."""
        return functools.partial(
            SwinV2Block,
            window=self.window,
            pretrained_window=self.pretrained_window,
            drop_path=self.drop_path,
            gelu=self.gelu,
            norm_epsilon=self.norm_epsilon,
            dtype=self.dtype,
        )


@part(
    "model",
    small={"blocks": (1, 2), "channels": 8, "num_heads": 2, "window": 2, "patch": 2},
    variants={
        name: in_words(blocks, f"{channels} channels in the first") for name, (blocks, channels) in VARIANTS.items()
    },
)
def swin_v2(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str = "tiny",
    blocks: tuple[int, ...] | None = None,
    channels: int | None = None,
    num_heads: int | None = None,
    window: int = 8,
    pretrained_window: int | None = None,
    patch: int = 4,
    drop_path: float = 0.0,
    gelu: str = "exact",
    norm_epsilon: float = EPSILON,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> SwinV2:
    """Swin Transformer v2.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] (the mean over places) and `out`:
    "stem", "stages" (the map of each stage), "map" [b, h, w, d] (after the last norm), "tokens" [b, h * w, d], and
    "logits" float32 [b, k]. Height and width are any multiples of `patch`, and the weights serve windows of any size;
    maps are padded as in `swin`. The scales of the norms behind the branches start at 0, as in the authors' code, so
    that a block starts as the identity.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      variant: Name of the size: "tiny", "small" or "base".
      blocks: Number of blocks of each stage; None for the variant's. The windows of every second one are shifted.
      channels: Number of channels of the first stage; None for the variant's. Each next stage has twice as many.
      num_heads: Number of heads in the first stage; None for heads of 32 channels. Each next stage has twice as many.
      window: Side of a window in places of the map; 8 or 16 for images of 256 pixels in the paper.
      pretrained_window: Side of the window with which the weights were pretrained, if it was another one: offsets are
        measured by it. None for the window at hand, which along a short map is the map's side.
      patch: Side of a patch in pixels; 4 in the paper, 1 or 2 suits small images.
      drop_path: Rate of stochastic depth in the last block, in [0, 1); it grows linearly from 0 in the first.
      gelu: Form of the GELU: "exact" (erf) as in the authors' code and timm, "tanh" or "quick".
      norm_epsilon: Number that is added to the variance in every LayerNorm.
      head_init: Initialiser of the head: "normal" (standard deviation 0.01; 0.02 in the authors' code) or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An unknown variant, or an option value out of range.
    """
    variant_blocks, variant_channels = VARIANTS[one_of("Swin v2 variant", variant, VARIANTS)]
    channels = positive("channels", variant_channels if channels is None else channels)
    return SwinV2(
        num_classes=num_classes,
        blocks=tuple(blocks or variant_blocks),
        channels=channels,
        num_heads=heads_of(channels, num_heads),
        window=positive("window", window),
        pretrained_window=None if pretrained_window is None else positive("pretrained_window", pretrained_window),
        patch=positive("patch", patch),
        drop_path=rate("drop_path", drop_path),
        gelu=one_of("gelu", gelu, GELUS),
        norm_epsilon=positive("norm_epsilon", norm_epsilon),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
