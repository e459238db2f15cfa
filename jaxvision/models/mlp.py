"""Multilayer perceptron on pixels: Rumelhart et al. 1986, with the layers of today as options."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models import activations
from jaxvision.models.drop_connect import DropConnectDense
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.inits import KERNEL_INITS
from jaxvision.models.layers import Dropout, batch_norm
from jaxvision.models.linear import grey_channel
from jaxvision.models.options import one_of, rate, whole
from jaxvision.models.order import Groups
from jaxvision.registry import part


class MultilayerPerceptron(nn.Module):
    """Module of `mlp`, which documents and checks the options."""

    num_classes: int | None
    hidden: tuple[int, ...]
    activation: str = "relu"
    norm: bool = False
    dropout: float = 0.0
    dropconnect: float = 0.0
    grey: bool = False
    kernel_init: str = "he"
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        return tuple((f"dense{i}", f"norm{i}", f"act{i}") for i in range(1, len(self.hidden) + 1))

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, c] to features [b, d], and to logits [b, k] if the model has classes."""
        x = (grey_channel(images) if self.grey else images).astype(self.dtype)
        x = x.reshape(len(x), -1)
        pieces, kernel_init = activations.activation(self.activation).pieces, KERNEL_INITS[self.kernel_init]
        stages = []
        for i, width in enumerate(self.hidden, start=1):
            dense = DropConnectDense(width * pieces, self.dropconnect, kernel_init, self.dtype, name=f"dense{i}")
            x = dense(x, train)
            if self.norm:
                x = batch_norm(f"norm{i}", train, self.dtype)(x)
            x = activations.Activate(self.activation, name=f"act{i}")(x)
            stages.append(x)
            x = Dropout(self.dropout)(x, train)
        features = x.astype(jnp.float32)
        out: dict[str, Any] = {"stages": tuple(stages)}
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


@part("model", small={"hidden": (16, 8)})
def mlp(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    hidden: tuple[int, ...] = (256,),
    activation: str = "relu",
    norm: bool = False,
    dropout: float = 0.0,
    dropconnect: float = 0.0,
    grey: bool = False,
    kernel_init: str = "he",
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> MultilayerPerceptron:
    """Fully connected layers on the pixels, and a linear head; 203,530 parameters for 784-256-10.

    Applied to float images [b, h, w, c] it returns float32 features [b, d] and `out`: "stages" (the activations
    [b, d_i] of each hidden layer) and "logits" float32 [b, k]. Images of another size need another model. In training
    with `norm` apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and logits are float32.
      hidden: Numbers of units of the hidden layers, from the input on.
      activation: Activation of the hidden layers, such as "relu", "leaky_relu(0.1)" or "maxout(2)"; see
        models/activations.py. A maxout layer has as many linear pieces for each unit as it says.
      norm: True for BatchNorm between a hidden layer and its activation.
      dropout: Rate of dropout after each hidden layer, in [0, 1).
      dropconnect: Rate in [0, 1) at which each weight of the hidden layers is dropped, for each example by itself (Wan
        et al. 2013). It takes memory for as many weights for each example of a batch.
      grey: True to see the mean of the three channels only, for grey images.
      kernel_init: Initialiser of the hidden layers: "he", "xavier" or "lecun".
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class.

    Raises:
      UserError: An unknown activation or initialiser, or an option value out of range.
    """
    activations.activation(activation)  # an unknown one is an error now
    for i, width in enumerate(hidden):
        whole(f"hidden[{i}]", width)
    return MultilayerPerceptron(
        num_classes=num_classes,
        hidden=tuple(hidden),
        activation=activation,
        norm=norm,
        dropout=rate("dropout", dropout),
        dropconnect=rate("dropconnect", dropconnect),
        grey=grey,
        kernel_init=one_of("kernel_init", kernel_init, KERNEL_INITS),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
