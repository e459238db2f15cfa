"""LeNet-5 as it is built today: LeCun et al. 1998, "Gradient-based learning applied to document recognition"."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.layers import global_mean, max_pool
from jaxvision.models.options import one_of
from jaxvision.models.order import Groups
from jaxvision.registry import part

MIN_SIZE = 32


class LeNet(nn.Module):
    """Module of `lenet`, which documents and checks the options."""

    num_classes: int | None
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return ("c1",), ("c3",), ("c5",), ("f6",)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, 3] to features [b, d], or to logits [b, k] if the model has classes."""
        del train  # the same in training and in evaluation
        if min(images.shape[1:3]) < MIN_SIZE:
            raise UserError(f"LeNet needs images of at least {MIN_SIZE}x{MIN_SIZE} pixels, not {images.shape[1:3]}")
        x = images
        stages = []
        for name, channels in {"c1": 6, "c3": 16, "c5": 120}.items():  # sec. II.B
            x = nn.Conv(channels, (5, 5), padding="VALID", dtype=self.dtype, name=name)(x)
            x = nn.relu(x)
            if name != "c5":
                x = max_pool(x, size=2, padding=0)
            stages.append(x)
        out: dict[str, Any] = {"stem": stages[0], "stages": tuple(stages), "map": x}
        out["tokens"] = x.reshape(x.shape[0], -1, x.shape[-1])
        x = global_mean(x)  # the map of a 32x32 image has one pixel
        features = nn.relu(nn.Dense(84, name="f6")(x))
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part("model", image_size=32)
def lenet(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> LeNet:
    """LeNet-5 with ReLU, max pooling and a linear head; 61,706 parameters for 10 classes of grey 32x32 images.

    This is the form in most libraries and courses. The original has scaled tanh, trained average pooling, C3 connected
    to some of S2's maps, and radial basis functions instead of the head.

    Applied to float images [b, h, w, c] of at least 32x32 pixels it returns float32 features [b, 84] (F6) and
    `out`: "stem" and "stages" (after C1, C3 and C5, each with its pooling), "map" [b, h, w, 120] (the last of
    them), "tokens" [b, h * w, 120], and "logits" float32 [b, k]. F6 sees the mean of the map's pixels.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class; -10 suits a sigmoid loss over many classes.

    Raises:
      UserError: An option value out of range; or, when it is applied, images that are too small.
    """
    one_of("head_init", head_init, HEAD_INITS)
    return LeNet(num_classes=num_classes, head_init=head_init, head_bias=head_bias, dtype=dtype)
