"""Geometric operations against NumPy and Pillow, and the distribution of their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxvision import augment


def run(spec, images, seed=0):
    return np.asarray(jax.jit(augment.make(spec))(jax.random.key(seed), {"image": jnp.asarray(images)})["image"])


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def test_flip_is_a_mirror_and_its_own_inverse():
    images = noise(4, 6, 5, 3)
    np.testing.assert_array_equal(run("flip_lr(1.0)", images), images[:, :, ::-1])
    np.testing.assert_array_equal(run("flip_lr(1.0)|flip_lr(1.0)", images), images)
    np.testing.assert_array_equal(run("flip_lr(0.0)", images), images)


def test_flip_share():
    images = np.tile(np.array([0.0, 1.0], np.float32)[None, None, :, None], (2000, 1, 1, 3))
    flipped = run("flip_lr(0.3)", images)[:, 0, 0, 0]
    assert abs(flipped.mean() - 0.3) < 0.041  # 4 standard deviations of a share of 2000


@pytest.mark.parametrize("method", ["linear", "cubic", "lanczos3"])
@pytest.mark.parametrize("size", [(12, 9), (40, 50)])
def test_resize_equals_pillow(method, size):
    # Half the range: Pillow clips between its two passes, where cubic and Lanczos filters overshoot.
    image = np.random.default_rng(0).integers(64, 192, (24, 30, 3), np.uint8)
    filters = {
        "linear": Image.Resampling.BILINEAR,
        "cubic": Image.Resampling.BICUBIC,
        "lanczos3": Image.Resampling.LANCZOS,
    }
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], filters[method])) / 255
    np.testing.assert_allclose(run(f"resize({size}, '{method}')", image[None])[0], expected, atol=1.5 / 255)


def test_central_crop():
    images = noise(2, 9, 8, 3)
    np.testing.assert_array_equal(run("central_crop((5, 4))", images), images[:, 2:7, 2:6])


@pytest.mark.parametrize(("mode", "numpy_mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_random_crop_takes_every_window_equally_often(mode, numpy_mode):
    image = noise(5, 6, 3)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode=numpy_mode)
    windows = {padded[i : i + 5, j : j + 6].tobytes(): 0 for i in range(3) for j in range(3)}
    for crop in run(f"random_crop((5, 6), 1, '{mode}')", np.tile(image, (1800, 1, 1, 1))):
        windows[crop.tobytes()] += 1  # a KeyError here is a window that does not exist
    counts = np.array(list(windows.values()))
    assert (abs(counts - 200) < 4 * np.sqrt(1800 / 9 * 8 / 9)).all()  # 4 standard deviations


def test_random_resized_crop_of_the_whole_image_is_resize():
    images = noise(3, 16, 16, 3)
    whole = run("random_resized_crop(10, area=(1.0, 1.0), ratio=(1.0, 1.0))", images)
    np.testing.assert_allclose(whole, run("resize(10)", images), atol=1e-5)


def boxes_of(spec, h, w, b=1000):
    """Crops a picture of its own coordinates: corner (x, y) and sides of every box, in shares of the image.

    Good to about a hundredth: a widened filter does not keep a ramp exactly straight.
    """
    y, x = (np.mgrid[:h, :w] + 0.5) / np.array([h, w]).reshape(2, 1, 1)
    out = run(spec, np.tile(np.stack([x, y, 0 * x], -1).astype(np.float32), (b, 1, 1, 1)))
    inner = out[:, 4:-4, 4:-4]  # the border is bent where the filter meets the image's edge
    step = (inner[:, -1, -1, :2] - inner[:, 0, 0, :2]) / (inner.shape[1] - 1)
    corner = inner[:, 0, 0, :2] - 4.5 * step
    return corner, step * out.shape[1]


def test_random_resized_crop_draws_the_stated_boxes():
    h, w = 64, 48
    corner, sides = boxes_of("random_resized_crop(24, area=(0.1, 0.5))", h, w)
    assert (corner > -0.01).all()
    assert (corner + sides < 1.01).all()
    area, ratio = sides.prod(1), sides[:, 0] * w / (sides[:, 1] * h)
    assert area.min() > 0.095
    assert area.max() < 0.51
    assert ratio.min() > 0.74
    assert ratio.max() < 1.35
    # Means of uniform draws, 4 standard errors wide; nearly all first candidates fit here.
    assert abs(area.mean() - 0.3) < 4 * 0.4 / np.sqrt(12 * 1000) + 0.005
    assert abs(np.log(ratio).mean()) < 4 * 2 * np.log(4 / 3) / np.sqrt(12 * 1000) + 0.005
    place = corner / (1 - sides)
    assert (abs(place.mean(0) - 0.5) < 4 / np.sqrt(12 * 1000)).all()


def test_random_resized_crop_equals_a_crop_by_pillow():
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(image[::8, ::8]).resize((40, 40), Image.Resampling.BICUBIC))
    spec = "random_resized_crop(16, area=(0.2, 0.4))"
    corner, sides = boxes_of(spec, 40, 40, b=6)  # the same key and batch size draw the same boxes
    got = run(spec, np.tile(smooth, (6, 1, 1, 1)))
    for i in range(6):
        box = np.clip(40 * np.concatenate([corner[i], corner[i] + sides[i]]), 0, 40)
        expected = np.asarray(Image.fromarray(smooth).resize((16, 16), Image.Resampling.BILINEAR, box=tuple(box))) / 255
        # The boxes are known to a hundredth only; half a pixel too far would be 16 grey levels.
        np.testing.assert_allclose(got[i][1:-1, 1:-1], expected[1:-1, 1:-1], atol=5 / 255)


def test_random_resized_crop_clips_a_box_that_never_fits():
    images = noise(2, 8, 32, 3)
    out = run("random_resized_crop(8, area=(1.0, 1.0), ratio=(1.0, 1.0))", images)  # a 16x16 square in 8 rows
    assert np.isfinite(out).all()
    assert 0 <= out.min() <= out.max() <= 1
