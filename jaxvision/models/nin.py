"""Network in Network: Lin et al. 2014, arXiv 1312.4400, as Gidaris et al. 2018 train it to recognise rotations."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import Conv, batch_norm, global_mean, max_pool
from jaxvision.models.options import one_of, positive
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.registry import part

LAYERS = (  # size of the first kernel and channels of the three convolutions; a stage after these is like the last
    (5, (192, 160, 96)),
    (5, (192, 192, 192)),
    (3, (192, 192, 192)),
)


class NinStage(nn.Module):
    """Three convolutions with BatchNorm and ReLU, the first of `size`, then 1x1: [b, h, w, c] -> [b, h, w, c']."""

    size: int
    channels: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h, w, c']."""
        for i, channels in enumerate(self.channels, start=1):
            x = Conv(channels, self.size if i == 1 else 1, dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(batch_norm(f"norm{i}", train, self.dtype)(x))
        return x


class NetworkInNetwork(nn.Module):
    """Module of `nin`, which documents and checks the options."""

    num_classes: int | None
    blocks: int
    width: float = 1.0
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(self.blocks)[1:]  # no stem

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        x, stages = images, []
        for i in range(self.blocks):
            size, channels = LAYERS[min(i, len(LAYERS) - 1)]
            scaled = tuple(round(c * self.width) for c in channels)
            x = NinStage(size, scaled, self.dtype, name=f"stage{i + 1}")(x, train)
            if i == 0:
                x = max_pool(x)
            elif i == 1:  # padding counts in the average, as in torch
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

    As in the authors' config, the first stage ends in a 3x3 max pooling of stride 2, the second in such an average
    pooling, and the others in none. So the maps of 32x32 images are 16x16 after the first stage, then 8x8.

    Applied to float images [b, height, width, 3] it returns float32 features [b, 192] and `out`: "stages" (the map of
    each stage: the paper's ConvB2 is "stages/1"), "map" [b, h, w, 192] (the last of them), "tokens" [b, h * w, 192],
    and "logits" float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      blocks: Number of stages, from 3 to 9; the paper has 3, 4 and 5.
      width: Factor of the channels of every layer, above 0.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An option value out of range.
    """
    one_of("blocks of NIN", blocks, range(3, 10))
    one_of("head_init", head_init, HEAD_INITS)
    return NetworkInNetwork(num_classes, blocks, positive("width", width), head_init, head_bias, dtype)
