"""Models by name. Each is a pure function of its variables: `apply(variables, images, train) -> (features, out)`.

`NAMES` maps a name to its builder, a plain function whose keyword arguments are the model's options.
The builder checks every value, so a mistake in a config is found before anything is compiled.
`TEXT_NAMES` are the same for text: `apply(variables, tokens, train)`, without a head, built by `build_text`.
`PAIR_NAMES` are of both, `apply(variables, images, tokens, train)`, and built by `build`, without classes.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxvision import arguments
from jaxvision.errors import UserError, unknown
from jaxvision.models import (
    bit,
    clip_resnet,
    convnext,
    heads,
    lenet,
    mixer,
    mlperf_tiny,
    nin,
    resnet,
    resnet_v2,
    text,
    two_towers,
    vit,
    wide_resnet,
)
from jaxvision.models.options import bounded, whole

NAMES = {
    "vit": vit.vit,
    "mixer": mixer.mixer,
    "convnext": convnext.convnext,
    "clip_resnet": clip_resnet.clip_resnet,
    "resnet": resnet.resnet,
    "resnet_v2": resnet_v2.resnet_v2,
    "wide_resnet": wide_resnet.wide_resnet,
    "bit": bit.bit,
    "lenet": lenet.lenet,
    "mlperf_resnet8": mlperf_tiny.mlperf_resnet8,
    "nin": nin.nin,
}
TEXT_NAMES = {"text_transformer": text.text_transformer}
PAIR_NAMES = {"two_towers": two_towers.two_towers}


def build(
    name: str,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    projection_layers: int = 0,
    projection_hidden: int | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Builds a model.

    Args:
      name: a key of `NAMES`, or of `PAIR_NAMES`.
      num_classes: length of the logits; None for a model without a head.
      dtype: of the computation, float32 or bfloat16; parameters and logits are float32.
      projection_layers: of a projection head, from the first, that belong to the model: features and logits are those
        behind them. So fine-tuning starts from a middle layer of SimCLR's head (Chen et al. 2020b, SimCLRv2, sec. 2).
      projection_hidden: units of these layers, by default as many as there are features.
      **kwargs: the options of the builder, `NAMES[name]`.

    Returns:
      A Linen module. `module.apply(variables, images, train, rngs={"dropout": key},
      mutable=["batch_stats"])` takes float images [B, H, W, 3] and returns features [B, D] and a
      dict of every intermediate; both are documented at the builder.

    Raises:
      UserError: unknown name, option or value; the message names the choices.

    >>> build("vit", num_classes=10, variant="Ti/4").width
    192
    """
    if num_classes is not None and num_classes < 1:
        raise UserError(f"num_classes is at least 1, or None for a model without a head, not {num_classes!r}")
    whole("projection_layers", projection_layers, low=0)
    bounded(f"model {name!r}", {"projection_layers": projection_layers, "projection_hidden": projection_hidden})
    whole("projection_hidden", projection_hidden, optional=True)
    if name in PAIR_NAMES:
        if num_classes is not None:
            raise UserError(f"the model {name!r} has no classes: it is for the task 'image_text'")
        if projection_layers:
            raise UserError(f"projection_layers are of a backbone; {name!r} has projections of its own")
        return _builder("model", name, PAIR_NAMES, kwargs)(dtype=dtype)
    builder = _builder("model", name, NAMES | PAIR_NAMES, kwargs)
    if not projection_layers:
        return builder(num_classes=num_classes, dtype=dtype)
    projection = heads.Projection(projection_layers, hidden=projection_hidden, dtype=dtype)
    return heads.Projected(builder(num_classes=None, dtype=dtype), projection, num_classes)


def build_text(name: str, dtype: jnp.dtype = jnp.float32, **kwargs: Any) -> nn.Module:
    """Builds a text model.

    Args:
      name: a key of `TEXT_NAMES`.
      dtype: of the computation, float32 or bfloat16; parameters are float32.
      **kwargs: the options of the builder, `TEXT_NAMES[name]`.

    Returns:
      A Linen module. `module.apply(variables, tokens, train, rngs={"dropout": key})` takes token ids,
      int32 [B, L], and returns features [B, D] and a dict of every intermediate, as documented at the builder.

    Raises:
      UserError: unknown name, option or value; the message names the choices.

    >>> build_text("text_transformer", variant="B").width
    768
    """
    return _builder("text model", name, TEXT_NAMES, kwargs)(dtype=dtype)


def _builder(kind: str, name: str, names: dict[str, Callable], kwargs: dict[str, Any]) -> Callable[..., nn.Module]:
    """The builder of this name with its options, once they are found to be some that it has, of the right kinds."""
    if name not in names:
        raise unknown(kind, name, names)
    parameters = inspect.signature(names[name]).parameters
    options = [p for p in parameters if p not in ("num_classes", "dtype")]
    for option in kwargs:
        if option not in options:
            raise unknown(f"option of {kind} {name!r}", option, options)
    arguments.check(names[name], kwargs, f"{kind} {name!r}: ")
    bounded(f"{kind} {name!r}", kwargs)
    return partial(names[name], **kwargs)
