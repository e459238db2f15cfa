"""DenseNet: what each layer sees, transitions, counts of the paper's networks for CIFAR."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import models
from jaxvision.models.densenet import DenseStage


def test_layers_see_all_channels_before_them(random_variables):
    stage = DenseStage(layers=3, growth=4, downsample=False, dropout=0.0, dtype=jnp.float32)
    x = np.asarray(jax.random.normal(jax.random.key(0), (1, 4, 4, 6)))
    variables = random_variables(partial(stage.init, train=False), x)
    inputs = [variables["params"][f"layer{i}"]["conv1"]["kernel"].shape[2] for i in (1, 2, 3)]
    assert inputs == [6, 10, 14]
    y = stage.apply(variables, x, train=False)
    assert y.shape == (1, 4, 4, 18)
    np.testing.assert_array_equal(y[..., :6], x)


def test_transition_equals_its_formula(random_variables):
    stage = DenseStage(layers=1, growth=4, downsample=True, dropout=0.0, dtype=jnp.float32)
    x = np.asarray(jax.random.normal(jax.random.key(0), (1, 4, 4, 6)))
    variables = random_variables(partial(stage.init, train=False), x)
    p, stats = variables["params"], variables["batch_stats"]["transition_norm"]
    y = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * p["transition_norm"]["scale"] + p["transition_norm"][
        "bias"
    ]
    y = np.maximum(y, 0) @ p["transition_conv"]["kernel"][0, 0]
    y = y.reshape(1, 2, 2, 2, 2, 3).mean((2, 4))
    np.testing.assert_allclose(stage.apply(variables, x, train=False)[..., :3], y, rtol=1e-4, atol=1e-5)


def test_cifar_networks_have_the_size_of_the_paper():
    """Huang et al. 2017, table 2: 0.8 million for L = 100, k = 12."""
    model = models.build("densenet", 10, variant="bc100_12")
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    count = sum(x.size for x in jax.tree.leaves(params))
    assert round(count / 1e6, 1) == 0.8
    convolutions = [x for path, x in jax.tree.leaves_with_path(params) if path[-1].key == "kernel" and x.ndim == 4]
    assert len(convolutions) == 100 - 1  # and the head


def test_depth_of_121():
    blocks = models.build("densenet", 10).blocks
    assert 2 * sum(blocks) + 1 + 3 + 1 == 121  # pairs, stem, transitions, head
