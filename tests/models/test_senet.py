"""SENet-154 and DarkNet-53: their blocks, layers as the papers count them, and maps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import models
from jaxvision.models.darknet import DarkStage
from jaxvision.models.senet import SENetBlock


def kernels(params):
    return [x for path, x in jax.tree.leaves_with_path(params) if path[-1].key == "kernel"]


def test_block_of_senet_starts_as_its_shortcut():
    block = SENetBlock(channels=2, groups=2, stride=1, zero_init_residual=True, dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 8))
    y, _ = block.init_with_output(jax.random.key(1), x, train=False)
    np.testing.assert_allclose(y, np.maximum(x, 0), atol=1e-6)


def test_channels_of_the_block():
    block = SENetBlock(channels=64, groups=64, stride=2, zero_init_residual=True, dtype=jnp.float32)
    x = jax.ShapeDtypeStruct((1, 8, 8, 128), jnp.float32)
    params = jax.eval_shape(partial(block.init, train=False), jax.random.key(0), x)["params"]
    shapes = {name: params[name]["kernel"].shape for name in ("conv1", "conv2", "conv3", "shortcut_conv")}
    assert shapes == {
        "conv1": (1, 1, 128, 128),
        "conv2": (3, 3, 2, 256),
        "conv3": (1, 1, 256, 256),
        "shortcut_conv": (3, 3, 128, 256),
    }
    assert params["se"]["fc1"]["kernel"].shape == (256, 16)


def test_layers_of_senet_154():
    blocks = models.build("senet", 10).blocks
    assert 3 * sum(blocks) + 3 + 1 == 154  # convolutions of the blocks and of the stem, head


def test_darknet_has_52_convolutions_and_the_maps_of_the_table():
    model = models.build("darknet", 1000)
    images = jnp.zeros((1, 256, 256, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert len(kernels(variables["params"])) == 52 + 1
    _, out = jax.eval_shape(model.apply, variables, images)
    assert [x.shape[1:] for x in (out["stem"], *out["stages"])] == [
        (256, 256, 32),
        (128, 128, 64),
        (64, 64, 128),
        (32, 32, 256),
        (16, 16, 512),
        (8, 8, 1024),
    ]


def test_block_of_darknet_equals_its_formula(random_variables):
    """Leaky ReLU before the sum, nothing behind it: a block whose second norm gives -1 subtracts its slope."""
    stage = DarkStage(blocks=1, channels=4, slope=0.1, dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
    variables = random_variables(partial(stage.init, train=False), x)
    last = variables["params"]["unit1_2"]["norm"]
    last["scale"], last["bias"] = jnp.zeros(4), -jnp.ones(4)
    without = DarkStage(blocks=0, channels=4, slope=0.1, dtype=jnp.float32)
    before = without.apply({kind: {"downsample": variables[kind]["downsample"]} for kind in variables}, x, train=False)
    np.testing.assert_allclose(stage.apply(variables, x, train=False), before - 0.1, rtol=1e-5, atol=1e-6)
