"""The operations of policies, each by its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxvision.augment import policy

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)
SQUARE = np.random.default_rng(1).integers(0, 256, (15, 15, 3), np.uint8)


def apply(name, strength, image=IMAGE):
    out = policy.apply_operation((name,), 0, jnp.float32(strength), jax.random.key(0), jnp.asarray(image) / 255)
    return np.asarray(out) * 255


def shifted(image, by, axis):
    """`image` moved by whole pixels towards lower indices, grey moving in."""
    out = np.full_like(image, 128)
    n = image.shape[axis]
    source, target = [slice(None)] * 3, [slice(None)] * 3
    source[axis], target[axis] = slice(max(by, 0), n + min(by, 0)), slice(max(-by, 0), n + min(-by, 0))
    out[tuple(target)] = image[tuple(source)]
    return out


@pytest.mark.parametrize("turns", [-1, 1, 2])
@pytest.mark.parametrize("side", [15, 16])
def test_rotation_by_right_angles(turns, side):
    image = np.random.default_rng(2).integers(0, 256, (side, side, 3), np.uint8)
    np.testing.assert_allclose(apply("rotate", 90 * turns, image), np.rot90(image, turns), atol=1e-3)


@pytest.mark.parametrize("degrees", [-30, 12, 25])
def test_rotation_equals_pillow(degrees):
    expected = np.asarray(Image.fromarray(SQUARE).rotate(degrees, Image.Resampling.NEAREST, fillcolor=(128,) * 3))
    different = (abs(apply("rotate", degrees, SQUARE) - expected) > 0.5).any(-1)
    assert different.mean() < 0.02  # samples that fall between two pixels may round either way


@pytest.mark.parametrize("pixels", [-5, 0, 3])
def test_translation_by_whole_pixels(pixels):
    np.testing.assert_allclose(apply("translate_x", pixels / 16), shifted(IMAGE, pixels, 1), atol=1e-3)
    np.testing.assert_allclose(apply("translate_y", pixels / 24), shifted(IMAGE, pixels, 0), atol=1e-3)


@pytest.mark.parametrize("shape", [(15, 15), (24, 16), (16, 25), (1, 7), (7, 1)])
@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate"])
def test_geometric_operations_equal_pillows_to_the_pixel(pillow, name, shape):
    """At strengths that put no point on the border of two pixels, where rounding decides."""
    image = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    for strength in (-0.993, -0.3001, -0.0517, 0.0, 0.1499, 0.2999, 0.7003):
        degrees = 137 * strength
        angle_or_strength = degrees if name == "rotate" else strength
        expected = pillow(name, angle_or_strength, image, 128)
        np.testing.assert_allclose(apply(name, angle_or_strength, image), expected, atol=1e-3, err_msg=f"{strength}")


@pytest.mark.parametrize("shear", [-1, -0.5, 0.3, 2])
def test_shears_of_round_strengths_equal_pillows_too(pillow, shear):
    for name in ("shear_x", "shear_y"):
        np.testing.assert_allclose(apply(name, shear), pillow(name, shear, IMAGE, 128), atol=1e-3)


def test_cutout_is_a_grey_box():
    hole = (abs(apply("cutout", 0.5) - 128) < 1e-3).all(-1)
    assert 0 < hole.sum() <= 12 * 8
    np.testing.assert_array_equal(hole, hole.any(1)[:, None] & hole.any(0)[None, :])
