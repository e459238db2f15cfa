"""Models whose features are the pixels: a linear classifier, and no classifier at all."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.options import one_of
from jaxvision.models.order import Groups
from jaxvision.registry import part


def grey_channel(images: jax.Array) -> jax.Array:
    """Takes the mean of the channels, which of a grey image are equal, since `decode` makes three of them.

    Args:
      images: Images, float [b, h, w, c].

    Returns:
      float [b, h, w, 1].

    >>> grey_channel(jnp.array([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)).tolist()
    [[[[0.5]]]]
    """
    return images.mean(axis=-1, keepdims=True)


class Pixels(nn.Module):
    """Module of `linear` and of `identity`, which document and check the options."""

    num_classes: int | None
    grey: bool = False
    trained: bool = True
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return ()  # nothing but the head

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, c] to their pixels [b, d], and to logits [b, k] if the model has classes."""
        del train  # the same in training and in evaluation
        x = (grey_channel(images) if self.grey else images).astype(self.dtype)
        b, h, w, c = x.shape
        features = x.reshape(b, -1).astype(jnp.float32)
        out = {"stages": (x,), "map": x, "tokens": x.reshape(b, h * w, c)}
        if self.num_classes and self.trained:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        elif self.num_classes:
            out["logits"] = jnp.zeros((b, self.num_classes), jnp.float32)
        return features, out


@part("model")
def linear(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    grey: bool = False,
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> Pixels:
    """Linear classifier: one affine map of the pixels; 30,730 parameters for ten classes of 32x32 colour images.

    A column of `head/kernel`, in the shape of an image, is the template of its class.

    Applied to float images [b, h, w, c] it returns the features, the pixels row by row, float32 [b, h * w * c], and
    `out`: "map" [b, h, w, c] (the image), "stages" (only the map), "tokens" [b, h * w, c], and "logits"
    float32 [b, k]. Images of another size need another model.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head, which leaves no parameters.
      dtype: Type of the computation, float32 or bfloat16; parameters and logits are float32.
      grey: True to see the mean of the three channels only, for grey images.
      head_init: Initialiser of the weights, "normal" or "zeros".
      head_bias: Initial logit of every class.

    Raises:
      UserError: An option value out of range.
    """
    return Pixels(num_classes, grey, True, one_of("head_init", head_init, HEAD_INITS), head_bias, dtype)


@part("model", head=False)
def identity(*, num_classes: int | None, dtype: jnp.dtype = jnp.float32, grey: bool = False) -> Pixels:
    """No network: the features are the pixels, so that k-NN, probes, class means and search work on raw images.

    It has no parameters. A run of zero steps, `train.total="0 steps"`, makes a workdir for `evaluate`, `search` and the
    other commands. Its logits are 0 for every class, the uniform prediction, so `classify` gives the share of class 0.

    Applied to float images [b, h, w, c] it returns the same as `linear`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no logits.
      dtype: Type of the features, float32 or bfloat16, to which pixels are rounded.
      grey: True to see the mean of the three channels only, for grey images.
    """
    return Pixels(num_classes, grey, False, dtype=dtype)
