"""Eight simulated CPU devices for every test; set before anything imports jax."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

from pathlib import Path

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


@pytest.fixture(scope="session")
def shared():
    """`shared("mnist/...")`: a file of real data that is not part of the project; the test is skipped without it."""
    root = Path(os.environ.get("JAXVISION_SHARED", Path(__file__).parents[2] / "shared"))

    def find(name: str) -> Path:
        for path in (root / "data" / name, root / "reference" / name):
            if path.exists():
                return path
        pytest.skip(f"{name} is not here: it lies in the folder JAXVISION_SHARED, or shared/ beside the repository")

    return find
