"""Geometric operations against NumPy and Pillow, and the distribution of their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxvision import augment
from jaxvision.augment import geometry
from jaxvision.data import host_ops
from jaxvision.errors import UserError


def run(spec, images, seed=0):
    return np.asarray(
        jax.jit(augment.make_augmentation(spec))(jax.random.key(seed), {"image": jnp.asarray(images)})["image"]
    )


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


@pytest.mark.parametrize("sides", [(9, 8), (8, 9), (11, 7), (7, 12), (5, 4), (10, 13)])
def test_central_crop_begins_where_torchvisions_and_the_hosts_does(sides):
    """`int(round((h - c) / 2.0))` in torchvision's center_crop, whose `round` takes halves to the even number."""
    image = np.random.default_rng(0).integers(0, 256, (*sides, 3), np.uint8)
    host, device = host_ops.make_chain("central_crop((5, 4))"), augment.make_augmentation("central_crop((5, 4))")
    top, left = round((sides[0] - 5) / 2.0), round((sides[1] - 4) / 2.0)
    expected = image[top : top + 5, left : left + 4]
    np.testing.assert_array_equal(host({"image": image}, None)["image"], expected)
    on_device = device(jax.random.key(0), {"image": jnp.asarray(image)[None]})["image"][0]
    np.testing.assert_array_equal(np.rint(on_device * 255), expected)
    middle = augment.make_augmentation("five_crop((5, 4))")(jax.random.key(0), {"image": jnp.asarray(image)[None]})[
        "image"
    ][0, 4]
    np.testing.assert_array_equal(middle, on_device)


@pytest.mark.parametrize("size", [(10, 4), (4, 10)])
def test_a_crop_larger_than_the_image_is_refused_on_both_sides(size):
    with pytest.raises(UserError, match=f"cannot cut {size[0]}x{size[1]} out of 9x8"):
        run(f"central_crop({size})", noise(2, 9, 8, 3))
    with pytest.raises(UserError, match=f"cannot cut {size[0]}x{size[1]} out of an image of 9x8"):
        host_ops.make_chain(f"central_crop({size})")({"image": np.zeros((9, 8, 3), np.uint8)}, None)


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


def test_flip_ud_is_a_mirror():
    images = noise(4, 6, 5, 3)
    np.testing.assert_array_equal(run("flip_ud(1.0)", images), images[:, ::-1])
    np.testing.assert_array_equal(run("flip_ud(0.0)", images), images)


def test_flip_ud_share():
    images = np.tile(np.array([0.0, 1.0], np.float32)[None, :, None, None], (2000, 1, 1, 3))
    assert abs(run("flip_ud(0.3)", images)[:, 0, 0, 0].mean() - 0.3) < 0.041


@pytest.mark.parametrize("n", range(4))
def test_rotate90_equals_numpy(n):
    images = noise(2, 5, 5, 3)
    np.testing.assert_array_equal(run(f"rotate90(({n},))", images), np.rot90(images, n, axes=(1, 2)))


@pytest.mark.parametrize("turns", [(0, 1, 2, 3), (1, 2)])
def test_right_angles_are_equally_likely(turns):
    image = noise(3, 3, 3)
    counts = {np.rot90(image, n).tobytes(): 0 for n in turns}
    for turned in run(f"rotate90({turns})", np.tile(image, (1200, 1, 1, 1))):
        counts[turned.tobytes()] += 1
    share = 1 / len(turns)
    assert all(abs(n / 1200 - share) < 4 * np.sqrt(share * (1 - share) / 1200) for n in counts.values())


def test_rotate90_of_oblong_images_takes_half_turns_only():
    images = noise(2, 4, 6, 3)
    np.testing.assert_array_equal(run("rotate90((2,))", images), images[:, ::-1, ::-1])
    with pytest.raises(UserError, match=r"images of 4x6 pixels are not square, so use rotate90\(\(0, 2\)\)"):
        run("rotate90", images)


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_pad_equals_numpy(mode):
    images = noise(2, 5, 6, 3)
    expected = np.pad(images, ((0, 0), (2, 2), (3, 3), (0, 0)), mode)
    np.testing.assert_array_equal(run(f"pad((2, 3), '{mode}')", images), expected)


def test_pad_fills_with_a_colour():
    images, fill = noise(2, 5, 6, 3), np.array([0.1, 0.2, 0.3], np.float32)
    expected = np.broadcast_to(fill, (2, 7, 8, 3)).copy()
    expected[:, 1:-1, 1:-1] = images
    np.testing.assert_array_equal(run("pad(1, (0.1, 0.2, 0.3))", images), expected)


@pytest.mark.parametrize(("shape", "expected"), [((20, 31), (8, 12)), ((31, 20), (12, 8)), ((9, 9), (8, 8))])
def test_resize_short_keeps_the_aspect_ratio(shape, expected):
    images = noise(1, *shape, 3)
    np.testing.assert_allclose(run("resize_short(8)", images), run(f"resize({expected})", images), atol=1e-6)


def test_a_window_of_a_resized_image_equals_pillow():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for sides, corner in [((26, 39), (3, 11)), ((13, 19), (0, 5)), ((40, 60), (25, 40))]:
        resized = np.asarray(Image.fromarray(image).resize(sides[::-1], Image.Resampling.BILINEAR))
        expected = resized[corner[0] : corner[0] + 10, corner[1] : corner[1] + 12] / 255
        got = geometry.window(jnp.asarray(image) / 255, sides, corner, (10, 12), "linear")
        np.testing.assert_allclose(got, expected, atol=1.5 / 255)


def test_random_short_side_crop_draws_sides_and_places_uniformly(monkeypatch):
    def record(image, sides, corner, size, method):
        return jnp.concatenate([sides, corner]).reshape(2, 2, 1)

    monkeypatch.setattr(geometry, "window", record)
    h, w, top, left = run("random_short_side_crop(8, (8, 12))", np.zeros((2000, 10, 15, 1))).reshape(2000, 4).T
    assert (w == h * 15 // 10).all()
    counts = np.bincount(h, minlength=13)[8:]
    assert (abs(counts - 400) < 4 * np.sqrt(2000 * 0.2 * 0.8)).all()
    for place, side in ((top, h), (left, w)):
        assert (place >= 0).all()
        assert (place <= side - 8).all()
        at_12 = np.bincount(place[h == 12])
        assert (abs(at_12 - at_12.mean()) < 4 * np.sqrt(at_12.mean())).all()


def test_random_short_side_crop_evaluates_to_the_central_crop_of_256_for_224():
    expected = "resize_short(256, 'linear')|central_crop(224)"
    assert augment.evaluation("random_short_side_crop(224)") == expected


def test_geometry_of_views_is_that_of_each_image():
    images = noise(2, 3, 12, 10, 3)
    for spec in ("resize((7, 8))", "resize_short(6)", "central_crop(8)", "pad(1, 0.5)", "flip_ud(1.0)"):
        flat = run(spec, images.reshape(6, 12, 10, 3))
        np.testing.assert_allclose(run(spec, images), flat.reshape(2, 3, *flat.shape[1:]), atol=1e-6)
