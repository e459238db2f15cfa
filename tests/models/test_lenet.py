"""LeNet-5: its size, of its layers and of its images. Its published weights are tested in test_weights.py."""

import jax
import jax.numpy as jnp
import pytest

from jaxvision import models
from jaxvision.errors import UserError


def test_parameters_of_the_usual_textbook_form():
    model = models.build("lenet", 10)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))["params"]
    assert {name: sum(x.size for x in layer.values()) for name, layer in params.items()} == {
        "c1": 6 * (25 + 1),
        "c3": 16 * (6 * 25 + 1),
        "c5": 120 * (16 * 25 + 1),
        "f6": 84 * (120 + 1),
        "head": 10 * (84 + 1),
    }
    assert sum(x.size for x in jax.tree.leaves(params)) == 61_706


def test_images_below_32_pixels_are_refused():
    with pytest.raises(UserError, match=r"at least 32x32 pixels, not \(28, 28\)"):
        jax.eval_shape(models.build("lenet", 10).init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
