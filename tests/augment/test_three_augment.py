"""3-Augment: every image is one of three, as Pillow makes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from jaxvision import augment
from jaxvision.errors import UserError


def run(spec, image, n):
    batch = {"image": jnp.tile(jnp.asarray(image), (n, 1, 1, 1))}
    return np.asarray(jax.jit(augment.make_augmentation(spec))(jax.random.key(0), batch)["image"]) * 255


def test_images_equal_pillow_and_each_kind_is_equally_likely(photo):
    picture, n, sigma = Image.fromarray(photo), 300, 1.5
    pictures = (
        picture.convert("L").convert("RGB"),
        ImageOps.solarize(picture),
        picture.filter(ImageFilter.GaussianBlur(sigma)),
    )
    kinds = [np.asarray(kind, np.float32) for kind in pictures]
    counts = [0, 0, 0]
    for image in run(f"three_augment(({sigma}, {sigma}))", photo, n):
        # Inside the border: Pillow repeats the outermost pixel where this mirrors the image.
        distances = [abs(image - kind)[4:-4, 4:-4].mean() for kind in kinds]
        assert min(distances) < 1.5
        counts[np.argmin(distances)] += 1
    assert all(abs(count / n - 1 / 3) < 0.1 for count in counts), counts


def test_blurs_differ_in_width(photo):
    images = run("three_augment", photo, 100)
    assert len({image.tobytes() for image in images}) > 20  # grey and solarized images are two


def test_wrong_widths_are_named():
    with pytest.raises(UserError, match=r"three_augment: sigma must be a pair \(a, b\) of numbers"):
        augment.make_augmentation("three_augment(0.5)")
