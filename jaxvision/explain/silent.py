"""Silent units: those that respond to none of the images and get no gradient, such as dead ReLUs."""

import functools
from typing import Any

import jax
import numpy as np

from jaxvision.explain.base import Explanation, Outputs, Subject, in_batches, layer
from jaxvision.explain.units import maps_of, without_maps
from jaxvision.models.activations import silent_units
from jaxvision.registry import part

NOISE = 0.01  # standard deviation, in units of the pixel range
NUMBERS = 20  # most units of a map that are named


@functools.partial(jax.jit, static_argnums=(0, 3))
def silent_by_map(outputs: Outputs, variables: Any, images: jax.Array, names: tuple[str, ...]) -> dict[str, jax.Array]:
    """Finds the units of maps that are silent on each image: 0 or below at every place, and not moved by noise.

    A unit whose gradient with respect to the image is not 0 is moved by noise. So a unit below 0 that follows no ReLU
    is not silent. No gradient is computed, because one of each unit would cost as many passes as there are units.

    Source: Lu et al. 2019, "Dying ReLU and initialization", arXiv 1903.06733, sec. 2.

    Args:
      outputs: Pure function of variables and images that returns the maps among others.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      names: Names of the maps.

    Returns:
      bool [b, d] by the name of the map.
    """

    def maps(images: jax.Array) -> dict[str, jax.Array]:
        out = outputs(variables, images)
        return {name: layer(out, name) for name in names}

    values = maps(images)
    moved = maps(images + NOISE * jax.random.normal(jax.random.key(0), images.shape))
    still = jax.tree.map(lambda x, y: (x == y).all(axis=(1, 2)), values, moved)  # b d
    return {name: jax.vmap(silent_units)(values[name]) & still[name] for name in names}


@part("explanation", "silent", passes=2, refuses=without_maps)
def explain_silent(subject: Subject, *, layer: str | None = None) -> Explanation:
    """Units that respond to none of the images and get no gradient from them, such as dead ReLUs.

    Args:
      subject: Model and images. Give many, with `--most`: a unit may respond to another image.
      layer: Name of a map, such as "stages/1"; None for all maps of the model.
    """
    names = tuple(maps_of(subject)) if layer is None else (layer,)
    found = in_batches(subject, lambda x, _: silent_by_map(subject.outputs, subject.variables, x, names))
    lines = ["| map | units | silent | their numbers |", "|---|---|---|---|"]
    for name in names:
        silent = np.flatnonzero(found[name].all(axis=0)).tolist()
        more = ", ..." if len(silent) > NUMBERS else ""
        numbers = ", ".join(map(str, silent[:NUMBERS])) + more
        lines.append(f"| `{name}` | {found[name].shape[1]} | {len(silent)} | {numbers or 'none'} |")
    text = (
        f"Units that are 0 or below at every place of all {len(subject.images)} images, and that a little noise "
        "does not move. The weights before such a unit get no gradient from these images. A ReLU that is dead stays so "
        "in training (Lu et al. 2019)."
    )
    return Explanation("Silent units", text + "\n\n" + "\n".join(lines), [])
