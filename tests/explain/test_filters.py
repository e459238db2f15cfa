"""Filters of the first layer, and response maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.explain import filters, get_explanation, units
from jaxvision.explain.base import Subject

FIRST = {
    ("resnet", "18"): ("stem_conv/kernel", (7, 7, 3, 64)),
    ("vit", "Ti/16"): ("embedding/kernel", (16, 16, 3, 192)),
    ("convnext", "tiny"): ("stem_conv/kernel", (4, 4, 3, 96)),  # beside depthwise kernels over 1 channel
    ("nin", None): ("stage1/conv1/kernel", (5, 5, 3, 192)),
}


@pytest.mark.parametrize(("model", "expected"), FIRST.items(), ids=lambda x: str(x[0]))
def test_the_layer_over_the_image_is_found(model, expected):
    name, variant = model
    module = models.build(name, num_classes=None, **({} if variant is None else dict(variant=variant)))
    image = np.zeros((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), image, train=False))["params"]
    params = jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), shapes)
    path, kernel = filters.first_kernel(params)
    assert (path, kernel.shape) == expected


def test_a_layer_over_grey_images_and_none_at_all():
    grey = {"c1": {"kernel": np.ones((5, 5, 1, 6))}, "c3": {"kernel": np.ones((5, 5, 6, 16))}}
    assert filters.first_kernel(grey)[0] == "c1/kernel"
    assert filters.first_kernel({"dense": {"kernel": np.ones((3, 8))}}) is None


def test_filters_stand_by_falling_norm_each_at_its_own_scale():
    weak = np.zeros((3, 3, 3), np.float32)
    weak[0, 0, 0] = 0.01
    strong = np.full((3, 3, 3), -2.0, np.float32)
    first, second = filters.filter_pictures(np.stack([weak, strong], axis=-1))
    np.testing.assert_allclose(first, 0)
    assert second[0, 0].tolist() == [1.0, 0.5, 0.5]
    assert (second[1:] == 0.5).all()


def test_grey_filters_become_grey_pictures():
    image = filters.filter_pictures(np.arange(4.0).reshape(2, 2, 1, 1))
    assert image.shape == (1, 2, 2, 3)
    assert (image == image[..., :1]).all()


# A network of one convolution: 4 filters of 3x3 pixels over images of 8x6.
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(size=(3, 8, 6, 3)).astype(np.float32)


def convolve(variables, images):
    kernel = variables["params"]["conv"]["kernel"]
    maps = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return {"map": maps, "logits": maps.mean((1, 2))}


def subject():
    variables = {"params": {"conv": {"kernel": jnp.asarray(KERNEL)}}}
    return Subject(convolve, variables, IMAGES, np.zeros(3, np.int32), batch=2)


def test_responses_equal_a_direct_convolution():
    found = units.respond(convolve, subject().variables, IMAGES, "map")
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for n, i, j in np.ndindex(3, 8, 6):
        window = padded[n, i : i + 3, j : j + 3]
        np.testing.assert_allclose(found[n, i, j], np.einsum("hwc,hwcd->d", window, KERNEL), rtol=1e-4, atol=1e-5)


def test_the_page_of_filters_has_a_tile_for_each_in_the_unit_range():
    shown = get_explanation("filters")(subject())
    tiles = [tile.image for row in shown.rows for tile in row.tiles]
    assert [tile.shape for tile in tiles] == [(3, 3, 3)] * 4
    assert all(tile.min() >= 0 and tile.max() <= 1 for tile in tiles)
    assert "4 filters of 3x3 pixels" in shown.text
    assert [len(row.tiles) for row in get_explanation("filters")(subject(), count=2).rows] == [2]


def test_a_network_without_a_convolution_over_the_image_has_no_filters():
    dense = subject()._replace(variables={"params": {"dense": {"kernel": np.ones((3, 8))}}})
    assert "no convolution" in filters.without_filters(dense)


def test_the_page_of_responses_has_the_same_units_for_all_images():
    maps = np.asarray(units.respond(convolve, subject().variables, IMAGES, "map"))
    strongest = np.argsort(-np.abs(maps).max((0, 1, 2)))[:2].tolist()
    shown = get_explanation("responses")(subject(), count=2)
    for i, row in enumerate(shown.rows):
        assert [tile.words for tile in row.tiles] == ["image", *(f"unit {unit}" for unit in strongest)]
        np.testing.assert_allclose(row.tiles[1].map, maps[i, :, :, strongest[0]], rtol=1e-5, atol=1e-6)
    assert {row.tiles[1].bound for row in shown.rows} == {float(np.abs(maps[..., strongest[0]]).max())}


def test_a_unit_or_a_map_that_is_not_there():
    with pytest.raises(UserError, match="units: the map has no unit 9; it has units 0 to 3"):
        get_explanation("responses")(subject(), units=(0, 9))
    with pytest.raises(UserError, match="stages/3"):
        get_explanation("responses")(subject(), layer="stages/3")
    with pytest.raises(UserError, match="the map has no unit 4"):  # refused before anything is computed
        units.without_maps(subject(), layer="map", units=(4,))
    with pytest.raises(UserError, match="no map"):
        units.without_maps(subject(), layer="logits")
