"""TrivialAugment: its ranges, the draw, and the result against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.augment.trivialaugment import SPACES
from jaxvision.errors import UserError

# Table 1 of the paper with the rounding of the authors' code: strengths at the lowest and at the highest level.
RANGES = {
    "ra": {
        "rotate": (0, 30),
        "shear_x": (0, 0.3),
        "shear_y": (0, 0.3),
        "translate_x": (0, 10),
        "translate_y": (0, 10),
        **dict.fromkeys(("color", "contrast", "brightness", "sharpness"), (0.1, 1.9)),
        "posterize": (8, 4),
        "solarize": (256, 0),
        **dict.fromkeys(("identity", "autocontrast", "equalize"), (0, 0)),
    },
    "wide": {
        "rotate": (0, 135),
        "shear_x": (0, 0.99),
        "shear_y": (0, 0.99),
        "translate_x": (0, 32),
        "translate_y": (0, 32),
        **dict.fromkeys(("color", "contrast", "brightness", "sharpness"), (0.01, 2.0)),
        "posterize": (8, 2),
        "solarize": (256, 0),
        **dict.fromkeys(("identity", "autocontrast", "equalize"), (0, 0)),
    },
}
SIGNED = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


@pytest.mark.parametrize("space", RANGES)
def test_ranges_are_those_of_the_paper(space):
    assert set(SPACES[space]) == set(RANGES[space])
    for name, strength in SPACES[space].items():
        for sign in (1.0, -1.0) if name in SIGNED else (1.0,):
            ends = (strength(jnp.float32(0), sign), strength(jnp.float32(1), sign))
            np.testing.assert_allclose(ends, np.array(RANGES[space][name]) * sign, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("space", RANGES)
def test_operations_signs_and_levels_are_drawn_uniformly(space, draw, photo):
    n = 2800
    drawn = [pair for (pair,) in draw(f"trivialaugment('{space}')", n, photo)]
    for name in RANGES[space]:
        strengths = np.array([strength for drawn_name, strength in drawn if drawn_name == name])
        assert abs(len(strengths) / n - 1 / 14) < 4 * np.sqrt(13 / 14**2 / n), name
        if name in SIGNED:
            assert abs((strengths > 0).mean() - 0.5) < 0.15
        low, high = np.array(RANGES[space][name]) / {"translate_x": 48, "translate_y": 40}.get(name, 1)
        if high != low:
            level = (abs(strengths) - low) / (high - low)
            assert level.min() < 0.1
            assert level.max() > 0.9
            assert abs(level.mean() - 0.5) < 0.1  # a uniform draw of 200 has a deviation of 0.02, flooring adds 0.02


@pytest.mark.parametrize("space", RANGES)
def test_images_equal_pillow(space, draw, pillow, photo):
    n = 60
    drawn = draw(f"trivialaugment('{space}')", n, photo, key=5)
    batch = {"image": jnp.tile(jnp.asarray(photo), (n, 1, 1, 1))}
    out = jax.jit(augment.make_augmentation(f"trivialaugment('{space}')"))(jax.random.key(5), batch)["image"]
    for image, ((name, strength),) in zip(np.asarray(out) * 255, drawn):
        different = abs(image - pillow(name, strength, photo, fill=0)) > 12
        # Pillow's shears begin half a pixel later, and a threshold may fall on either side of a rounded value.
        assert different.mean() < (0.1 if "shear" in name else 0.03), (name, strength)


def test_fill_is_a_grey_level():
    batch = {"image": jnp.ones((200, 8, 8, 3))}
    out = jax.jit(augment.make_augmentation("trivialaugment(fill=51)"))(jax.random.key(0), batch)["image"]
    assert np.isclose(np.asarray(out), 0.2).any()
    with pytest.raises(UserError, match=r"trivialaugment: fill must be a number in \[0, 255\], not 256"):
        augment.make_augmentation("trivialaugment(fill=256)")


def test_unknown_space_is_named():
    with pytest.raises(UserError, match="unknown space of trivialaugment 'wid'; did you mean 'wide'"):
        augment.make_augmentation("trivialaugment('wid')")
