"""RandAugment: the strengths of its operations, and how they are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.augment import policy
from jaxvision.augment.randaugment import VARIANTS
from jaxvision.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)


def apply(name, strength, image=IMAGE):
    out = policy.apply_operation((name,), 0, jnp.float32(strength), jax.random.key(0), jnp.asarray(image) / 255)
    return np.asarray(out) * 255


@pytest.mark.parametrize("name", sorted(set(VARIANTS["increasing"]) - {"autocontrast", "equalize"}))
def test_magnitude_zero_changes_nothing(name):
    strength = VARIANTS["increasing"][name](0.0, 1.0)
    np.testing.assert_allclose(apply(name, strength), IMAGE, atol=1e-3)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_operation_changes_the_image_at_some_magnitude(variant):
    for name, strength in VARIANTS[variant].items():
        narrow = 40 + IMAGE // 16 * (IMAGE // 20)  # neither the whole range nor a flat histogram
        changed = [not np.allclose(apply(name, strength(m, 1.0), narrow), narrow, atol=0.5) for m in (0.3, 1.0)]
        assert any(changed) == (name != "identity"), name


def test_strengths_at_the_ends_of_their_ranges():
    def at(variant, name, m, sign=1.0):
        return float(VARIANTS[variant][name](m, sign))

    assert [at("increasing", "rotate", 1.0, s) for s in (1.0, -1.0)] == [30, -30]
    assert [at("increasing", "posterize", m) for m in (0.0, 0.5, 1.0)] == [8, 6, 4]
    assert [at("increasing", "solarize", m) for m in (0.0, 1.0)] == [256, 0]
    assert at("increasing", "color", 1.0, -1.0) == pytest.approx(0.1)
    assert [at("reference", "posterize", m) for m in (0.0, 0.9, 1.0, 2.8)] == [0, 3, 4, 8]
    assert at("reference", "solarize_add", 1.0) == 110
    assert at("reference", "contrast", 1.0) == pytest.approx(1.9)


@pytest.mark.parametrize(("variant", "count"), [("increasing", 14), ("reference", 16)])
def test_number_of_operations(variant, count):
    assert len(VARIANTS[variant]) == count


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_operation_is_drawn_equally_often(variant, draw):
    n, names = 1600, tuple(VARIANTS[variant])
    seen = dict.fromkeys(names, 0)
    for ((name, _),) in draw(f"randaugment(1, 5, variant='{variant}')", n, IMAGE):
        seen[name] += 1
    share = 1 / len(names)
    assert all(abs(count / n - share) < 4 * np.sqrt(share * (1 - share) / n) for count in seen.values()), seen


def test_no_operations_and_no_probability_change_nothing():
    batch = {"image": jnp.asarray(IMAGE)[None].repeat(8, 0)}
    for spec in ("randaugment(0)", "randaugment(2, 10, p=0.0)"):
        out = jax.jit(augment.make_augmentation(spec))(jax.random.key(0), batch)["image"]
        np.testing.assert_allclose(out[3], IMAGE / 255, atol=1e-6)


def test_magnitude_varies_by_std():
    batch = {"image": jnp.asarray(IMAGE)[None].repeat(200, 0)}

    def different(std):
        out = jax.jit(augment.make_augmentation(f"randaugment(1, 5, std={std})"))(jax.random.key(0), batch)["image"]
        return len({image.tobytes() for image in np.asarray(out)})

    # 14 operations, nine of them with a sign: without deviation no more than 23 different images.
    assert different(0.0) <= 23 < different(2.0)


def test_reference_magnitudes_go_to_thirty():
    augment.make_augmentation("randaugment(2, 28, variant='reference')")
    with pytest.raises(UserError, match=r"in \[0, 30\]"):
        augment.make_augmentation("randaugment(2, 31, variant='reference')")
