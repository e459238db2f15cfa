"""Feature visualisation by gradient ascent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.explain import ascent, get_explanation
from jaxvision.explain.base import Subject

W = np.random.default_rng(0).normal(size=(4, 4, 3, 5)).astype(np.float32)
MIXING = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)


def linear(variables, images):
    return {"logits": jnp.einsum("bhwc,hwcd->bd", images - 0.5, variables)}


def curved(variables, images):
    maps = jnp.tanh(jnp.einsum("bhwc,hwcd->bhwd", images - 0.5, variables))
    return {
        "map": maps,
        "logits": jnp.tanh(maps.mean((1, 2)) @ MIXING),
        "tokens": maps.reshape(len(maps), -1, 5),
        "loss": maps.mean(),
    }


def grey(n):
    return np.full((n, 4, 4, 3), 0.5, np.float32)


def test_with_an_l2_prior_a_linear_unit_converges_to_its_weights_over_two_lambda():
    factor = 8.0  # large enough that no pixel leaves [0, 1]
    units = np.array([3, 0])
    images, _ = ascent.ascend(linear, W, grey(2), "logits", units, steps=100, rate=0.02, l2=factor, scaled=False)
    expected = np.moveaxis(W, -1, 0)[units] / (2 * factor)
    assert np.abs(expected).max() < 0.5
    np.testing.assert_allclose(images - 0.5, expected, atol=1e-6)


def test_the_activation_rises_at_every_small_step():
    for name, units in (("logits", [0, 2]), ("map", [1, 4])):
        _, history = ascent.ascend(curved, W, grey(2), name, np.array(units), steps=30, rate=0.01, scaled=False)
        assert history.shape == (30, 2)
        assert (np.diff(history, axis=0) > 0).all()


def test_the_activation_of_a_map_is_the_mean_over_its_places():
    images = np.random.default_rng(1).uniform(size=(2, 4, 4, 3)).astype(np.float32)
    found = ascent.activation(curved, W, images, "map", jnp.array([1, 4]))
    maps = np.asarray(curved(W, images)["map"])
    np.testing.assert_allclose(found, [maps[0, ..., 1].mean(), maps[1, ..., 4].mean()], rtol=1e-5)
    np.testing.assert_array_equal(ascent.activation(curved, W, images, "tokens", jnp.array([1, 4])), found)


def test_jitter_moves_the_image_only_while_the_gradient_is_taken():
    options = dict(rate=0.01, l2=0.0, blur=0.0, scaled=False)
    rng = jax.random.key(0)
    args = (linear, W, jnp.asarray(grey(1)), "logits", jnp.array([0]), rng)
    still, _ = ascent.ascent_step(*args, jitter=0, **options)
    shifted, _ = ascent.ascent_step(*args, jitter=2, **options)
    down, across = np.asarray(jax.random.randint(rng, (2,), -2, 3))
    assert (down, across) != (0, 0)
    np.testing.assert_allclose(np.roll(shifted, (down, across), axis=(1, 2)), still, atol=1e-6)


def test_a_blur_keeps_the_mean_and_flattens():
    images = np.random.default_rng(1).uniform(size=(1, 6, 6, 3)).astype(np.float32)
    soft = np.asarray(ascent.soften(images, 1 / 3))
    np.testing.assert_allclose(soft.mean((1, 2)), images.mean((1, 2)), atol=0.05)
    inner = np.mean([images[0, i : i + 4, j : j + 4] for i in range(3) for j in range(3)], axis=0)
    np.testing.assert_allclose(soft[0, 1:-1, 1:-1], inner, rtol=1e-5)
    np.testing.assert_array_equal(ascent.soften(images, 0.0), images)


def test_the_page_shows_the_classes_of_the_images_first():
    images = np.random.default_rng(1).uniform(size=(3, 4, 4, 3)).astype(np.float32)
    subject = Subject(curved, W, images, np.array([2, 2, 0], np.int32), classes=("a", "b", "c"))
    shown = get_explanation("ascent")(subject, count=2, steps=5)
    tiles = [tile for row in shown.rows for tile in row.tiles]
    assert [tile.words.split(":")[0] for tile in tiles] == ["c", "a"]
    assert all(tile.image.shape == (4, 4, 3) and tile.image.min() >= 0 and tile.image.max() <= 1 for tile in tiles)
    start, end = (float(x) for x in tiles[0].words.split(": ")[1].split(" to "))
    assert end > start
    units = get_explanation("ascent")(subject, layer="map", units=(4,), steps=2)
    assert units.rows[0].tiles[0].words.startswith("unit 4:")


def test_what_cannot_be_climbed():
    images = np.random.default_rng(1).uniform(size=(3, 4, 4, 3)).astype(np.float32)
    subject = Subject(curved, W, images, np.array([2, 2, 0], np.int32))
    assert ascent.without_units(subject) is None
    with pytest.raises(UserError, match="'logits' has no unit 3; it has units 0 to 2"):
        ascent.without_units(subject, units=(3,))
    with pytest.raises(UserError, match="unknown layer with units 'loss'"):
        ascent.without_units(subject, layer="loss")
    bare = lambda variables, images: {"features": images.mean((1, 2))}
    with pytest.raises(UserError, match="gradient of 'logits' has numbers that are not finite"):
        get_explanation("ascent")(subject._replace(variables=np.nan * W), steps=1, count=1)
    assert "neither classes nor maps" in ascent.without_units(subject._replace(outputs=bare))
