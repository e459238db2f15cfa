"""Cutout and random erasing against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.augment import erase
from jaxvision.errors import UserError


def run(spec, images, seed=0):
    return np.asarray(
        jax.jit(augment.make_augmentation(spec))(jax.random.key(seed), {"image": jnp.asarray(images)})["image"]
    )


def holes_of(spec, b, h, w):
    """The erased pixels of b white images, bool [b, h, w]; every hole is a filled box."""
    out = run(spec, np.ones((b, h, w, 3), np.float32))
    holes = (out == 0).all(-1)
    np.testing.assert_array_equal(holes, (out == 0).any(-1))
    for hole in holes:
        np.testing.assert_array_equal(hole, hole.any(1)[:, None] & hole.any(0)[None, :])
    return holes


def test_cutout_is_one_square_cut_off_at_the_border():
    side, size = 9, 4
    holes = holes_of(f"cutout({size})", 1500, side, side)
    centres = np.zeros((side, side), int)
    for hole in holes:
        centres[first_pixel(hole.any(1), size) + size // 2, first_pixel(hole.any(0), size) + size // 2] += 1
    expected = 1500 / side**2
    assert (abs(centres - expected) < 5 * np.sqrt(expected)).all()


def first_pixel(line, size):
    """Where a run of `size` pixels begins, which may be before the image if its start is cut off."""
    inside = np.flatnonzero(line)
    return inside[0] if inside[0] > 0 else inside[-1] + 1 - size


def zhong(rng, h, w, area, ratio):
    """Algorithm 1 of Zhong et al. 2020, literally: (top, left, height, width) in pixels."""
    while True:
        pixels, shape = h * w * rng.uniform(*area), rng.uniform(*ratio)
        height, width = round(np.sqrt(pixels * shape)), round(np.sqrt(pixels / shape))
        top, left = rng.integers(h), rng.integers(w)
        if top + height <= h and left + width <= w:
            return top, left, height, width


def test_erased_boxes_are_distributed_as_in_the_paper():
    n, h, w = 1500, 40, 30
    holes = holes_of("random_erasing(1.0, area=(0.05, 0.4), ratio=(0.5, 2.0), fill=0)", n, h, w)
    rows, columns = holes.any(2), holes.any(1)
    ours = np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], 1)
    rng = np.random.default_rng(0)
    theirs = np.array([zhong(rng, h, w, (0.05, 0.4), (0.5, 2.0)) for _ in range(4000)])
    error = np.sqrt(theirs.var(0) * (1 / n + 1 / 4000))
    assert (abs(ours.mean(0) - theirs.mean(0)) < 4 * error).all()
    assert (abs(ours.std(0) / theirs.std(0) - 1) < 0.1).all()
    share = ours[:, 2] * ours[:, 3] / (h * w)
    assert share.min() > 0.045
    assert share.max() < 0.42


def test_share_of_images_erased():
    changed = holes_of("random_erasing(0.3, fill=0)", 2000, 12, 12).any((1, 2))
    assert abs(changed.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)


def test_a_box_that_never_fits_changes_nothing():
    assert not holes_of("random_erasing(1.0, area=(0.99, 0.99), ratio=(3.0, 3.0), fill=0)", 4, 8, 8).any()


def test_fills():
    images = np.random.default_rng(0).random((64, 16, 16, 3), np.float32)

    def filled(fill):
        out = run(f"random_erasing(1.0, area=(0.2, 0.4), fill={fill!r})", images)
        changed = (out != images).any(-1)
        return out, changed

    out, hole = filled("uniform")
    assert 0 <= out[hole].min() < 0.01
    assert abs(out[hole].mean() - 0.5) < 0.02
    assert len(np.unique(out[hole])) > 0.9 * out[hole].size  # every pixel and channel has its own value
    out, hole = filled("normal")
    assert abs(out[hole].mean()) < 0.05
    assert abs(out[hole].std() - 1) < 0.05
    out, hole = filled("mean")
    for image, picture, box in zip(images, out, hole):
        np.testing.assert_allclose(picture[box], np.broadcast_to(image.mean((0, 1)), picture[box].shape), atol=1e-5)
    out, hole = filled((0.1, 0.2, 0.3))
    np.testing.assert_allclose(out[hole], np.broadcast_to([0.1, 0.2, 0.3], out[hole].shape), atol=1e-6)


@pytest.mark.parametrize(("corner", "size"), [((1, 2), (3, 2)), ((-1, -2), (3, 4)), ((4, 3), (9, 9)), ((0, 0), (0, 5))])
def test_rectangle_is_a_slice(corner, size):
    expected = np.zeros((6, 5), bool)
    top, left = np.maximum(corner, 0)
    expected[top : corner[0] + size[0], left : corner[1] + size[1]] = True
    np.testing.assert_array_equal(erase.rectangle((6, 5), corner, size), expected)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cutout(100)", "a square of 100 pixels can hide all of an image of 16x16"),
        ("random_erasing(area=(1.0, 1.0))", "area must be a number"),
        ("random_crop(16, 40)", "windows of 16x16 may hold nothing of the image"),
        ("random_crop(16, 40, 'edge')", "windows of 16x16 may hold nothing of the image"),
    ],
)
def test_what_hides_a_whole_image_is_refused(spec, message):
    batch = {"image": jnp.ones((2, 16, 16, 3))}
    with pytest.raises(UserError, match=message):
        augment.make_augmentation(spec)(jax.random.key(0), batch)
    augment.make_augmentation("cutout(16)|random_crop(16, 16)|random_crop(16, 40, 'reflect')")(jax.random.key(0), batch)
