"""Network dissection."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.explain import dissect, get_explanation
from jaxvision.explain.base import Subject


def test_the_threshold_is_the_exact_quantile_however_the_maps_are_batched():
    maps = np.random.default_rng(0).normal(size=(40, 5, 5, 3)).astype(np.float32)
    whole = dissect.thresholds(iter([maps]), 1000)
    np.testing.assert_array_equal((maps > whole).mean(axis=(0, 1, 2)), [0.005] * 3)
    np.testing.assert_array_equal(dissect.thresholds(iter([maps[:7], maps[7:9], maps[9:]]), 1000), whole)
    np.testing.assert_array_equal(whole, np.sort(maps.reshape(-1, 3), axis=0)[-6])


def test_too_few_places_for_the_threshold():
    with pytest.raises(UserError, match="give at least 200 places"):
        dissect.thresholds(iter([np.zeros((1, 10, 10, 1))]), 100)


def test_overlap_equals_a_count_pixel_by_pixel():
    rng = np.random.default_rng(1)
    maps, masks = rng.normal(size=(2, 4, 4, 3)).astype(np.float32), rng.integers(0, 3, (2, 4, 4))
    masks[0, 0] = dissect.IGNORED
    both, units, seen = dissect.overlap(maps, np.zeros(3, np.float32), masks, 2)
    for i in range(2):
        for unit in range(3):
            active = (maps[i, ..., unit] > 0) & (masks[i] != dissect.IGNORED)
            assert units[i, unit] == active.sum()
            assert both[i, unit].tolist() == [(active & (masks[i] == k)).sum() for k in (1, 2)]
        assert seen[i].tolist() == [(masks[i] == 1).sum(), (masks[i] == 2).sum()]


def planted(variables, images):
    """Unit 0 is the mask of what is red; unit 1 has nothing to do with it."""
    return {"map": jnp.stack([images[..., 0] - images[..., 2], jnp.sin(1000 * images[..., 1])], axis=-1)}


def scenes():
    """20 images of 20x20 pixels. Concept 1 are 40 red pixels, 0.5 % of all; concept 2 is somewhere else."""
    images, masks = np.full((20, 20, 20, 3), 0.5, np.float32), np.zeros((20, 20, 20), np.int32)
    images += np.random.default_rng(2).uniform(-0.1, 0.1, images.shape[:3])[..., None].astype(np.float32)
    for i in range(10):
        masks[i, i : i + 2, 5:7], masks[i, i : i + 2, 10:15] = 1, 2
        images[i, i : i + 2, 5:7] = (1, 0, 0)
    return images, masks


def test_a_unit_equal_to_a_mask_has_an_iou_of_one_and_is_a_detector():
    images, masks = scenes()
    found = dissect.dissect(planted, {}, images, masks, "map", concepts=2, batch=8)
    assert found.iou.shape == (2, 2)
    assert found.iou[0].tolist() == [1, 0]
    assert found.iou[1].max() < dissect.DETECTS
    assert found.detectors() == [0]
    concepts, iou = found.best()
    assert (concepts[0], iou[0]) == (1, 1)


def test_pixels_that_do_not_count_change_nothing():
    images, masks = scenes()
    masks[:3][masks[:3] == 1] = dissect.IGNORED
    assert dissect.dissect(planted, {}, images, masks, "map", concepts=2).iou[0, 0] == 1
    masks[:3] = 0
    assert dissect.dissect(planted, {}, images, masks, "map", concepts=2).iou[0, 0] == pytest.approx(0.7)


def test_the_page_names_the_concept_of_each_unit():
    images, masks = scenes()
    subject = Subject(planted, {}, images, np.zeros(20, np.int32), batch=8, masks=masks)
    shown = get_explanation("dissect")(subject._replace(concepts=("nothing", "square", "bar")), count=1, top=2)
    assert [row.name for row in shown.rows] == ["unit 0: square, IoU 1.000"]
    assert "1 of the 2 units of `map` detect a concept, by the number of units: square 1" in shown.text
    assert len(shown.rows[0].tiles) == 4
    active, concept = (tile.image for tile in shown.rows[0].tiles[:2])
    np.testing.assert_array_equal(active, concept)
    assert (active[..., 0] == 1).sum() == 4
    assert get_explanation("dissect")(subject, count=1).rows[0].name == "unit 0: concept 1, IoU 1.000"


def test_without_masks_it_is_refused():
    subject = Subject(planted, {}, scenes()[0], np.zeros(20, np.int32))
    assert "add --masks=FOLDER" in dissect._why_not(subject)
