"""Normalisation and colour jitter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxvision import augment
from jaxvision.augment import pixels


def run(spec, images, seed=0):
    return np.asarray(
        jax.jit(augment.make_augmentation(spec))(jax.random.key(seed), {"image": jnp.asarray(images)})["image"]
    )


def noise(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def test_normalize_to_minus_one_and_one():
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1).repeat(3, -1)
    np.testing.assert_allclose(run("normalize", images)[:, 0, 0], [[-1, -1, -1], [1, 1, 1]], atol=1e-6)


def test_normalize_by_channel():
    images = noise(2, 3, 3, 3)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(run("normalize_imagenet", images), (images - mean) / std, atol=1e-5)


@pytest.mark.parametrize("spec", ["color_jitter", "color_jitter(0.8, 0.8, 0.8, 0.2, p=0.0)"])
def test_jitter_of_nothing_is_nothing(spec):
    images = noise(2, 4, 4, 3)
    np.testing.assert_array_equal(run(spec, images), images)


def test_brightness_factors_are_uniform_over_their_range():
    factors = run("color_jitter(brightness=0.4)", np.full((2000, 1, 1, 3), 0.5, np.float32))[:, 0, 0, 0] / 0.5
    assert factors.min() >= 0.6
    assert factors.max() <= 1.4
    quarters = np.histogram(factors, bins=4, range=(0.6, 1.4))[0]
    assert (abs(quarters - 500) < 4 * np.sqrt(2000 * 0.25 * 0.75)).all()


def test_factors_are_cut_off_at_zero():
    factors = run("color_jitter(brightness=2.0)", np.full((500, 1, 1, 3), 0.1, np.float32)) / 0.1
    assert factors.min() >= 0
    assert factors.max() <= 3.001


def test_share_of_images_changed():
    images = np.full((2000, 1, 1, 3), 0.5, np.float32)
    changed = (run("color_jitter(0.4, p=0.8)", images) != images).any(axis=(1, 2, 3))
    assert abs(changed.mean() - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 2000)


@pytest.mark.parametrize("per_example", [False, True])
def test_order_is_drawn_for_the_batch_or_for_each_image(per_example, monkeypatch):
    monkeypatch.setattr(pixels, "brightness", lambda image, factor: image + 1)
    monkeypatch.setattr(pixels, "contrast", lambda image, factor: image * 2)
    fn = jax.jit(
        augment.make_augmentation(f"color_jitter(brightness=0.1, contrast=0.1, per_example_order={per_example})")
    )
    batch = {"image": jnp.ones((256, 1, 1, 3))}  # (1 + 1) * 2 = 4, 1 * 2 + 1 = 3
    orders = [set(np.unique(fn(jax.random.key(seed), batch)["image"])) for seed in range(12)]
    assert set.union(*orders) == {3, 4}
    assert all(len(order) == (2 if per_example else 1) for order in orders)


def test_brightness_scales_or_shifts():
    images = np.repeat(np.array([[[[0.4]], [[0.6]]]], np.float32), 3, -1).repeat(500, 0)
    shifted = run("color_jitter(0.3, additive_brightness=True)", images)
    np.testing.assert_allclose(shifted[:, 1] - shifted[:, 0], 0.2, atol=1e-6)
    shift = shifted[:, 0, 0, 0] - 0.4
    assert (abs(np.histogram(shift, bins=4, range=(-0.3, 0.3))[0] - 125) < 4 * np.sqrt(500 * 3 / 16)).all()
    scaled = run("color_jitter(0.3)", images)
    np.testing.assert_allclose(scaled[:, 1] / scaled[:, 0], 1.5, atol=1e-5)


PHOTO = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)  # enough pixels for equalize to act


@pytest.mark.parametrize(
    ("spec", "pillow"),
    [
        ("grayscale", lambda image: image.convert("L").convert("RGB")),
        ("solarize(100)", lambda image: ImageOps.solarize(image, 100)),
        ("posterize(3)", lambda image: ImageOps.posterize(image, 3)),
        ("equalize", ImageOps.equalize),
        ("autocontrast", ImageOps.autocontrast),
        ("invert", ImageOps.invert),
    ],
)
def test_functions_equal_pillow_and_are_applied_with_probability(spec, pillow):
    image = PHOTO // 2 + 30
    expected = np.asarray(pillow(Image.fromarray(image))) / 255
    np.testing.assert_allclose(run(spec, image[None])[0], expected, atol=1.01 / 255)
    name, _, arguments = spec.partition("(")
    rare = f"{name}({arguments.removesuffix(')') + ', ' if arguments else ''}p=0.3)"
    out = run(rare, np.tile(image, (200, 1, 1, 1)))
    changed = abs(out - image / 255).max((1, 2, 3)) > 1e-3
    assert abs(changed.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 200)
