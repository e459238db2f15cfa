"""Barlow Twins, VICReg and SimSiam: their loss by hand, on eight devices, in microbatches, and in a collapse."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.losses import decorrelation
from jaxvision.models.heads import Projection
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks import get_task
from jaxvision.train import accumulation

TASKS = {
    "barlow_twins": dict(projection_dim=8, hidden=16, redundancy=0.1),
    "vicreg": dict(projection_dim=8, hidden=16, variance=3.0, invariance=2.0, covariance=0.5),
    "simsiam": dict(projection_dim=8, hidden=16, predictor_hidden=4),
}
JOINT = ("barlow_twins", "vicreg")
COLLAPSED = {  # metrics if all images have one embedding
    "barlow_twins": dict(correlation=0.0, cross_correlation=0.0, embedding_std=0.0),
    "vicreg": dict(variance=0.99, invariance=0.0, covariance=0.0, embedding_std=0.0),
}


@pytest.fixture(scope="module")
def batch():
    return {"image": jax.random.normal(jax.random.key(1), (16, 2, 8, 8, 3))}


@pytest.fixture(scope="module")
def tasks(vit):
    return {name: get_task(name)(model=vit, **options) for name, options in TASKS.items()}


@pytest.fixture(scope="module")
def variables(tasks, batch, random_variables):
    return {name: random_variables(task.init, batch) for name, task in tasks.items()}


def slope(loss, variables, batch):
    """The loss, its metrics and updates, and the gradient of all parameters."""
    rest = {name: x for name, x in variables.items() if name != "params"}

    def of(params, batch):
        return loss({"params": params, **rest}, batch, jax.random.key(0))

    return jax.jit(jax.value_and_grad(of, has_aux=True))(variables["params"], batch)


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **(tolerance or dict(rtol=1e-3, atol=1e-5))), a, b)


@pytest.mark.parametrize("name", JOINT)
def test_the_loss_weighs_the_terms(name, tasks, variables, batch):
    task = tasks[name]
    z, _ = jax.jit(task.loss.embed)(variables[name], batch, jax.random.key(0))
    assert z["projection"].shape == (16, 2, 8)
    terms = jax.jit(getattr(decorrelation, name))(z["projection"])
    if name == "vicreg":
        expected = 3 * terms.variance + 2 * terms.invariance + 0.5 * terms.covariance
    else:
        expected = terms.invariance + 0.1 * terms.redundancy
    value, metrics = jax.jit(task.loss.compare)(variables[name], z, batch)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert set(metrics) == set(COLLAPSED[name])


def test_simsiam_is_its_algorithm_written_out(tasks, vit, variables, batch):
    """Chen and He 2021, alg. 1, and its gradient, which stops at the projections that are predicted."""
    task, variables = tasks["simsiam"], variables["simsiam"]

    def head(module, of, x):
        mine = {collection: of[collection][module] for collection in of}
        heads = {
            "projection": Projection(3, 8, 16, last_scale=False),
            "predictor": Projection(2, 8, 4, last_norm=False),
        }
        return heads[module].apply(mine, x, train=True, mutable=["batch_stats"])[0][-1]

    def network(of):
        images = batch["image"].reshape(32, 8, 8, 3)
        features, _ = vit(None).apply(of, images, train=True)
        z = head("projection", of, features)
        p = head("predictor", of, z)
        return z.reshape(16, 2, 8), p.reshape(16, 2, 8)

    def distance(p, z):
        norm = lambda x: x / jnp.sqrt((x**2).sum(-1, keepdims=True))
        return -(norm(p) * norm(z)).sum(-1).mean()

    constants = jax.jit(network)(variables)[0]

    def loss(variables, batch, rng):
        _, p = network(variables)
        return distance(p[:, 0], constants[:, 1]) / 2 + distance(p[:, 1], constants[:, 0]) / 2, None

    (value, _), gradient = slope(loss, variables, batch)
    (mine, (metrics, _)), my_gradient = slope(task.loss, variables, batch)
    np.testing.assert_allclose(mine, value, rtol=1e-4)
    close(my_gradient, gradient)
    np.testing.assert_allclose(metrics["similarity"], -mine, rtol=1e-6)
    normal = constants[:, 0] / np.linalg.norm(constants[:, 0], axis=-1, keepdims=True)
    np.testing.assert_allclose(metrics["embedding_std"], np.sqrt(8) * normal.std(0).mean(), rtol=1e-4)


def test_simsiams_last_projection_has_mean_0_and_variance_1(variables):
    params = variables["simsiam"]["params"]
    assert "norm_2" not in params["projection"]  # BatchNorm without scale and offset
    assert {name: set(x) for name, x in params["predictor"].items()} == {
        "dense_0": {"kernel"}, "norm_0": {"scale", "bias"}, "dense_1": {"kernel", "bias"}
    }  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_eight_devices_equal_one_in_value_and_gradient(name, tasks, variables, batch, mesh):
    devices = mesh()
    expected = slope(tasks[name].loss, variables[name], batch)
    got = slope(tasks[name].loss, replicate(variables[name], devices), shard_batch(batch, devices))
    close(got, expected)


@pytest.mark.parametrize("name", JOINT)
def test_microbatches_are_compared_as_one_batch(name, tasks, variables, batch):
    """Value and gradient are those of all embeddings together; only BatchNorm sees the microbatches."""
    loss, rng = tasks[name].loss, jax.random.key(0)

    def by_hand(variables, batch, rng):
        halves = [loss.embed(variables, {"image": batch["image"][i::2]}, rng)[0]["projection"] for i in range(2)]
        together = jnp.stack(halves, axis=1).reshape(16, 2, -1)
        return loss.compare(variables, {"projection": together}, batch)

    (value, metrics), expected = slope(by_hand, variables[name], batch)
    params, rest = variables[name]["params"], {"batch_stats": variables[name]["batch_stats"]}
    gradient, _, got, _ = jax.jit(accumulation.make_gradients(loss, 2))(params, rest, batch, rng)
    close(got, {"loss": value, **metrics}, rtol=1e-4, atol=1e-5)
    close(gradient, expected)


@pytest.mark.parametrize("name", JOINT)
def test_a_collapse_is_seen(name, tasks):
    _, metrics = jax.jit(tasks[name].loss.compare)({}, {"projection": jnp.ones((16, 2, 8))}, {})
    assert {key: pytest.approx(float(value), abs=1e-6) for key, value in metrics.items()} == COLLAPSED[name]


def test_simsiam_sees_a_collapse(tasks, variables, batch):
    same = {"image": jnp.broadcast_to(batch["image"][:1, :1], batch["image"].shape)}
    _, (metrics, _) = jax.jit(tasks["simsiam"].loss)(variables["simsiam"], same, jax.random.key(0))
    assert metrics["embedding_std"] < 1e-3


@pytest.mark.parametrize("name", TASKS)
def test_outputs_and_parts(name, tasks, variables, batch):
    outputs = partial(jax.eval_shape, tasks[name].outputs)
    out = outputs(variables[name], {"image": batch["image"][:, 0]})
    assert out["features"].shape == (16, 16)
    assert out["projection"].shape == (16, 8)
    assert ("prediction" in out) == ("predictor" in tasks[name].parts) == (name == "simsiam")


@pytest.mark.parametrize("name", TASKS)
def test_other_numbers_of_views_are_refused(name, tasks):
    for shape in ((2, 8, 8, 3), (2, 3, 8, 8, 3)):
        with pytest.raises(UserError, match=rf"'{name}' needs two views .* set augment to \"views\(2"):
            tasks[name].init(jax.random.key(0), {"image": jnp.zeros(shape)})
