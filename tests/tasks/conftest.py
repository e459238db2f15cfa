import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import models

TRUNKS = {
    "resnet": {"variant": 8, "width": 0.25},
    "vit": {"variant": "Ti/4", "width": 16, "depth": 1, "mlp_dim": 16, "num_heads": 2},
    "nin": {"blocks": 3, "width": 0.05},
}


@pytest.fixture(params=list(TRUNKS))
def trunk(request):
    """`model(num_classes)` of a small network of each kind."""
    return functools.partial(models.build, request.param, **TRUNKS[request.param])


@pytest.fixture
def resnet():
    return functools.partial(models.build, "resnet", **TRUNKS["resnet"])


@pytest.fixture
def scenes():
    """Eight images that say where up is and what lies beside what: red grows to the right, green upwards, and noise."""
    y, x = np.mgrid[:24, :24] / 23
    clean = np.stack([x, 1 - y, x * y], axis=-1)
    noise = np.random.default_rng(0).normal(0, 0.05, (8, 24, 24, 3))
    return {"image": jnp.asarray(clean + noise, jnp.float32)}


@pytest.fixture
def losses():
    """`losses(task, batch, steps)`: of some steps of Adam, all on one batch with new questions in each."""

    def train(task, batch, steps):
        variables = dict(task.init(jax.random.key(0), batch))
        params = variables.pop("params")
        tx = optax.adam(3e-3)

        @jax.jit
        def step(params, rest, state, rng):
            loss = lambda p: task.loss({"params": p, **rest}, batch, rng)
            (value, (_, updates)), grads = jax.value_and_grad(loss, has_aux=True)(params)
            moves, state = tx.update(grads, state)
            return optax.apply_updates(params, moves), {**rest, **updates}, state, value

        state, values = tx.init(params), []
        for i in range(steps):
            params, variables, state, value = step(params, variables, state, jax.random.key(i))
            values.append(float(value))
        return values

    return train
