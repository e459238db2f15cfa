"""Classifiers on one layer: sizes, and that the backbone below is applied as it is told."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models.probe import Probed

BACKBONE = models.build("nin", None, blocks=3, width=0.05)
IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))


@pytest.mark.parametrize(
    ("kind", "hidden", "want"),
    [
        ("linear", 0, 192 * 10 + 10),
        ("mlp", 200, 192 * 8 * 8 * 200 + 200 * 200 + 4 * 200 + 200 * 10 + 10),
        ("conv", 192, 9 * 192 * 192 + 2 * 192 * 192 + 6 * 192 + 192 * 10 + 10),
    ],
)
def test_parameters_on_the_second_block_of_nin(kind, hidden, want):
    """The classifiers of Gidaris et al. 2018, sec. 3.1, counted by hand."""
    module = Probed(models.build("nin", None), "stages/1", kind, 10, hidden)
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    assert sum(x.size for x in jax.tree.leaves(params["head"])) == want


def test_a_linear_one_reads_the_mean_of_its_layer(random_variables):
    module = Probed(BACKBONE, "stages/1", "linear", 3, 0)
    variables = random_variables(module.init, IMAGES)
    _, out = jax.jit(module.apply)(variables, IMAGES)
    head = variables["params"]["head"]["logits"]
    want = np.asarray(out["stages"][1]).mean((1, 2)) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(out["logits"], want, rtol=1e-5, atol=1e-6)


def test_a_linear_one_behind_batch_norm_has_no_scale_and_no_offset(random_variables):
    """With the statistics of the batch in training, whatever those of the backbone, and the running ones afterwards."""
    module = Probed(BACKBONE, "stages/1", "linear", 3, 0, "running", True)
    variables = random_variables(module.init, IMAGES)
    assert set(variables["params"]["head"]) == {"logits"}
    apply = jax.jit(module.apply, static_argnames=("train", "mutable"))
    (_, out), updates = apply(variables, IMAGES, train=True, mutable=("batch_stats",))
    head = variables["params"]["head"]["logits"]
    x = np.asarray(out["stages"][1]).mean((1, 2))
    want = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(out["logits"], want, rtol=1e-3, atol=1e-3)
    moved, before = updates["batch_stats"]["head"]["norm"], variables["batch_stats"]["head"]["norm"]
    np.testing.assert_allclose(moved["mean"], 0.9 * before["mean"] + 0.1 * x.mean(0), atol=1e-5)
    _, out = apply(variables, IMAGES)
    want = (x - before["mean"]) / np.sqrt(before["var"] + 1e-6) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(out["logits"], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_statistics_below_move_only_with_batch(random_variables, statistics):
    module = Probed(BACKBONE, "stages/1", "conv", 3, 4, statistics)
    variables = random_variables(module.init, IMAGES)
    _, updates = jax.jit(partial(module.apply, train=True, mutable=["batch_stats"]))(variables, IMAGES)
    same = jax.tree.map(np.array_equal, updates["batch_stats"], variables["batch_stats"])
    assert not any(jax.tree.leaves(same.pop("head")))
    assert set(jax.tree.leaves(same)) == {statistics == "running"}


def test_mistakes_are_named():
    for layer, kind, message in (
        ("stage/2", "linear", "did you mean 'stages/2'"),
        ("features", "conv", "needs a map"),
    ):
        with pytest.raises(UserError, match=message):
            jax.eval_shape(Probed(BACKBONE, layer, kind, 3, 4).init, jax.random.key(0), IMAGES)
