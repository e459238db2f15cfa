"""The tables of every library whose weights can be imported, by library and by our model."""

import re
from collections.abc import Mapping
from typing import Any

from jaxvision.errors import UserError, listed, unknown
from jaxvision.models.weights import (
    clip_names,
    convnet_names,
    dino_names,
    flax_names,
    mobile_names,
    open_clip_names,
    token_names,
    torch_names,
)
from jaxvision.models.weights.table import OURS, Table

TABLES: Mapping[str, Mapping[str, tuple[Table, ...]]] = {
    "timm": torch_names.TIMM | convnet_names.TIMM | mobile_names.TIMM | token_names.TIMM,
    "torchvision": torch_names.TORCHVISION | convnet_names.TORCHVISION | mobile_names.TORCHVISION,
    "openai_clip": clip_names.clip_tables(gelu="quick"),
    "open_clip": open_clip_names.OPEN_CLIP,
    "dino": dino_names.DINO,
    "dinov2": dino_names.DINOV2,
    "big_vision": flax_names.BIG_VISION,
    "bit": flax_names.BIT,
    "keras": flax_names.KERAS,
    "moco": torch_names.MOCO,  # github.com/facebookresearch/moco and moco-v3
    "pytorch_resnet_cifar10": torch_names.RESNET_CIFAR10,  # github.com/akamaster/pytorch_resnet_cifar10
    "lenet5": torch_names.LENET5,  # github.com/activatedgeek/LeNet-5 and its copies
}


def sources() -> list[str]:
    """Lists the libraries whose files can be imported; "jaxvision" is this one.

    >>> "timm" in sources()
    True
    """
    return ["jaxvision", *TABLES]


def tables_of(source: str, model: str, ours: Mapping[str, Any] | None = None) -> list[Table]:
    """Returns the tables of a library for a model.

    Args:
      source: Library, one of `sources()`.
      model: Name of our model.
      ours: Variables of the model by path, to choose the tables for these variables; None for all tables.

    Raises:
      UserError: An unknown library, or a library without names for the model; the message lists those that have them.
    """
    if source == "jaxvision":
        return [OURS]
    if source not in TABLES:
        raise unknown("source of weights", source, sources())
    if model not in TABLES[source]:
        raise UserError(
            f"{unknown(f'model for weights of {source!r}', model, TABLES[source])}{served_by(model, ours, source)}"
        )
    tables = list(TABLES[source][model])
    chosen = tables if ours is None else _for_variables(tables, ours)
    if not chosen:
        models = listed("", dict.fromkeys(table.what for table in tables))
        raise UserError(
            f"{source!r} has no names for this {model!r}, only for {models}{served_by(model, ours, source)}"
        )
    return chosen


def _for_variables(tables: list[Table], ours: Mapping[str, Any]) -> list[Table]:
    """Returns the tables whose `when` matches these variables; if there are none, those without a `when`."""
    chosen = [table for table in tables if table.when and any(re.search(table.when, path) for path in ours)]
    return chosen or [table for table in tables if table.when is None]


def lacking(table: Table, ours: Mapping[str, Any]) -> tuple[str, str] | None:
    """Finds a part of a model that a table has no names for.

    Args:
      table: Table of a library.
      ours: Variables of the model by path.

    Returns:
      (words for the part, one path of it), or None if the table has names for everything.
    """
    parts = ((what, path) for pattern, what in table.lacks for path in ours if re.search(pattern, path))
    return next(parts, None)


def served_by(model: str, ours: Mapping[str, Any] | None, but: str) -> str:
    """Ends a message with the libraries that have names for a model.

    Args:
      model: Name of our model.
      ours: Variables of the model by path, for the libraries that have names for these; None for any variables.
      but: Library that is left out.
    """
    libraries = ["jaxvision"]
    for source, models in TABLES.items():
        tables = list(models.get(model, ()))
        fitting = tables if ours is None else [t for t in _for_variables(tables, ours) if not lacking(t, ours)]
        libraries += [source] if fitting and source != but else []
    return f". Libraries with names for it: {', '.join(libraries)}"
