"""Eight simulated CPU devices for every test; set before anything imports jax."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

import jax
import pytest

from jaxvision.parallel.mesh import make_mesh


@pytest.fixture(scope="session")
def mesh():
    """`mesh(devices=8, **axes)`: a mesh over the first of the simulated devices."""

    def make(devices=8, **axes):
        if jax.device_count() < devices:
            pytest.skip(f"needs {devices} devices, has {jax.device_count()}")
        return make_mesh(devices=jax.devices()[:devices], **axes)

    return make
