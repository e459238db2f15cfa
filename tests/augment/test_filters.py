"""Blur against SciPy and sharpness against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from jaxvision import augment
from jaxvision.augment import filters


def run(spec, images, seed=0):
    return np.asarray(
        jax.jit(augment.make_augmentation(spec))(jax.random.key(seed), {"image": jnp.asarray(images)})["image"]
    )


IMAGE = np.random.default_rng(0).random((17, 13, 3), np.float32)


@pytest.mark.parametrize(("sigma", "radius"), [(0.1, 1), (0.8, 2), (2.0, 5), (2.0, 1)])
def test_blur_equals_scipy(sigma, radius):
    expected = IMAGE
    for axis in (0, 1):
        expected = ndimage.gaussian_filter1d(expected, sigma, axis, mode="mirror", radius=radius)
    np.testing.assert_allclose(filters.blur(jnp.asarray(IMAGE), sigma, radius), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("side", "kernel", "expected"), [(40, 0.1, 5), (40, 0.25, 11), (40, 7, 7), (40, 6, 7), (16, 0.1, 3)]
)
def test_kernel_size(side, kernel, expected):
    point = np.zeros((1, side, side, 3), np.float32)
    point[0, side // 2, side // 2] = 1
    out = run(f"gaussian_blur((50.0, 50.0), kernel={kernel})", point)[0]  # so wide that the kernel is nearly flat
    rows, columns = np.nonzero(out[..., 0])
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == expected


def test_deviation_is_uniform_and_drawn_for_every_image():
    point = np.zeros((1500, 9, 9, 3), np.float32)
    point[:, 4, 4] = 1
    out = run("gaussian_blur((0.5, 1.5), kernel=3)", point)
    sigma = np.sqrt(0.5 / np.log(out[:, 4, 4, 0] / out[:, 4, 3, 0]))  # neighbours differ by exp(-1 / (2 sigma^2))
    counts = np.histogram(sigma, bins=4, range=(0.5, 1.5))[0]
    assert counts.sum() >= 1498  # the limits themselves, up to rounding
    assert (abs(counts - 375) < 4 * np.sqrt(1500 * 3 / 16)).all()


@pytest.mark.parametrize("spec", ["gaussian_blur(p=0.3)", "sharpness((2.0, 3.0), p=0.3)"])
def test_share_of_images_filtered(spec):
    changed = (run(spec, np.tile(IMAGE, (600, 1, 1, 1))) != IMAGE).any((1, 2, 3))
    assert abs(changed.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 600)


def test_blur_keeps_a_plane():
    plane = np.full((1, 12, 12, 3), 0.3, np.float32)
    np.testing.assert_allclose(run("gaussian_blur", plane), plane, atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.5, 3.0])
def test_sharpness_equals_pillow(factor):
    image = (IMAGE * 255).astype(np.uint8)
    expected = np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor)) / 255
    np.testing.assert_allclose(run(f"sharpness(({factor}, {factor}))", image[None])[0], expected, atol=2.5 / 255)
