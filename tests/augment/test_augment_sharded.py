"""On a sharded batch augmentation gives the same images, and only mixing lets devices talk."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxvision import augment

ALONE = [
    "random_crop(16, 2)|flip_lr|normalize",
    "random_resized_crop(12)|cutout(4)",
    "color_jitter(0.4, 0.4, 0.4, 0.1)",
    "randaugment(2, 9)",
    "rotate(20)|grayscale(0.2)|random_erasing",
    "views(2, 'random_resized_crop(12)|flip_lr')|gaussian_blur(p=0.5)|normalize",
]
MIXING = ["mixup(0.2)", "cutmix(1.0)", "mixup_or_cutmix"]


@pytest.mark.parametrize("spec", ALONE + MIXING)
def test_sharded_equals_unsharded(spec, mesh):
    devices = mesh(devices=4)
    split = NamedSharding(devices, PartitionSpec("data"))
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
    batch = {"image": jnp.asarray(images), "label": jnp.arange(16) % 10}
    fn, key = augment.make_augmentation(spec, num_classes=10), jax.random.key(0)
    sharded = jax.jit(fn, in_shardings=(None, split), out_shardings=split).lower(key, batch).compile()
    expected, got = jax.jit(fn)(key, batch), sharded(key, jax.device_put(batch, split))
    np.testing.assert_allclose(got["image"], expected["image"], atol=1e-5)
    np.testing.assert_allclose(got["label"], expected["label"], atol=1e-6)

    collectives = re.findall(r"(\S+) (all-gather|all-reduce|all-to-all|collective-permute)\(", sharded.as_text())
    if spec in ALONE:
        assert not collectives
    else:  # one image and one label to the next device
        assert {shape.split("{")[0] for shape, _ in collectives} == {"f32[1,16,16,3]", "f32[1,10]"}
