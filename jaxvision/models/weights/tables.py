"""The tables of every library whose weights can be imported, by library and by our model."""

import re
from collections.abc import Mapping
from typing import Any

from jaxvision.errors import UserError, listed, unknown
from jaxvision.models.weights import flax_names, open_clip_names, torch_names
from jaxvision.models.weights.table import OURS, Table

TABLES: dict[str, dict[str, tuple[Table, ...]]] = {
    "timm": torch_names.TIMM,
    "torchvision": torch_names.TORCHVISION,
    "openai_clip": torch_names.clip(gelu="quick"),
    "open_clip": open_clip_names.OPEN_CLIP,
    "big_vision": flax_names.BIG_VISION,
    "bit": flax_names.BIT,
    "keras": flax_names.KERAS,
    "pytorch_resnet_cifar10": torch_names.RESNET_CIFAR10,  # github.com/akamaster/pytorch_resnet_cifar10
    "lenet5": torch_names.LENET5,  # github.com/activatedgeek/LeNet-5 and its copies
}


def sources() -> list[str]:
    """The libraries whose files can be imported; "jaxvision" is this one.

    >>> "timm" in sources()
    True
    """
    return ["jaxvision", *TABLES]


def tables_of(source: str, model: str, ours: Mapping[str, Any] | None = None) -> list[Table]:
    """The tables of a library for a model; with the paths of `ours`, for these variables of it.

    Raises:
      UserError: an unknown library, or one without names for the model; those that have them are listed.
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
    meant = tables if ours is None else _meant(tables, ours)
    if not meant:
        known = listed("", dict.fromkeys(table.what for table in tables))
        raise UserError(f"{source!r} has no names for this {model!r}, only for {known}{served_by(model, ours, source)}")
    return meant


def _meant(tables: list[Table], ours: Mapping[str, Any]) -> list[Table]:
    """The tables that are for these variables: those that single them out, else those for any."""
    meant = [table for table in tables if table.when and any(re.search(table.when, path) for path in ours)]
    return meant or [table for table in tables if table.when is None]


def lacking(table: Table, ours: Mapping[str, Any]) -> tuple[str, str] | None:
    """What a table has no names for in these variables, and one path of it; None where it has all."""
    found = ((what, path) for pattern, what in table.lacks for path in ours if re.search(pattern, path))
    return next(found, None)


def served_by(model: str, ours: Mapping[str, Any] | None, but: str) -> str:
    """The end of a sentence: which libraries have names for a model, or for these variables of it."""
    served = ["jaxvision"]
    for source, models in TABLES.items():
        tables = list(models.get(model, ()))
        meant = tables if ours is None else [t for t in _meant(tables, ours) if not lacking(t, ours)]
        served += [source] if meant and source != but else []
    return f". Libraries with names for it: {', '.join(served)}"
