"""Standardising and whitening against their definitions, with the statistics of the very images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.data import statistics
from jaxvision.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (300, 4, 4, 3), np.uint8) // np.array([1, 2, 3], np.uint8)
IMAGES[:, 1:] = IMAGES[:, 1:] // 2 + IMAGES[:, :-1] // 2  # neighbours are correlated
VALUES = IMAGES / 255
STATISTICS = statistics.compute_statistics(
    [{"image": IMAGES, "mask": np.ones(300, bool)}], {"pixel_values", "pixel_vectors"}
)._asdict()


def run(spec, images=IMAGES, key=0):
    fn = jax.jit(augment.make_augmentation(spec, statistics=STATISTICS))
    return np.asarray(fn(jax.random.key(key), {"image": jnp.asarray(images)})["image"])


def test_standardize_gives_each_channel_mean_zero_and_deviation_one():
    out = run("standardize")
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((0, 1, 2)), 1, atol=1e-5)


def test_subtract_mean_image_centres_every_pixel():
    np.testing.assert_allclose(run("subtract_mean_image"), VALUES - VALUES.mean(0), atol=1e-6)


def test_standardize_image_equals_tensorflow_by_its_formula():
    images = np.concatenate([IMAGES[:5], np.full((1, 4, 4, 3), 77, np.uint8)])  # the last has no deviation
    for image, out in zip(images / 255, run("standardize_image", images)):
        expected = (image - image.mean()) / max(image.std(), 1 / np.sqrt(image.size))
        np.testing.assert_allclose(out, expected, atol=1e-5)


def test_whitened_values_have_the_identity_as_covariance():
    for kind in ("zca", "pca"):
        flat = run(f"whiten('{kind}', epsilon=1e-9)").reshape(300, -1)
        np.testing.assert_allclose(np.cov(flat.T, bias=True), np.eye(48), atol=2e-3)


def test_zca_is_the_symmetric_root_of_the_inverse_covariance():
    flat = VALUES.reshape(300, -1)
    values, vectors = np.linalg.eigh(np.cov(flat.T, bias=True) + 0.1 * np.eye(48))
    expected = (flat - flat.mean(0)) @ (vectors / np.sqrt(values) @ vectors.T)
    np.testing.assert_allclose(run("whiten").reshape(300, -1), expected, atol=1e-5)


def test_pca_components_come_by_falling_variance():
    variances = run("whiten('pca', epsilon=0.1)").reshape(300, -1).var(0)
    np.testing.assert_allclose(variances, STATISTICS["pixel_values"] / (STATISTICS["pixel_values"] + 0.1), atol=1e-4)


def test_pca_lighting_shifts_colours_by_their_covariance():
    grey = np.full((4000, 2, 2, 3), 128, np.uint8)
    shift = run("pca_lighting(0.5)", grey) - 128 / 255
    np.testing.assert_allclose(shift[:, 0, 0], shift[:, 1, 1], atol=1e-7)  # one shift for a whole image
    # sum_i a_i l_i p_i with a of variance std^2 has the covariance std^2 C C, where C is the covariance of colours.
    covariance = np.cov(VALUES.reshape(-1, 3).T, bias=True)
    expected = 0.25 * covariance @ covariance
    np.testing.assert_allclose(np.cov(shift[:, 0, 0].T), expected, atol=0.1 * expected.max())
    np.testing.assert_array_equal(run("pca_lighting(0)", grey), np.float32(grey) / 255)
    assert augment.evaluation("pca_lighting|standardize") == "standardize"


@pytest.mark.parametrize("spec", ["standardize", "standardize_image", "subtract_mean_image", "whiten"])
def test_views_are_treated_like_images(spec):
    views = IMAGES[:6].reshape(3, 2, 4, 4, 3)
    np.testing.assert_allclose(run(spec, views), run(spec, IMAGES[:6]).reshape(views.shape), atol=1e-5)


def test_needs_are_told_and_missing_statistics_are_named():
    assert augment.needs_statistics("flip_lr|normalize") == frozenset()
    assert augment.needs_statistics("standardize|whiten") == {
        "mean", "std", "mean_image", "pixel_values", "pixel_vectors",
    }  # fmt: skip
    with pytest.raises(UserError, match="needs statistics of the training images: mean, std"):
        augment.make_augmentation("standardize")
    with pytest.raises(UserError, match=": pixel_values, pixel_vectors"):
        augment.make_augmentation("whiten", statistics={**STATISTICS, "pixel_values": None, "pixel_vectors": None})


def test_specs_inside_others_find_their_statistics():
    spec = "views(2, ('flip_lr(1.0)|standardize', 'standardize'))"
    assert augment.needs_statistics(spec) == {"mean", "std"}
    out = run(spec, IMAGES[:3])
    np.testing.assert_allclose(out[:, 1], run("standardize", IMAGES[:3]), atol=1e-6)
    np.testing.assert_allclose(out[:, 0], out[:, 1, :, ::-1], atol=1e-6)


def test_the_result_holds_no_statistics():
    fn = augment.make_augmentation("standardize", statistics=STATISTICS)
    assert set(fn(jax.random.key(0), {"image": jnp.asarray(IMAGES[:2])})) == {"image"}


@pytest.mark.parametrize("spec", ["subtract_mean_image", "whiten"])
def test_images_of_another_size_are_refused(spec):
    with pytest.raises(UserError, match=f"{spec}: the mean image is 4x4, but images here are 2x2"):
        run(f"central_crop(2)|{spec}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("whiten('zac')", "unknown kind of whiten 'zac'; did you mean 'zca'"),
        ("whiten(epsilon=0)", "whiten: epsilon"),
        ("pca_lighting(-1)", "pca_lighting: std must be a number of at least 0, not -1"),
    ],
)
def test_wrong_arguments_are_named(spec, message):
    with pytest.raises(UserError, match=message):
        augment.make_augmentation(spec, statistics=STATISTICS)
