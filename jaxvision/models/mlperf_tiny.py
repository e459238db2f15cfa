"""The ResNet-8 of MLPerf Tiny: Banbury et al. 2021, arXiv 2106.07597, sec. 4.1; code in mlcommons/tiny."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import BatchNorm, global_mean
from jaxvision.models.options import one_of
from jaxvision.models.order import Groups, stem_and_stages
from jaxvision.registry import part

BATCH_NORM_EPSILON = 1e-3  # Keras's


class MlperfBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [b, h, w, c] -> [b, ceil(h / stride), ceil(w / stride), channels]."""

    channels: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, h, w, c] to [b, h / stride, w / stride, channels]."""
        y = nn.relu(norm("norm1", train, self.dtype)(conv("conv1", self.channels, 3, self.stride, self.dtype)(x)))
        y = norm("norm2", train, self.dtype)(conv("conv2", self.channels, 3, 1, self.dtype)(y))
        if self.stride > 1:
            x = conv("shortcut_conv", self.channels, 1, self.stride, self.dtype)(x)
        return nn.relu(x + y)


def conv(name: str, channels: int, size: int, stride: int, dtype: jnp.dtype) -> nn.Conv:
    """Makes Keras's convolution, with a bias, "SAME" padding, and the initialiser "he_normal".

    Args:
      name: Name of the parameters.
      channels: Number of output channels.
      size: Side of the kernel in pixels.
      stride: Step in pixels, down and across.
      dtype: Type of the computation, float32 or bfloat16.
    """
    init = nn.initializers.he_normal()
    return nn.Conv(channels, (size, size), (stride, stride), "SAME", kernel_init=init, dtype=dtype, name=name)


def norm(name: str, train: bool, dtype: jnp.dtype) -> BatchNorm:
    """Makes a BatchNorm with Keras's momentum and epsilon.

    Args:
      name: Name of the parameters and statistics.
      train: True to normalise with the statistics of the batch, False with the running ones.
      dtype: Type of the result, float32 or bfloat16.
    """
    return BatchNorm(train=train, momentum=0.99, epsilon=BATCH_NORM_EPSILON, dtype=dtype, name=name)


class MlperfResNet8(nn.Module):
    """Module of `mlperf_resnet8`, which documents and checks the options."""

    num_classes: int | None
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return stem_and_stages(3)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        x = conv("stem_conv", 16, 3, 1, self.dtype)(images)
        x = nn.relu(norm("stem_norm", train, self.dtype)(x))
        out: dict[str, Any] = {"stem": x}
        stages = []
        for i, channels in enumerate((16, 32, 64)):
            x = MlperfBlock(channels, 1 if i == 0 else 2, self.dtype, name=f"stage{i + 1}")(x, train)
            stages.append(x)
        out["stages"] = tuple(stages)
        out["map"] = x
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        features = global_mean(x)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part("model")
def mlperf_resnet8(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> MlperfResNet8:
    """MLPerf Tiny's ResNet-8 for CIFAR-10, to load its published Keras weights. `resnet` 8 has the usual blocks.

    There are three stages of one block. They differ from those of He et al. 2016: convolutions have a bias and
    TensorFlow's "SAME" padding (only at the right and the bottom of a strided 3x3 convolution), projections have no
    norm, and BatchNorm has an epsilon of 1e-3 and a momentum of 0.99. The published weights expect RGB in [0, 255],
    not normalised.

    Applied to float images [b, height, width, 3] it returns float32 features [b, 64] and `out`: "stem", "stages"
    (the map of each stage), "map" [b, h, w, 64] (the last of them), "tokens" [b, h * w, 64], and "logits"
    float32 [b, k]. In training apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and statistics are float32.
      head_init: Initialiser of the head, "normal" or "zeros". Keras's own is "he_normal".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An option value out of range.
    """
    one_of("head_init", head_init, HEAD_INITS)
    return MlperfResNet8(num_classes=num_classes, head_init=head_init, head_bias=head_bias, dtype=dtype)
