"""Network in Network: Lin et al. 2014, arXiv 1312.4400, as Gidaris et al. 2018 train it to recognise rotations."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.found import part
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, batch_norm, global_mean, max_pool
from jaxvision.models.options import one_of, positive
from jaxvision.models.order import Groups, stem_and_stages

LAYERS = (  # size of the first kernel and channels of the three convolutions; a stage after these is like the last
    (5, (192, 160, 96)),
    (5, (192, 192, 192)),
    (3, (192, 192, 192)),
)


class Stage(nn.Module):
    """Three convolutions with BatchNorm and ReLU, the first of `size`, then 1x1: [B, H, W, C] -> [B, H, W, C']."""

    size: int
    channels: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i, channels in enumerate(self.channels, start=1):
            x = Conv(channels, self.size if i == 1 else 1, dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(batch_norm(f"norm{i}", train, self.dtype)(x))
        return x


class NetworkInNetwork(nn.Module):
    """See `nin` for the options, which are checked there."""

    num_classes: int | None
    blocks: int
    width: float = 1.0
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """See `order`."""
        return stem_and_stages(self.blocks)[1:]  # no stem

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        x, stages = images, []
        for i in range(self.blocks):
            size, channels = LAYERS[min(i, len(LAYERS) - 1)]
            channels = tuple(round(c * self.width) for c in channels)
            x = Stage(size, channels, self.dtype, name=f"stage{i + 1}")(x, train)
            if i == 0:
                x = max_pool(x)
            elif i == 1:  # what is padded counts in the average, as in torch
                x = nn.avg_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
            stages.append(x)
        out = {"stages": tuple(stages), "map": x, "tokens": x.reshape(x.shape[0], -1, x.shape[-1])}
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part("model", small={"blocks": 4, "width": 1 / 12})
def nin(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    blocks: int = 4,
    width: float = 1.0,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> NetworkInNetwork:
    """Network in Network with BatchNorm, the network of Gidaris et al. 2018, arXiv 1803.07728, sec. 3.1, for CIFAR-10.

    A 3x3 pooling of stride 2 ends the first stage (maximum) and the second (mean), none the others, as in the authors'
    config: images of 32 x 32 have maps of 16 x 16 after the first stage and 8 x 8 from the second on.

    Applied to float images [B, H, W, 3] it returns float32 features [B, 192] and `out`: "stages" (the map of each
    stage: the paper's ConvB2 is "stages/1"), "map" [B, h, w, 192] (the last of them), "tokens" [B, h * w, 192], and
    "logits" float32 [B, K]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: K, or None for no head.
      dtype: of the computation; parameters and statistics are float32.
      blocks: number of stages, at least 3; the paper's have 3, 4 and 5.
      width: multiplies the channels of every layer.
      head_init: "normal" or "zeros".
      head_bias: initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: an option value out of range.
    """
    one_of("blocks of NIN", blocks, range(3, 10))
    one_of("head_init", head_init, HEAD_INITS)
    return NetworkInNetwork(num_classes, blocks, positive("width", width), head_init, head_bias, dtype)
