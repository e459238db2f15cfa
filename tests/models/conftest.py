import json
import pathlib

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def images():
    """Two images of 16x16 pixels, standard normal."""
    return jax.random.normal(jax.random.key(7), (2, 16, 16, 3))


@pytest.fixture(scope="session")
def random_variables():
    """`random_variables(init, *inputs)`: variables in general position, shaped as `init(key, *inputs)` has them.

    Where a model starts at zero or one (its head, last scales, biases), much of it has no effect on
    the result. They are drawn without running the model's initialisers, whose compilation is slow.
    """

    def draw(init, *inputs):
        rng = np.random.default_rng(0)

        def leaf(path, x):
            path = jax.tree_util.keystr(path)
            if path.endswith(("['scale']", "['var']")):
                return rng.uniform(0.5, 1.5, x.shape).astype(x.dtype)
            return rng.normal(0, 0.1, x.shape).astype(x.dtype)

        return jax.tree.map_with_path(leaf, jax.eval_shape(init, jax.random.key(0), *inputs))

    return draw


@pytest.fixture(scope="session")
def reference():
    """Rows of tests/reference/param_counts.json."""
    return json.loads((pathlib.Path(__file__).parents[1] / "reference" / "param_counts.json").read_text())
