"""Network in Network: its layers, counted by hand, and what its poolings do at the border."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError


@pytest.mark.parametrize("blocks", [3, 4, 5])
def test_parameters_of_every_layer(blocks):
    """Convolutions have no bias; each BatchNorm has a scale and an offset for each channel."""
    model = models.build("nin", 10, blocks=blocks)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    want = {
        "stage1": 25 * 3 * 192 + 192 * 160 + 160 * 96 + 2 * (192 + 160 + 96),
        "stage2": 25 * 96 * 192 + 2 * 192 * 192 + 6 * 192,
        "head": 192 * 10 + 10,
    }
    want |= {f"stage{i}": 9 * 192 * 192 + 2 * 192 * 192 + 6 * 192 for i in range(3, blocks + 1)}
    assert {name: sum(x.size for x in jax.tree.leaves(layer)) for name, layer in params.items()} == want


@pytest.mark.parametrize(("blocks", "total"), [(3, 1_005_642), (4, 1_412_298), (5, 1_818_954)])
def test_total_for_ten_classes(blocks, total):
    model = models.build("nin", 10, blocks=blocks)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == total


def test_stages_have_the_sizes_of_the_paper():
    """Gidaris et al. 2018, table 1: 96 x 16 x 16 after the first block, 192 x 8 x 8 after the others."""
    model = models.build("nin", None, blocks=5)
    images = jnp.zeros((1, 32, 32, 3))
    _, out = jax.eval_shape(model.apply, jax.eval_shape(model.init, jax.random.key(0), images), images)
    assert [stage.shape[1:] for stage in out["stages"]] == [(16, 16, 96), *[(8, 8, 192)] * 4]


def test_the_second_pooling_counts_its_padding(random_variables):
    """As torch's AvgPool2d(3, 2, 1): the corner is the sum of four values over nine."""
    model = models.build("nin", None, blocks=3, width=0.05)
    images = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    variables = random_variables(model.init, images)
    observed = jax.jit(partial(model.apply, capture_intermediates=True, mutable=["intermediates"]))
    (_, out), state = observed(variables, images)
    before = state["intermediates"]["stage2"]["__call__"][0][0]  # 4 4 c
    after = out["stages"][1][0]  # 2 2 c
    np.testing.assert_allclose(after[0, 0], before[:2, :2].sum((0, 1)) / 9, rtol=1e-5)
    np.testing.assert_allclose(after[1, 1], before[1:4, 1:4].mean((0, 1)), rtol=1e-5)


def test_fewer_than_three_blocks_are_refused():
    with pytest.raises(UserError, match="blocks of NIN"):
        models.build("nin", 10, blocks=2)
