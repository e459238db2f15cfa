"""Filters of the first layer."""

import jax
import numpy as np
import pytest

from jaxvision import models
from jaxvision.analysis import kernels

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
    path, kernel = kernels.first(params)
    assert (path, kernel.shape) == expected


def test_a_layer_over_grey_images_and_none_at_all():
    grey = {"c1": {"kernel": np.ones((5, 5, 1, 6))}, "c3": {"kernel": np.ones((5, 5, 6, 16))}}
    assert kernels.first(grey)[0] == "c1/kernel"
    assert kernels.first({"dense": {"kernel": np.ones((3, 8))}}) is None


def test_filters_stand_by_falling_norm_each_at_its_own_scale():
    weak = np.zeros((3, 3, 3), np.float32)
    weak[0, 0, 0] = 0.01
    strong = np.full((3, 3, 3), -2.0, np.float32)
    first, second = kernels.pictures(np.stack([weak, strong], axis=-1))
    np.testing.assert_allclose(first, 0)
    assert second[0, 0].tolist() == [1.0, 0.5, 0.5]
    assert (second[1:] == 0.5).all()


def test_grey_filters_become_grey_pictures():
    image = kernels.pictures(np.arange(4.0).reshape(2, 2, 1, 1))
    assert image.shape == (1, 2, 2, 3)
    assert (image == image[..., :1]).all()
