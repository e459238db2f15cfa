"""The images in the plane of PCA and of t-SNE."""

import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.explain import embedding, get_explanation, plane
from jaxvision.explain.base import Subject

IMAGES = np.random.default_rng(0).uniform(size=(12, 4, 6, 3)).astype(np.float32)


def outputs(variables, images):
    maps = images[:, ::2, ::2] * variables
    return {"features": maps.mean((1, 2)), "map": maps, "loss": images.mean(), "one": images.mean((1, 2, 3))[:, None]}


SUBJECT = Subject(outputs, np.float32([1, 2, 3]), IMAGES, np.zeros(12, np.int32), batch=5)


def test_each_image_lies_at_its_point():
    colours = np.eye(3, dtype=np.float32)[:, None, None] * np.ones((4, 8, 1), np.float32)  # red, green, blue
    points = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 5.0]])
    picture = plane.lay_out(colours, points, side=264)
    assert picture.shape == (132, 264, 3)  # images of 64x32 pixels, and 200 pixels from one to the next
    np.testing.assert_allclose(picture[-32:, :64], np.broadcast_to([1, 0, 0], (32, 64, 3)), atol=1e-6)
    np.testing.assert_allclose(picture[-32:, -64:], np.broadcast_to([0, 1, 0], (32, 64, 3)), atol=1e-6)
    np.testing.assert_allclose(picture[:32, :64], np.broadcast_to([0, 0, 1], (32, 64, 3)), atol=1e-6)
    assert (picture[32:-32] == 1).all()
    assert (picture[:, 64:-64] == 1).all()


def test_features_have_length_1_and_a_map_counts_by_its_means():
    expected = np.asarray(outputs(SUBJECT.variables, IMAGES)["features"])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    for layer in ("features", "map"):
        np.testing.assert_allclose(plane.vectors(SUBJECT, layer), expected, rtol=1e-5)


def test_the_pages():
    shown = get_explanation("pca")(SUBJECT)
    explained = embedding.principal_components(plane.vectors(SUBJECT, "features")).explained
    assert f"{100 * explained[0]:.1f} % of the variance" in shown.text
    picture = shown.rows[0].tiles[0].image
    assert shown.height == len(picture)
    assert 128 * np.sqrt(12) - plane.LARGEST < max(picture.shape) <= 128 * np.sqrt(12)
    pytest.importorskip("sklearn")
    shown = get_explanation("tsne")(SUBJECT, layer="map", perplexity=3.0)
    assert "perplexity 3 and seed 0" in shown.text
    assert max(shown.rows[0].tiles[0].image.shape) <= plane.SIDE


def test_features_that_are_all_equal_have_no_place():
    same = SUBJECT._replace(images=np.repeat(IMAGES[:1], 12, axis=0))
    for name in ("pca", "tsne"):
        shown = get_explanation(name)(same, **({"perplexity": 2.0} if name == "tsne" else {}))
        assert not shown.rows
        assert "the same features" in shown.text


def test_what_has_no_plane():
    assert "'one' is a single number" in plane.without_plane(SUBJECT, layer="one")
    assert "at least 3 images, not 2" in plane.without_plane(SUBJECT._replace(images=IMAGES[:2]))
    assert "needs at least 91 images, not 12: take more of them (--images, --most)" in plane.without_tsne(SUBJECT)
    assert plane.without_plane(SUBJECT) is None
    assert plane.without_tsne(SUBJECT, perplexity=3.0) is None
    with pytest.raises(UserError, match="unknown layer 'features/1'"):
        plane.without_plane(SUBJECT, layer="features/1")
    with pytest.raises(UserError, match="unknown layer with units 'loss'"):
        plane.without_tsne(SUBJECT, layer="loss")
