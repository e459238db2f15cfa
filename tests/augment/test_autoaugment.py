"""AutoAugment: totals of its tables, the draw, and the result against Pillow."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.augment.autoaugment import POLICIES, STRENGTHS, sub_policies
from jaxvision.errors import UserError

# Counted in torchvision's tables: how often an operation occurs, the sum of its probabilities and of its magnitudes.
TOTALS = {
    "cifar10": {"equalize": (9, 4.7, 0), "sharpness": (5, 2.8, 24), "color": (5, 2.9, 27), "translate_y": (5, 3.4, 39)},
    "svhn": {"invert": (12, 7.6, 0), "shear_y": (8, 6.1, 51), "shear_x": (6, 4.2, 29), "solarize": (5, 2.2, 25)},
    "imagenet": {"equalize": (17, 11.2, 0), "solarize": (7, 3.6, 36), "rotate": (6, 3.6, 45), "color": (6, 3.8, 18)},
}


@pytest.mark.parametrize("name", POLICIES)
def test_tables_have_the_totals_of_torchvision(name):
    table = sub_policies(name)
    assert len(table) == 25
    assert all(len(pair) == 2 for pair in table)
    rows = [operation for pair in table for operation in pair]
    assert {row[0] for row in rows} <= set(STRENGTHS)
    for operation, (count, probability, magnitude) in TOTALS[name].items():
        mine = [row for row in rows if row[0] == operation]
        assert len(mine) == count, operation
        assert sum(row[1] for row in mine) == pytest.approx(probability), operation
        assert sum(row[2] for row in mine) == magnitude, operation


def test_strengths_at_the_ends_of_their_ranges():
    # torchvision's ranges at magnitudes 0 and 9; its solarize starts at 255, its translations at 150 / 331.
    expected = {
        **dict.fromkeys(("shear_x", "shear_y"), (0, 0.3)),
        **dict.fromkeys(("translate_x", "translate_y"), (0, 0.45)),
        "rotate": (0, 30),
        **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (1, 1.9)),
        "posterize": (8, 4),
        "solarize": (256, 0),
    }
    for name, ends in expected.items():
        np.testing.assert_allclose([STRENGTHS[name](jnp.float32(m / 9), 1.0) for m in (0, 9)], ends, err_msg=name)
    bits = [float(STRENGTHS["posterize"](jnp.float32(m / 9), 1.0)) for m in range(10)]
    assert bits == [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]


@pytest.mark.parametrize("name", POLICIES)
def test_sub_policies_are_drawn_uniformly_and_operations_with_their_probability(name, draw, photo):
    n, table = 3000, sub_policies(name)
    counts = {}
    for drawn in draw(f"autoaugment('{name}')", n, photo):
        key = tuple(operation for operation, _ in drawn)
        counts[key] = counts.get(key, 0) + 1 / n
    expected = {}
    for (first, p, _), (second, q, _) in table:
        outcomes = [
            ((first, second), p * q),
            ((first,), p * (1 - q)),
            ((second,), (1 - p) * q),
            ((), (1 - p) * (1 - q)),
        ]
        for key, share in outcomes:
            expected[key] = expected.get(key, 0) + share / 25
    for key in counts.keys() | expected.keys():
        share = expected.get(key, 0)
        assert abs(counts.get(key, 0) - share) < 4.5 * np.sqrt(share * (1 - share) / n) + 1e-3, key


@pytest.mark.parametrize("name", POLICIES)
def test_images_equal_pillow(name, draw, pillow, photo):
    n = 50
    drawn = draw(f"autoaugment('{name}')", n, photo, key=7)
    batch = {"image": jnp.tile(jnp.asarray(photo), (n, 1, 1, 1))}
    out = jax.jit(augment.make_augmentation(f"autoaugment('{name}')"))(jax.random.key(7), batch)["image"]
    assert any(len(pairs) == 2 for pairs in drawn)
    for image, pairs in zip(np.asarray(out) * 255, drawn):
        expected = photo
        for operation, strength in pairs:
            expected = pillow(operation, strength, expected, fill=128)
        # A value near a threshold, or a sample between two pixels, may fall to either side, and equalize spreads it.
        assert (abs(image - expected) > 16).mean() < 0.1, pairs


def test_unknown_policy_is_named():
    with pytest.raises(UserError, match=re.escape("unknown policy of autoaugment 'cifar'; did you mean 'cifar10'?")):
        augment.make_augmentation("autoaugment('cifar')")
