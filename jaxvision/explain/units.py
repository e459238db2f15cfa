"""Units, the channels of a map of the network: their responses, and which of them an instrument shows."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError, shown, unknown
from jaxvision.explain.base import Outputs, Subject, check_map, layer, layers


@functools.partial(jax.jit, static_argnums=(0, 3))
def respond(outputs: Outputs, variables: Any, images: jax.Array, name: str) -> jax.Array:
    """Computes a map of the network: the response of each unit at each place.

    Args:
      outputs: Pure function of variables and images that returns the map among others.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      name: Name of the map, such as "stem" or "stages/1".

    Returns:
      float32 [b, rows, columns, d].
    """
    return layer(outputs(variables, images), name).astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 3))
def mean_responses(outputs: Outputs, variables: Any, images: jax.Array, name: str) -> jax.Array:
    """Computes the response of each unit, its mean over the places of a map or over tokens.

    Args:
      outputs: Pure function of variables and images.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      name: Name of the output, [b, d], [b, n, d] or [b, rows, columns, d], such as "logits" or "stages/1".

    Returns:
      float32 [b, d].
    """
    values = respond(outputs, variables, images, name)
    return values.reshape(values.shape[0], -1, values.shape[-1]).mean(axis=1)


@functools.partial(jax.jit, static_argnums=(0, 3))
def peaks(outputs: Outputs, variables: Any, images: jax.Array, name: str) -> tuple[jax.Array, jax.Array]:
    """Finds where each unit of a map responds most in each image.

    Args:
      outputs: Pure function of variables and images that returns the map among others.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      name: Name of the map, such as "stages/1".

    Returns:
      (largest response float32 [b, d], its place int32 [b, d], counted row by row).
    """
    maps = respond(outputs, variables, images, name)
    flat = maps.reshape(maps.shape[0], -1, maps.shape[-1])  # b h*w d
    return flat.max(axis=1), flat.argmax(axis=1)


def maps_of(subject: Subject) -> list[str]:
    """Returns the names of the outputs that are maps [b, h, w, d], those near the input first.

    Args:
      subject: Model and images.
    """
    found = [name for name, shape in layers(subject.shapes()).items() if len(shape) == 4]
    order = ["stem", *(name for name in found if name.startswith("stages/"))]
    return [name for name in order if name in found] + [name for name in found if name not in order]


def shape_of(subject: Subject, name: str) -> tuple[int, ...]:
    """Returns the shape of an output for one image, such as (1, h', w', d) for a map.

    Args:
      subject: Model and images.
      name: Name of the output, see `base.layer`.

    Raises:
      UserError: There is no such output.
    """
    return tuple(layer(subject.shapes(), name).shape)


def units_of(subject: Subject, name: str) -> int:
    """Returns the number of units of an output: classes, features or the channels of a map.

    Args:
      subject: Model and images.
      name: Name of the output, [b, d], [b, n, d] or [b, h, w, d], see `base.layer`.

    Raises:
      UserError: There is no such output, or it has no units.
    """
    shape = shape_of(subject, name)
    if not 2 <= len(shape) <= 4:
        having = [key for key, size in layers(subject.shapes()).items() if 2 <= len(size) <= 4]
        raise unknown("layer with units", name, having)
    return shape[-1]


def chosen_map(subject: Subject, name: str | None, first: bool = False) -> str:
    """Returns the name of the map that an instrument looks at.

    Args:
      subject: Model and images.
      name: Name that the user gave, such as "stages/1"; None for one of the instrument's choice.
      first: True to choose the first map of the model, False to choose its last.

    Raises:
      UserError: The model has no such map.
    """
    if name is None:
        maps = maps_of(subject)
        if not maps:
            raise UserError("this model returns no map [b, h, w, d]")
        return maps[0] if first else "map" if "map" in maps else maps[-1]
    check_map(subject, name)
    return name


def without_maps(subject: Subject, layer: str | None = None, units: Sequence[int] = (), **_: Any) -> str | None:
    """Returns why an instrument that looks at the units of a map cannot be applied; None if it can.

    Args:
      subject: Model and images.
      layer: Name of the map, an option of the instrument; None for one of its choice.
      units: Numbers of units, an option of the instrument.
      **_: Further options of the instrument.

    Raises:
      UserError: The model has no such map, or the map has no such unit.
    """
    if layer is not None:
        check_map(subject, layer)
        check_units(units, shape_of(subject, layer)[-1])
    return None if maps_of(subject) else "this model returns no map [b, h, w, d]"


def chosen_units(given: Sequence[int], ranking: np.ndarray, count: int) -> list[int]:
    """Returns the units that are shown: those that the user gave, or else the first of a ranking.

    Args:
      given: Numbers of units; empty for those of the ranking.
      ranking: Score of each unit, float [d]; the largest are chosen.
      count: Number of units to choose.

    Raises:
      UserError: A unit that the map does not have.

    >>> chosen_units((), np.array([0.1, 3.0, 2.0]), 2), chosen_units((0,), np.array([0.1, 3.0, 2.0]), 2)
    ([1, 2], [0])
    """
    check_units(given, len(ranking))
    return list(given) or np.argsort(-np.asarray(ranking), kind="stable")[:count].tolist()


def check_units(given: Sequence[int], total: int, name: str = "the map") -> None:
    """Checks that an output has the units that the user gave.

    Args:
      given: Numbers of units.
      total: Number of units of the output.
      name: Name of the output in the message.

    Raises:
      UserError: A unit that the output does not have.
    """
    wrong = [unit for unit in given if not 0 <= unit < total]
    if wrong:
        raise UserError(f"units: {name} has no unit {shown(wrong[0])}; it has units 0 to {total - 1}")


def in_rows(items: Iterable[Any], columns: int) -> list[list[Any]]:
    """Splits items into rows of a grid.

    Args:
      items: Items, in order.
      columns: Number of items in a full row.

    >>> in_rows("abcde", 2)
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    rows = list(items)
    return [rows[start : start + columns] for start in range(0, len(rows), columns)]
