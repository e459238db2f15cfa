import json
import pathlib

import jax
import pytest


@pytest.fixture(scope="session")
def images():
    """Two images of 16x16 pixels, standard normal."""
    return jax.random.normal(jax.random.key(7), (2, 16, 16, 3))


@pytest.fixture(scope="session")
def reference():
    """Rows of tests/reference/param_counts.json."""
    return json.loads((pathlib.Path(__file__).parents[1] / "reference" / "param_counts.json").read_text())
