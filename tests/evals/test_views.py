"""Several views of an image count as one: their probabilities are averaged."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.evals import views


class Linear(NamedTuple):
    """A task whose features are the mean colour and whose logits are linear in it."""

    names: tuple[str, ...] = ("features", "logits")

    def outputs(self, variables, batch):
        features = batch["image"].mean(axis=(1, 2))
        out = {"features": features, "logits": features @ variables}
        return {name: out[name] for name in self.names}


WEIGHTS = jax.random.normal(jax.random.key(0), (3, 4)) * 5
IMAGES = np.random.default_rng(0).random((5, 10, 6, 6, 3)).astype(np.float32)


def test_probabilities_and_features_are_averaged_over_views():
    out = views.outputs(Linear(), WEIGHTS, {"image": jnp.asarray(IMAGES)})
    features = IMAGES.mean(axis=(2, 3))  # b v 3
    exponentials = np.exp(features @ np.asarray(WEIGHTS))
    probabilities = (exponentials / exponentials.sum(-1, keepdims=True)).mean(axis=1)
    np.testing.assert_allclose(jax.nn.softmax(out["logits"]), probabilities, rtol=1e-5)
    np.testing.assert_allclose(out["features"], features.mean(axis=1), rtol=1e-5)


def test_one_view_is_what_the_task_says():
    batch = {"image": jnp.asarray(IMAGES[:, 0])}
    got, expected = views.outputs(Linear(), WEIGHTS, batch), Linear().outputs(WEIGHTS, batch)
    assert got.keys() == expected.keys()
    np.testing.assert_array_equal(got["logits"], expected["logits"])


def test_outputs_without_an_average():
    with pytest.raises(UserError, match="has neither"):
        views.outputs(Linear(names=()), WEIGHTS, {"image": jnp.asarray(IMAGES)})
