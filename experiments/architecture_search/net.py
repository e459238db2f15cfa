"""The networks of supernet.py as a model, for sweeps that train each network when it is chosen.

c.model = dict(name="experiments.architecture_search.net:layered_net", layer0="conv3", layer1="mean3")
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import linear_head
from jaxvision.models.layers import global_mean
from jaxvision.models.options import one_of
from jaxvision.registry import part

OPS = ("identity", "pixel", "conv3", "mean3")
he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class LayeredNet(nn.Module):
    """Module of `layered_net`, which documents and checks the options."""

    num_classes: int | None
    layers: tuple[str, ...]
    dtype: jnp.dtype
    channels: int = 16

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        del train  # the same in training and in evaluation
        x = nn.relu(self._conv("stem", 5, 4)(images))  # b h/4 w/4 c
        stages = [x]
        for i, op in enumerate(self.layers):
            if op == "mean3":
                x = nn.avg_pool(x, (3, 3), padding="SAME")
            elif op != "identity":
                x = nn.relu(self._conv(f"layer{i}", 3 if op == "conv3" else 1, 1)(x))
            stages.append(x)
        features = global_mean(x)
        out: dict[str, Any] = {"stages": tuple(stages), "map": x}
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, "normal")(features)
        return features, out

    def _conv(self, name: str, size: int, stride: int) -> nn.Conv:
        options: dict[str, Any] = dict(use_bias=False, kernel_init=he_normal, dtype=self.dtype, name=name)
        return nn.Conv(self.channels, (size, size), (stride, stride), **options)


@part("model")
def layered_net(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    layer0: str = "conv3",
    layer1: str = "conv3",
    layer2: str = "conv3",
) -> LayeredNet:
    """A 5x5 convolution with stride 4, three layers to choose, and the mean over positions.

    Applied to float images [b, height, width, 3] it returns float32 features [b, d] and `out`: "stages" (the map after
    each layer), "map" [b, h, w, d] (the last of them), and "logits" float32 [b, k].

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      layer0, layer1, layer2: Operation of each layer: "identity", "pixel" (1x1 convolution and ReLU), "conv3" (3x3) or
        "mean3" (mean over 3x3 pixels).

    Raises:
      UserError: An unknown operation.
    """
    layers = tuple(one_of("operation of a layer", op, OPS) for op in (layer0, layer1, layer2))
    return LayeredNet(num_classes=num_classes, layers=layers, dtype=dtype)
