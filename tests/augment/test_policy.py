"""RandAugment: every operation by its definition, and the draw of operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxvision import augment
from jaxvision.augment import policy
from jaxvision.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)
SQUARE = np.random.default_rng(1).integers(0, 256, (15, 15, 3), np.uint8)


def apply(name, strength, image=IMAGE):
    out = policy.apply((name,), 0, jnp.float32(strength), jax.random.key(0), jnp.asarray(image) / 255)
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


@pytest.mark.parametrize("shear", [-1, 2])
def test_shear_by_whole_pixels_moves_rows_by_their_index(shear):
    in_x, in_y = apply("shear_x", shear), apply("shear_y", shear)
    for i in range(24):
        row = shifted(IMAGE[i : i + 1], np.clip(shear * i, -16, 16), axis=1)[0]
        np.testing.assert_allclose(in_x[i], row, atol=1e-3)
    for j in range(16):
        column = shifted(IMAGE[:, j : j + 1], np.clip(shear * j, -24, 24), axis=0)[:, 0]
        np.testing.assert_allclose(in_y[:, j], column, atol=1e-3)


def test_shear_equals_pillow():
    matrix = (1, 0.3, 0, 0, 1, 0)
    expected = Image.fromarray(SQUARE).transform(
        (15, 15), Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=(128,) * 3
    )
    different = (abs(apply("shear_x", 0.3, SQUARE) - np.asarray(expected)) > 0.5).any(-1)
    assert different.mean() < 0.15  # Pillow's rows begin half a pixel later: samples near an edge round the other way


def test_cutout_is_a_grey_box():
    hole = (abs(apply("cutout", 0.5) - 128) < 1e-3).all(-1)
    assert 0 < hole.sum() <= 12 * 8
    np.testing.assert_array_equal(hole, hole.any(1)[:, None] & hole.any(0)[None, :])


@pytest.mark.parametrize("name", sorted(set(policy.VARIANTS["increasing"]) - {"autocontrast", "equalize"}))
def test_magnitude_zero_changes_nothing(name):
    strength = policy.VARIANTS["increasing"][name](0.0, 1.0)
    np.testing.assert_allclose(apply(name, strength), IMAGE, atol=1e-3)


@pytest.mark.parametrize("variant", sorted(policy.VARIANTS))
def test_every_operation_changes_the_image_at_some_magnitude(variant):
    for name, strength in policy.VARIANTS[variant].items():
        narrow = 40 + IMAGE // 16 * (IMAGE // 20)  # neither the whole range nor a flat histogram
        changed = [not np.allclose(apply(name, strength(m, 1.0), narrow), narrow, atol=0.5) for m in (0.3, 1.0)]
        assert any(changed) == (name != "identity"), name


def test_strengths_at_the_ends_of_their_ranges():
    def at(variant, name, m, sign=1.0):
        return float(policy.VARIANTS[variant][name](m, sign))

    assert [at("increasing", "rotate", 1.0, s) for s in (1.0, -1.0)] == [30, -30]
    assert [at("increasing", "posterize", m) for m in (0.0, 0.5, 1.0)] == [8, 6, 4]
    assert [at("increasing", "solarize", m) for m in (0.0, 1.0)] == [256, 0]
    assert at("increasing", "color", 1.0, -1.0) == pytest.approx(0.1)
    assert [at("reference", "posterize", m) for m in (0.0, 0.9, 1.0, 2.8)] == [0, 3, 4, 8]
    assert at("reference", "solarize_add", 1.0) == 110
    assert at("reference", "contrast", 1.0) == pytest.approx(1.9)


@pytest.mark.parametrize(("variant", "count"), [("increasing", 14), ("reference", 16)])
def test_number_of_operations(variant, count):
    assert len(policy.VARIANTS[variant]) == count


@pytest.mark.parametrize("variant", sorted(policy.VARIANTS))
def test_every_operation_is_drawn_equally_often(variant, monkeypatch):
    n, names = 1600, tuple(policy.VARIANTS[variant])
    image = jnp.asarray(50 + IMAGE // 2) / 255
    seen = dict.fromkeys(names, 0)

    def record(names, index, strength, rng, image):
        return jnp.full_like(image, index)

    monkeypatch.setattr(policy, "apply", record)
    op = augment.make(f"randaugment(1, 5, variant='{variant}')")
    out = op(jax.random.key(0), {"image": jnp.tile(image, (n, 1, 1, 1))})["image"]
    for index in np.asarray(out)[:, 0, 0, 0]:
        seen[names[int(index)]] += 1
    share = 1 / len(names)
    assert all(abs(count / n - share) < 4 * np.sqrt(share * (1 - share) / n) for count in seen.values()), seen


def test_no_operations_and_no_probability_change_nothing():
    batch = {"image": jnp.asarray(IMAGE)[None].repeat(8, 0)}
    for spec in ("randaugment(0)", "randaugment(2, 10, p=0.0)"):
        np.testing.assert_allclose(augment.make(spec)(jax.random.key(0), batch)["image"][3], IMAGE / 255, atol=1e-6)


def test_magnitude_varies_by_std():
    batch = {"image": jnp.asarray(IMAGE)[None].repeat(200, 0)}

    def different(std):
        out = jax.jit(augment.make(f"randaugment(1, 5, std={std})"))(jax.random.key(0), batch)["image"]
        return len({image.tobytes() for image in np.asarray(out)})

    # 14 operations, nine of them with a sign: without deviation no more than 23 different images.
    assert different(0.0) <= 23 < different(2.0)


def test_reference_magnitudes_go_to_thirty():
    augment.make("randaugment(2, 28, variant='reference')")
    with pytest.raises(UserError, match=r"in \[0, 30\]"):
        augment.make("randaugment(2, 31, variant='reference')")
