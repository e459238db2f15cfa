"""Models by name. Each is a pure function of its variables: `apply(variables, images, train) -> (features, out)`.

`NAMES` holds the builders of this folder by name. A builder is a plain function whose keyword arguments are the model's
options, in a file of its own, decorated with `@part("model", small=...)`. It checks every value, so a mistake in a
config is found before anything is compiled. `variants=` of the decorator lists its variants; "S/16" stands for all
patches of that size. `image_size=` is the only size that it takes.
`TEXT_NAMES` holds the builders of text models: `apply(variables, tokens, train)`, without a head, for `build_text`.
`PAIR_NAMES` holds those of models of images and texts: `apply(variables, images, tokens, train)`, without classes, for
`build`. A model of your own has the name "package.module:function".
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxvision import calls, own_modules
from jaxvision.errors import UserError
from jaxvision.models import heads
from jaxvision.models.options import bounded, whole
from jaxvision.registry import PartRegistry, declaration

NAMES = PartRegistry("model", [__name__], required=("num_classes", "dtype"), usage='c.model = dict(name="NAME")')
TEXT_NAMES = PartRegistry(
    "text model", [__name__], required=("dtype",), usage='c.model = dict(name="two_towers", text=dict(name="NAME"))'
)
PAIR_NAMES = PartRegistry("pair model", [__name__], required=("dtype",), usage='c.model = dict(name="NAME")')


def is_pair(name: str) -> bool:
    """Returns True if a name is the name of a model of images and texts.

    Args:
      name: Name of a built-in model, or "package.module:function".

    Raises:
      UserError: A user's own model that cannot be imported.
    """
    if own_modules.is_own(name):
        return declaration(PAIR_NAMES.kind, NAMES.resolve(name, PAIR_NAMES)) is not None
    return name in PAIR_NAMES


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
      name: Key of `NAMES` or of `PAIR_NAMES`, or "package.module:function".
      num_classes: Number of classes, at least 1; None for a model without a head.
      dtype: Type of the computation, float32 or bfloat16; parameters and logits are float32.
      projection_layers: Number of layers of a projection head, from the first, that belong to the model; features and
        logits come after them. So fine-tuning can start from a middle layer of SimCLR's head (Chen et al. 2020b,
        SimCLRv2, sec. 2). 0 for none.
      projection_hidden: Number of units of these layers; None for as many as there are features.
      **kwargs: Options of the builder.

    Returns:
      A Linen module. `module.apply(variables, images, train, rngs={"dropout": key}, mutable=["batch_stats"])` takes
      float images [b, height, width, 3] and returns features [b, d] and a dict of every intermediate. Both are
      documented at the builder.

    Raises:
      UserError: An unknown name, option or value; the message names the choices.

    >>> build("vit", num_classes=10, variant="Ti/4").width
    192
    """
    if num_classes is not None and num_classes < 1:
        raise UserError(f"num_classes is at least 1, or None for a model without a head, not {num_classes!r}")
    whole("projection_layers", projection_layers, low=0)
    bounded(f"model {name!r}", {"projection_layers": projection_layers, "projection_hidden": projection_hidden})
    whole("projection_hidden", projection_hidden, optional=True)
    if is_pair(name):
        if num_classes is not None:
            raise UserError(f"the model {name!r} has no classes: it is for the task 'image_text'")
        if projection_layers:
            raise UserError(f"projection_layers are for a backbone, and {name!r} has projections of its own")
        return _builder("model", name, NAMES.resolve(name, PAIR_NAMES), kwargs)(dtype=dtype)
    builder = _builder("model", name, NAMES.resolve(name, PAIR_NAMES), kwargs)
    if not projection_layers:
        return builder(num_classes=num_classes, dtype=dtype)
    projection = heads.Projection(projection_layers, hidden=projection_hidden, dtype=dtype)
    return heads.Projected(builder(num_classes=None, dtype=dtype), projection, num_classes)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Checks the name of a model and the names and types of its options, without building it.

    Args:
      name: Name of the model, as for `build`.
      options: Options of the builder; those of every model, which `build` checks, are ignored.

    Raises:
      UserError: There is no such model, or it does not take an option or its value.
    """
    common = calls.parameters(build)
    builder = NAMES.resolve(name, PAIR_NAMES)
    _builder("model", name, builder, {key: value for key, value in options.items() if key not in common})


def build_text(name: str, dtype: jnp.dtype = jnp.float32, **kwargs: Any) -> nn.Module:
    """Builds a text model.

    Args:
      name: Key of `TEXT_NAMES`, or "package.module:function".
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      **kwargs: Options of the builder.

    Returns:
      A Linen module. `module.apply(variables, tokens, train, rngs={"dropout": key})` takes token ids, int32 [b, n], and
      returns features [b, d] and a dict of every intermediate, as documented at the builder.

    Raises:
      UserError: An unknown name, option or value; the message names the choices.

    >>> build_text("text_transformer", variant="B").width
    768
    """
    return _builder("text model", name, TEXT_NAMES.resolve(name), kwargs)(dtype=dtype)


def _builder(kind: str, name: str, builder: Callable, kwargs: dict[str, Any]) -> Callable[..., nn.Module]:
    """Checks the names and types of the options, and returns the builder with these options filled in."""
    calls.check(builder, kwargs, calls.Options(f"{kind} {name!r}"), program=("num_classes", "dtype"))
    bounded(f"{kind} {name!r}", kwargs)
    if not own_modules.is_own(name):
        return partial(builder, **kwargs)

    def build_own(**options: Any) -> nn.Module:
        module = own_modules.call_factory(f"{kind} {name!r}", builder, **options, **kwargs)
        if not isinstance(module, nn.Module):
            raise UserError(f"the {kind} {name!r} returned a {type(module).__name__}, not a flax.linen.Module")
        return module

    return build_own
