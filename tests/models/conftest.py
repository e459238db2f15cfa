import jax
import pytest


@pytest.fixture(scope="session")
def images():
    """Two images of 16x16 pixels, standard normal."""
    return jax.random.normal(jax.random.key(7), (2, 16, 16, 3))
