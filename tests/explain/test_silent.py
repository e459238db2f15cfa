"""Silent units."""

import jax.numpy as jnp
import numpy as np

from jaxvision.explain import get_explanation, silent
from jaxvision.explain.base import Subject

IMAGES = np.random.default_rng(0).uniform(size=(3, 4, 4, 3)).astype(np.float32)


def units(variables, images):
    """A ReLU that never fires, one that does, one that fires for the second image only, and a negative linear unit."""
    x = images.mean(axis=-1)
    bright = images.sum(axis=(1, 2, 3), keepdims=True)[..., 0] - variables["limit"]
    return {"stages": (jnp.stack([jnp.maximum(x - 2, 0), jnp.maximum(x, 0), jnp.maximum(x * bright, 0), x - 2], -1),)}


def subject():
    images = IMAGES.copy()
    images[1] = 0.9
    return Subject(units, {"limit": 40.0}, images, np.zeros(3, np.int32), batch=2)


def test_a_unit_is_silent_if_it_responds_to_no_image_and_cannot_change():
    given = subject()
    found = silent.silent_by_map(units, given.variables, given.images, ("stages/0",))["stages/0"]
    np.testing.assert_array_equal(found, [[1, 0, 1, 0], [1, 0, 0, 0], [1, 0, 1, 0]])


def test_a_unit_of_zero_that_has_a_gradient_is_not_silent():
    zero = lambda variables, images: {"map": images - 0.5}
    found = silent.silent_by_map(zero, {}, np.full((1, 4, 4, 3), 0.5, np.float32), ("map",))
    assert not found["map"].any()


def test_the_page_counts_those_of_each_map():
    shown = get_explanation("silent")(subject())
    assert "| `stages/0` | 4 | 1 | 0 |" in shown.text
    alone = subject()._replace(images=IMAGES[:1], targets=np.zeros(1, np.int32))
    assert "| `stages/0` | 4 | 2 | 0, 2 |" in get_explanation("silent")(alone, layer="stages/0").text
