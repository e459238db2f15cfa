import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models

TRUNKS = {
    "resnet": {"variant": 8, "width": 0.25},
    "vit": {"variant": "Ti/4", "width": 16, "depth": 1, "mlp_dim": 16, "num_heads": 2},
    "nin": {"blocks": 3, "width": 1 / 12},
}


def build(name):
    return functools.partial(models.build, name, **TRUNKS[name])


@pytest.fixture(params=list(TRUNKS))
def trunk(request):
    """`model(num_classes)` of a small network of each kind, with 16 features."""
    return build(request.param)


@pytest.fixture(scope="session")
def nin():
    """The one with BatchNorm that compiles fastest."""
    return build("nin")


@pytest.fixture(scope="session")
def vit():
    return build("vit")


@pytest.fixture(scope="session")
def scenes():
    """Eight images that say where up is and what lies beside what: red grows to the right, green upwards, and noise."""
    y, x = np.mgrid[:32, :32] / 31
    clean = np.stack([x, 1 - y, x * y], axis=-1)
    noise = np.random.default_rng(0).normal(0, 0.05, (8, 32, 32, 3))
    return {"image": jnp.asarray(clean + noise, jnp.float32)}
