"""Patches to which a unit responds most."""

import jax.numpy as jnp
import numpy as np

from jaxvision.explain import get_explanation, patches, units
from jaxvision.explain.base import Subject

PATTERN = np.sign(np.random.default_rng(0).normal(size=(3, 3, 3))).astype(np.float32)


def matched(variables, images):
    """Two units: one looks for the pattern, the other for its negative. The border of the map is padded."""
    wide = jnp.pad(images - 0.5, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = [wide[:, i : i + images.shape[1], j : j + images.shape[2]] for i in range(3) for j in range(3)]
    found = sum(window @ kernel for window, kernel in zip(windows, variables["kernel"]))
    return {"stages": (jnp.stack([found, -found], axis=-1),), "map": found.mean((1, 2), keepdims=True)[..., None]}


def subject(n=5, side=8, top=2):
    images = np.full((n, side, side, 3), 0.5, np.float32)
    images += np.random.default_rng(1).uniform(-0.1, 0.1, images.shape).astype(np.float32)
    images[3, top : top + 3, 4:7] = 0.5 + 0.5 * PATTERN[: side - top]
    variables = {"kernel": PATTERN.reshape(9, 3)}
    return Subject(matched, variables, images, np.zeros(n, np.int32), names=tuple("abcde"), batch=2)


def test_the_image_of_a_planted_pattern_is_first_and_its_patch_is_the_pattern():
    shown = get_explanation("patches")(subject(), units=(0,), top=2)
    first, second = shown.rows[0].tiles
    np.testing.assert_array_equal(first.image, 0.5 + 0.5 * PATTERN)
    assert first.words == "d: 13.5"  # 27 weights of +-1 times +-0.5
    assert float(second.words.split()[-1]) < 13.5
    assert second.image.shape == (3, 3, 3)
    assert "`stages/0`" in shown.text  # not `map`, which sees everything
    assert "3x3 of the 8x8 pixels" in shown.text


def test_a_patch_is_cut_at_the_border_of_its_image():
    given = subject(top=6)  # of the pattern, the last row lies outside
    values, places = (np.asarray(x) for x in units.peaks(matched, given.variables, given.images, "stages/0"))
    places = np.stack(np.divmod(places, 8), axis=-1)
    (found,) = patches.top_patches(matched, given.variables, (8, 8), "stages/0", values, places, [0], 1)
    assert found == [patches.Patch(3, 6, 8, 4, 7, response=9.0)]
    np.testing.assert_array_equal(found[0].cut(given.images), 0.5 + 0.5 * PATTERN[:2])


def test_the_response_of_a_patch_is_that_of_the_map_at_its_place():
    given = subject()
    maps = np.asarray(units.respond(matched, given.variables, given.images, "stages/0"))
    values, places = (np.asarray(x) for x in units.peaks(matched, given.variables, given.images, "stages/0"))
    places = np.stack(np.divmod(places, 8), axis=-1)
    for unit, found in enumerate(
        patches.top_patches(matched, given.variables, (8, 8), "stages/0", values, places, [0, 1], 9)
    ):
        assert [patch.response for patch in found] == sorted(maps[..., unit].max((1, 2)).tolist(), reverse=True)
        for patch in found:
            i, j = places[patch.image, unit]
            assert patch.response == maps[patch.image, i, j, unit]
            assert (patch.top, patch.bottom) == (max(i - 1, 0), min(i + 2, 8))
            assert (patch.left, patch.right) == (max(j - 1, 0), min(j + 2, 8))


def test_patches_at_a_border_keep_their_scale():
    images = np.zeros((1, 6, 6, 3), np.float32)
    inside, below, corner = (
        patches.Patch(0, *field, response=1.0) for field in ((1, 4, 1, 4), (4, 6, 1, 4), (0, 2, 0, 2))
    )
    shown = [picture[..., 0] for picture in patches.of_one_size([inside, below, corner], images)]
    assert shown[0].tolist() == [[0, 0, 0]] * 3
    assert shown[1].tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert shown[2].tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]


def test_a_map_that_sees_everything_shows_whole_images():
    shown = get_explanation("patches")(subject(), layer="map", count=1, top=1)
    assert shown.rows[0].tiles[0].image.shape == (8, 8, 3)
    assert "these are whole images" in shown.text


def test_the_units_with_the_largest_responses_are_chosen():
    assert [row.name for row in get_explanation("patches")(subject(), count=1).rows] == ["unit 0"]
