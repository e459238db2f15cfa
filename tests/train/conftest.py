"""A task without labels: the engine must not need any."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.tasks.task import Task


@pytest.fixture
def regression():
    """Predicts the mean brightness of an image from its pixels; counts its steps in a second collection."""

    def init(rng, batch):
        size = batch["image"][0].size
        return {
            "params": {"w": 0.01 * jax.random.normal(rng, (size,)), "b": jnp.zeros(())},
            "counter": {"n": jnp.zeros(())},
        }

    def predict(variables, batch):
        flat = batch["image"].reshape(len(batch["image"]), -1)
        return flat @ variables["params"]["w"] + variables["params"]["b"]

    def loss(variables, batch, rng):
        noise = 0.01 * jax.random.normal(rng, (len(batch["image"]),))
        error = predict(variables, batch) + noise - batch["image"].mean((1, 2, 3))
        return jnp.mean(error**2), (
            {"bias": variables["params"]["b"]},
            {"counter": {"n": variables["counter"]["n"] + 1}},
        )

    return Task(init, loss, lambda variables, batch: {"prediction": predict(variables, batch)})


@pytest.fixture
def images():
    """37 images of 4 x 4."""
    return {"image": np.random.default_rng(0).integers(0, 256, (37, 4, 4, 3), np.uint8)}


@pytest.fixture
def adam():
    return optax.adam(1e-2)
