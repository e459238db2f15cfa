"""The penalties of weights: their values, the decay that is their gradient, and weights that are exactly zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.errors import UserError
from jaxvision.optim import penalties
from jaxvision.optim.optimizers import make_optimizer

SPARSE, EVEN = jnp.array([1.0, 0, 0, 0]), jnp.full(4, 0.25)


def made(params, **options):
    return make_optimizer(params=params, total=1000, steps=int, **options)


def descended(gradient, params, steps, **options):
    """Parameters after some steps along a gradient."""
    tx = made(params, **options).tx

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(gradient(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda params: jax.lax.scan(step, (params, tx.init(params)), None, steps)[0][0])(params)


def test_penalties_of_two_weights_with_the_same_answer():
    x = jnp.ones(4)
    assert float(SPARSE @ x) == float(EVEN @ x) == 1.0
    assert [float(penalties.l2(w, 1.0)) for w in (SPARSE, EVEN)] == [1.0, 0.25]
    assert [float(penalties.l1(w, 1.0)) for w in (SPARSE, EVEN)] == [1.0, 1.0]
    np.testing.assert_allclose(jax.grad(lambda w: 0.1 * penalties.l2(w, 1.0))(EVEN), 2 * 0.1 * EVEN, rtol=1e-6)


def test_the_logged_penalty_has_the_decay_as_its_gradient_and_its_update():
    params = {"a": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}, "b": {"kernel": jnp.array([[4.0]])}}
    optimizer = made(
        params,
        name="sgd",
        momentum=0.0,
        learning_rate=0.5,
        weight_decay=0.1,
        log_weights=True,
        freeze=(("^b/", True), (".*", False)),
    )
    assert {k: float(v) for k, v in optimizer.of_weights(params).items()} == {
        "weights_l2": 5.0,
        "weights_l1": 3.0,
        "weights_zero": 0.0,
    }
    gradient = jax.grad(lambda params: 0.1 / 2 * optimizer.of_weights(params)["weights_l2"])(params)
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.tx.update(nothing, optimizer.tx.init(params), params)
    jax.tree.map(lambda u, g: np.testing.assert_allclose(u, -0.5 * g, rtol=1e-6), updates, gradient)
    assert made(params, name="sgd", learning_rate=0.5).of_weights is None


@pytest.mark.parametrize(
    ("momentum", "decay", "after_50", "limit"),
    [
        (0.0, "coupled", 0.288501, 0.285714),
        (0.0, "decoupled", 0.288501, 0.285714),
        (0.9, "coupled", 0.249961, 0.285714),
        (0.9, "decoupled", 0.258222, 0.298507),
    ],
)
def test_l2_in_the_loss_is_decoupled_decay_only_without_momentum(momentum, decay, after_50, limit):
    """(w - 0.3)**2 + 0.05 w**2 from w = 1 with a rate of 0.05; calculated in float64 by hand-written loops."""
    options = dict(name="sgd", momentum=momentum, decay=decay, learning_rate=0.05, weight_decay=0.1)
    start, gradient = {"kernel": jnp.ones(())}, lambda params: {"kernel": 2 * (params["kernel"] - 0.3)}
    assert float(descended(gradient, start, 50, **options)["kernel"]) == pytest.approx(after_50, abs=2e-6)
    assert float(descended(gradient, start, 1000, **options)["kernel"]) == pytest.approx(limit, abs=2e-6)
    if decay == "coupled":  # the same by a penalty in the loss
        penalised = jax.grad(
            lambda params: (params["kernel"] - 0.3) ** 2 + 0.05 * penalties.l2(params, {"kernel": 1.0})
        )
        without = options | dict(weight_decay=0.0)
        assert float(descended(penalised, start, 50, **without)["kernel"]) == pytest.approx(after_50, abs=2e-6)


def regression():
    """A linear problem of 20 features, of which 3 matter: the gradient of its mean squared error over 2."""
    rng = np.random.default_rng(0)
    x, true = rng.normal(size=(60, 20)), np.zeros(20)
    true[[2, 7, 11]] = 1.0, -2.0, 0.5
    y = x @ true + 0.1 * rng.normal(size=60)
    return (
        x,
        y,
        lambda params: {"kernel": jnp.asarray(x.T / 60, jnp.float32) @ (x @ params["kernel"] - y).astype(jnp.float32)},
    )


def test_l1_gives_exact_zeros_at_the_optimum_and_l2_none():
    x, y, gradient = regression()
    start = {"kernel": jnp.zeros(20)}
    options = dict(name="sgd", momentum=0.0, learning_rate=0.2)
    sparse = np.asarray(descended(gradient, start, 400, l1=0.1, **options)["kernel"], np.float64)
    small = descended(gradient, start, 400, weight_decay=0.1, **options)["kernel"]
    assert sorted(np.flatnonzero(sparse)) == [2, 7, 11]
    assert (np.asarray(small) != 0).all()
    slope = x.T @ (x @ sparse - y) / 60  # optimality of the lasso: -0.1 sign(w), or within 0.1 where w is 0
    np.testing.assert_allclose(slope[sparse != 0], -0.1 * np.sign(sparse[sparse != 0]), atol=1e-4)
    assert (np.abs(slope[sparse == 0]) <= 0.1).all()


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_l1_spares_what_does_not_decay_and_follows_the_rates(name):
    params = {
        "a": {"kernel": jnp.full((2, 2), 1e-4), "bias": jnp.full(2, 1e-4)},
        "b": {"kernel": jnp.full((2, 2), 1e-4)},
    }
    still = lambda params: jax.tree.map(jnp.zeros_like, params)
    slow = ((r"^b/", 0.01), (".*", 1.0))
    after = descended(still, params, 1, name=name, learning_rate=0.1, l1=0.01, lr_rules=slow)
    assert (after["a"]["kernel"] == 0).all()
    assert (after["a"]["bias"] == params["a"]["bias"]).all()
    np.testing.assert_allclose(after["b"]["kernel"], 1e-4 - 0.1 * 0.01 * 0.01, rtol=1e-5)


def test_a_negative_l1_is_refused():
    with pytest.raises(UserError, match="l1 -1.0 must not be negative"):
        made({"kernel": jnp.zeros(2)}, name="sgd", learning_rate=0.1, l1=-1.0)
