"""Several views of an image count as one: their probabilities are averaged."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.evals import views
from jaxvision.fields import Field


class Linear(NamedTuple):
    """A task whose features are the mean colour and whose logits are linear in it."""

    names: tuple[str, ...] = ("features", "logits")

    def outputs(self, variables, batch):
        features = batch["image"].mean(axis=(1, 2))
        out = {"features": features, "logits": features @ variables}
        return {name: out[name] for name in self.names}


WEIGHTS = jax.random.normal(jax.random.key(0), (3, 4)) * 5
FIELDS = {"image": Field("image", (6, 6, 3))}
TEN = {"image": Field("image", (6, 6, 3), views=10)}
IMAGES = np.random.default_rng(0).random((5, 10, 6, 6, 3)).astype(np.float32)


def test_probabilities_and_features_are_averaged_over_views():
    out = views.averaged_outputs(Linear(), WEIGHTS, {"image": jnp.asarray(IMAGES)}, TEN)
    features = IMAGES.mean(axis=(2, 3))  # b v 3
    exponentials = np.exp(features @ np.asarray(WEIGHTS))
    probabilities = (exponentials / exponentials.sum(-1, keepdims=True)).mean(axis=1)
    np.testing.assert_allclose(jax.nn.softmax(out["logits"]), probabilities, rtol=1e-5)
    np.testing.assert_allclose(out["features"], features.mean(axis=1), rtol=1e-5)


def test_one_view_is_what_the_task_says():
    batch = {"image": jnp.asarray(IMAGES[:, 0])}
    got, expected = views.averaged_outputs(Linear(), WEIGHTS, batch, FIELDS), Linear().outputs(WEIGHTS, batch)
    assert got.keys() == expected.keys()
    np.testing.assert_array_equal(got["logits"], expected["logits"])


def test_outputs_without_an_average():
    with pytest.raises(UserError, match="has neither"):
        views.averaged_outputs(Linear(names=()), WEIGHTS, {"image": jnp.asarray(IMAGES)}, TEN)


def test_five_axes_are_a_clip_where_no_operation_made_views():
    clips = {"image": jnp.asarray(IMAGES)}  # b t h w 3

    class OfClips(NamedTuple):
        def outputs(self, variables, batch):
            return {"features": batch["image"].mean(axis=(1, 2, 3))}

    out = views.averaged_outputs(OfClips(), WEIGHTS, clips, {"image": Field("image", (10, 6, 6, 3))})
    np.testing.assert_allclose(out["features"], IMAGES.mean((1, 2, 3)), rtol=1e-5)
    views_of_clips = {"image": jnp.asarray(IMAGES)[:, None].repeat(2, axis=1)}
    again = views.averaged_outputs(
        OfClips(), WEIGHTS, views_of_clips, {"image": Field("image", (10, 6, 6, 3), views=2)}
    )
    np.testing.assert_allclose(again["features"], out["features"], rtol=1e-5)


def test_outputs_of_places_are_not_averaged():
    class Dense(NamedTuple):
        def outputs(self, variables, batch):
            return {"logits": batch["image"]}

    with pytest.raises(UserError, match="this task's have 4 axes"):
        views.averaged_outputs(Dense(), WEIGHTS, {"image": jnp.asarray(IMAGES)}, TEN)
