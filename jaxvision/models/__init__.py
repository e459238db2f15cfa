"""Models by name. Each is a pure function of its variables: `apply(variables, images, train) -> (features, out)`.

`NAMES` maps a name to its builder, a plain function whose keyword arguments are the model's options.
The builder checks every value, so a mistake in a config is found before anything is compiled.
"""

import inspect
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxvision.errors import UserError, unknown
from jaxvision.models import resnet, resnet_v2, vit

NAMES = {"vit": vit.vit, "resnet": resnet.resnet, "bit": resnet_v2.bit}


def build(name: str, num_classes: int | None, dtype: jnp.dtype = jnp.float32, **kwargs: Any) -> nn.Module:
    """Builds a model.

    Args:
      name: a key of `NAMES`.
      num_classes: length of the logits; None for a model without a head.
      dtype: of the computation, float32 or bfloat16; parameters and logits are float32.
      **kwargs: the options of the builder, `NAMES[name]`.

    Returns:
      A Linen module. `module.apply(variables, images, train, rngs={"dropout": key},
      mutable=["batch_stats"])` takes float images [B, H, W, 3] and returns features [B, D] and a
      dict of every intermediate; both are documented at the builder.

    Raises:
      UserError: unknown name, option or value; the message names the choices.

    >>> build("vit", num_classes=10, variant="Ti/4").size.width
    192
    """
    if name not in NAMES:
        raise unknown("model", name, NAMES)
    builder = NAMES[name]
    options = [p for p in inspect.signature(builder).parameters if p not in ("num_classes", "dtype")]
    for option in kwargs:
        if option not in options:
            raise unknown(f"option of model {name!r}", option, options)
    if num_classes is not None and num_classes < 1:
        raise UserError(f"num_classes is at least 1, or None for a model without a head, not {num_classes!r}")
    return builder(num_classes=num_classes, dtype=dtype, **kwargs)
