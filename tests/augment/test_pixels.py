"""Colour functions against Pillow on noise and on a smooth image, to within a grey level or two."""

import colorsys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from jaxvision.augment import pixels


def smooth_image():
    y, x = np.mgrid[:24, :20]
    return np.stack([40 + 8 * x, 30 + 5 * y, 60 + 3 * x + 2 * y], -1).astype(np.uint8)


IMAGES = {"noise": np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8), "smooth": smooth_image()}


@pytest.fixture(params=sorted(IMAGES))
def image(request):
    return IMAGES[request.param]


def assert_close(ours, pillow, levels=1.01):
    np.testing.assert_allclose(np.asarray(ours) * 255, np.asarray(pillow), atol=levels)


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.7, 1.0, 1.9])
@pytest.mark.parametrize(
    ("ours", "pillow"),
    [
        (pixels.brightness, ImageEnhance.Brightness),
        (pixels.contrast, ImageEnhance.Contrast),
        (pixels.saturation, ImageEnhance.Color),
        (pixels.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancers(image, ours, pillow, factor):
    got = ours(jnp.asarray(image) / 255, factor)
    assert_close(got, pillow(Image.fromarray(image)).enhance(factor), levels=2)
    if factor == 1:
        np.testing.assert_allclose(got, image / 255, atol=1e-6)


@pytest.mark.parametrize("threshold", [0, 1, 100, 255, 256])
def test_solarize(image, threshold):
    expected = ImageOps.solarize(Image.fromarray(image), threshold)
    assert_close(pixels.solarize(jnp.asarray(image) / 255, threshold), expected)


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize(image, bits):
    expected = ImageOps.posterize(Image.fromarray(image), bits)
    assert_close(pixels.posterize(jnp.asarray(image) / 255, bits), expected, levels=0.01)


def test_posterize_to_no_bits_is_black(image):
    assert not pixels.posterize(jnp.asarray(image) / 255, 0).any()


@pytest.mark.parametrize(
    ("ours", "pillow"),
    [
        (pixels.invert, ImageOps.invert),
        (pixels.autocontrast, ImageOps.autocontrast),
        (pixels.equalize, ImageOps.equalize),
    ],
)
def test_functions_without_strength(image, ours, pillow):
    assert_close(ours(jnp.asarray(image) / 255), pillow(Image.fromarray(image)))


@pytest.mark.parametrize("function", [pixels.autocontrast, pixels.equalize])
def test_a_constant_channel_stays(function):
    image = IMAGES["noise"].copy()
    image[..., 1] = 77
    np.testing.assert_allclose(function(jnp.asarray(image) / 255)[..., 1], 77 / 255, atol=1e-6)


def test_equalize_leaves_images_too_small_to_have_a_step():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert_close(pixels.equalize(jnp.asarray(image) / 255), ImageOps.equalize(Image.fromarray(image)), 0.01)


def test_solarize_add():
    got = pixels.solarize_add(jnp.array([[[0, 100, 127], [128, 200, 255]]]) / 255, 110) * 255
    np.testing.assert_allclose(got, [[[110, 210, 237], [128, 200, 255]]], atol=1e-3)


@pytest.mark.parametrize("shift", [-0.5, -0.2, 0.0, 0.1, 0.5])
def test_hue_equals_colorsys(image, shift):
    def turned(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + shift) % 1, s, v)

    expected = np.apply_along_axis(turned, -1, image / 255)
    np.testing.assert_allclose(pixels.hue(jnp.asarray(image) / 255, shift), expected, atol=1e-5)


def test_hue_leaves_grey_alone():
    grey = jnp.full((2, 2, 3), 0.4)
    np.testing.assert_allclose(pixels.hue(grey, 0.3), grey, atol=1e-7)
