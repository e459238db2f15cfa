"""Trajectories of optimizers on f = x^2 from 10 with rate 0.1, against their update rules written out in Python floats.

First steps, momentum's limit, and where L2 regularisation and weight decay part are in tests/optim.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import optim

RATE, STEPS = 0.1, 20


def trajectory(name, *, weight_decay=0.0, start=10.0, slope=2.0, steps=STEPS, **kwargs):
    params = {"kernel": jnp.float32(start)}
    optimizer = optim.make_optimizer(
        name=name, learning_rate=RATE, params=params, total=100, steps=int, weight_decay=weight_decay, **kwargs
    )
    update, state, values = jax.jit(optimizer.tx.update), optimizer.tx.init(params), []
    for _ in range(steps):
        updates, state = update({"kernel": slope * params["kernel"]}, state, params)
        params = optax.apply_updates(params, updates)
        values.append(float(params["kernel"]))
    return values


def written_out(rule, start=10.0, slope=2.0, steps=STEPS):
    """`rule` sees the number of the step, from 1, the point, its gradient and a dict to remember things in."""
    x, memory, values = start, {"m": 0.0, "v": 0.0}, []
    for t in range(1, steps + 1):
        x -= RATE * rule(t, x, slope * x, memory)
        values.append(x)
    return values


def gradient_descent(t, x, g, memory):
    return g


def momentum(t, x, g, memory):
    memory["v"] = 0.9 * memory["v"] + g
    return memory["v"]


def nesterov(t, x, g, memory):
    memory["v"] = 0.9 * memory["v"] + g
    return g + 0.9 * memory["v"]


def adagrad(t, x, g, memory):
    memory["v"] += g * g
    return g / (memory["v"] ** 0.5 + 1e-10)


def rmsprop(t, x, g, memory):
    memory["v"] = 0.9 * memory["v"] + 0.1 * g * g
    return g / (memory["v"] ** 0.5 + 1e-8)


def averages(g, memory):
    memory["m"] = 0.9 * memory["m"] + 0.1 * g
    memory["v"] = 0.999 * memory["v"] + 0.001 * g * g
    return memory["m"], memory["v"]


def adam(t, x, g, memory):
    m, v = averages(g, memory)
    return m / (1 - 0.9**t) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)


def uncorrected_adam(t, x, g, memory):
    m, v = averages(g, memory)
    return m / (v**0.5 + 1e-8)


def l2_adam(t, x, g, memory):
    return adam(t, x, g + 0.5 * x, memory)


def adamw(t, x, g, memory):
    return adam(t, x, g, memory) + 0.5 * x


@pytest.mark.parametrize(
    ("rule", "name", "kwargs"),
    [
        (gradient_descent, "sgd", {"momentum": 0.0}),
        (momentum, "sgd", {}),
        (nesterov, "sgd", {"nesterov": True}),
        (adagrad, "adagrad", {}),
        (rmsprop, "rmsprop", {}),
        (adam, "adam", {}),
        (uncorrected_adam, "adam", {"bias_correction": False}),
        (l2_adam, "adam", {"weight_decay": 0.5}),
        (adamw, "adamw", {"weight_decay": 0.5}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_trajectory(rule, name, kwargs):
    assert trajectory(name, **kwargs) == pytest.approx(written_out(rule), rel=2e-4, abs=1e-4)


def test_first_step_of_adam_without_bias_correction():
    """0.1 / sqrt(0.001) times the rate, whatever the gradient is; with the correction, the rate itself."""
    for slope in (2.0, 200.0):
        plain, corrected = (trajectory("adam", bias_correction=b, slope=slope, steps=1)[0] for b in (False, True))
        assert (10 - plain, 10 - corrected) == pytest.approx((0.316228, 0.1), rel=1e-4)


def test_where_the_small_number_stands():
    """Outside the root, as in Duchi et al. 2011, fig. 1, Kingma & Ba 2015, alg. 1, and torch. With g = 20, eps = 1:"""
    first = {name: 10 - trajectory(name, eps=1.0, steps=1)[0] for name in ("adagrad", "rmsprop", "adam")}
    assert first["adagrad"] == pytest.approx(RATE * 20 / (20 + 1), rel=1e-5)
    assert first["rmsprop"] == pytest.approx(RATE * 20 / ((0.1 * 400) ** 0.5 + 1), rel=1e-5)
    assert first["adam"] == pytest.approx(RATE * 20 / (20 + 1), rel=1e-4)


def test_weight_decay_prefers_spread_weights():
    """[1, 0, 0, 0] and four quarters predict the same from ones, but their sums of squares are 1 and 0.25. The decay
    of a weight w is strength * w, the gradient of strength / 2 times that sum."""
    penalties = []
    for weights in (jnp.array([1.0, 0, 0, 0]), jnp.full(4, 0.25)):
        params = {"kernel": weights}
        tx = optim.make_optimizer(
            name="sgd", learning_rate=1.0, params=params, total=1, steps=int, weight_decay=0.01, momentum=0.0
        ).tx
        updates, _ = tx.update({"kernel": jnp.zeros(4)}, tx.init(params), params)
        penalties.append(float(-(updates["kernel"] @ weights) / 0.01))
        assert float(weights @ jnp.ones(4)) == 1
    assert penalties == pytest.approx([1, 0.25])


@pytest.mark.parametrize("gradient", [1e-12, 1e-5, 1.0, -1e-5])
def test_the_first_step_of_adagrad_is_the_rate_whatever_the_gradient(gradient):
    """Duchi et al. 2011: g / (delta + |g|); with the small number inside the root it is 0.03 for 1e-5 and 1e-7."""
    params = {"kernel": jnp.zeros(())}
    tx = optim.make_optimizer(name="adagrad", learning_rate=1.0, params=params, total=1, steps=int, eps=1e-14).tx
    updates, _ = tx.update({"kernel": jnp.float32(gradient)}, tx.init(params), params)
    assert float(updates["kernel"]) == pytest.approx(-np.sign(gradient), rel=0.02)
    updates, _ = tx.update({"kernel": jnp.float32(0)}, tx.init(params), params)
    assert float(updates["kernel"]) == 0


def test_updates_of_adafactor_are_not_clipped_unless_asked():
    """As in big_vision; after gradients of 1e-3 a gradient of 1 is an update far larger than 1."""
    params = {"kernel": jnp.zeros(3)}

    def second(**options):
        tx = optim.make_optimizer(
            name="adafactor", learning_rate=1.0, params=params, total=9, steps=int, momentum=0.0, **options
        ).tx
        state = tx.init(params)
        _, state = tx.update({"kernel": jnp.full(3, 1e-3)}, state, params)
        _, state = tx.update({"kernel": jnp.full(3, 1e-3)}, state, params)
        return float(tx.update({"kernel": jnp.ones(3)}, state, params)[0]["kernel"][0])

    b2 = 1 - 3**-0.8
    assert second() == pytest.approx(-1 / (b2 * 1e-6 + 1 - b2) ** 0.5, rel=1e-4)
    assert second() < -1.5
    assert second(clip_threshold=1.0) == pytest.approx(-1, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("sgd", dict(momentum=0.9), lambda torch, p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01)),
        (
            "sgd",
            dict(momentum=0.9, nesterov=True),
            lambda torch, p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True),
        ),
        ("adagrad", {}, lambda torch, p: torch.optim.Adagrad(p, 0.1, weight_decay=0.01)),
        ("rmsprop", dict(b2=0.99), lambda torch, p: torch.optim.RMSprop(p, 0.1, weight_decay=0.01)),
        ("adam", {}, lambda torch, p: torch.optim.Adam(p, 0.1, weight_decay=0.01)),
        ("adamw", {}, lambda torch, p: torch.optim.AdamW(p, 0.1, weight_decay=0.01)),
    ],
    ids=["sgd", "nesterov", "adagrad", "rmsprop", "adam", "adamw"],
)
@pytest.mark.parametrize("size", [1e-6, 1.0])
def test_five_steps_equal_torch_with_large_and_with_tiny_gradients(name, options, theirs, size):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra parity)")
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=7) * 10 * size, rng.normal(size=(5, 7)) * size
    params = {"kernel": jnp.asarray(start, jnp.float32)}
    tx = optim.make_optimizer(
        name=name, learning_rate=0.1, params=params, total=9, steps=int, weight_decay=0.01, **options
    ).tx
    state = tx.init(params)
    weights = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimizer = theirs(torch, [weights])
    for gradient in gradients:
        updates, state = tx.update({"kernel": jnp.asarray(gradient, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        weights.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
    np.testing.assert_allclose(params["kernel"], weights.detach().numpy(), rtol=2e-3, atol=size * 1e-3)
