"""Optimizers against the numbers of textbooks and against NumPy transcriptions of the papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import optim
from jaxvision.errors import UserError
from jaxvision.optim.optimizers import OPTIMIZERS
from jaxvision.traced import varied

PARAMS = {
    "embedding": {"kernel": jnp.full((4, 3), 0.5), "bias": jnp.zeros(3)},
    "block_00": {"kernel": jnp.arange(9.0).reshape(3, 3) / 10, "bias": jnp.ones(3)},
    "block_01": {"kernel": jnp.eye(3), "bias": jnp.ones(3)},
    "head": {"kernel": jnp.full((3, 2), -1.0), "bias": jnp.zeros(2)},
}
GRADS = jax.tree.map(lambda p: jnp.linspace(-1, 2, p.size).reshape(p.shape), PARAMS)


ORDER = {"": (("embedding",), ("block_00",), ("block_01",))}
RISING = {"weight_decay_schedule": "cosine(final=10.0)"}


def make(name, params, learning_rate=0.1, **kwargs):
    if "layer_decay" in kwargs:
        kwargs["order"] = lambda: ORDER
    return optim.make_optimizer(name=name, learning_rate=learning_rate, params=params, total=100, steps=int, **kwargs)


def run(name, grad, start, steps, **kwargs):
    """Descends from the scalar `start`, named "kernel" so that it decays."""
    params = {"kernel": jnp.asarray(start, jnp.float32)}
    tx = make(name, params, **kwargs).tx
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(jax.tree.map(grad, params), state, params)
        params = optax.apply_updates(params, updates)
    return float(params["kernel"])


def one_update(params=PARAMS, grads=GRADS, name="sgd", **kwargs):
    tx = make(name, params, **kwargs).tx
    return tx.update(grads, tx.init(params), params)[0]


def test_gradient_descent_on_a_parabola():
    """f = x**2 from 10 with rate 0.2: 10 * 0.6 ** 10."""
    assert run("sgd", lambda x: 2 * x, 10.0, 10, learning_rate=0.2, momentum=0.0) == pytest.approx(0.060466, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "kwargs", "step"),
    [
        ("sgd", {}, 2.0),
        ("sgd", {"nesterov": True}, 3.8),  # 0.1 * (g + 0.9 g), g = 20
        ("adagrad", {}, 0.1),
        ("rmsprop", {"b2": 0.9}, 0.316228),
        ("rmsprop", {"b2": 0.99}, 1.0),
        ("adam", {}, 0.1),
        ("adamw", {}, 0.1),
        ("lion", {}, 0.1),
        ("adafactor", {"momentum": 0.0}, 0.1),
        ("lamb", {}, 1.0),  # the norm of the weight, 10, times the rate
        ("lars", {}, 0.001),
    ],
)
def test_first_step_on_a_parabola(name, kwargs, step):
    """f = x**2 at x = 10, so g = 20, with rate 0.1."""
    assert 10.0 - run(name, lambda x: 2 * x, 10.0, 1, **kwargs) == pytest.approx(step, rel=1e-4, abs=2e-6)


def test_constant_gradient():
    def grad(x):
        return jnp.ones_like(x)

    assert -run("adagrad", grad, 0.0, 4) == pytest.approx(0.1 * sum(k**-0.5 for k in (1, 2, 3, 4)), rel=1e-5)
    assert run("sgd", grad, 0.0, 99) - run("sgd", grad, 0.0, 100) == pytest.approx(1.0, rel=1e-3)  # v = g / (1 - 0.9)


@pytest.mark.parametrize("name", ["adam", "adamw", "lion"])
def test_a_first_moment_in_bfloat16_halves_its_memory_and_keeps_the_way(name):
    tx = make(name, PARAMS, mu_dtype="bfloat16").tx
    moments = {k: {x.dtype.name for x in jax.tree.leaves(v)} for k, v in moments_of(tx.init(PARAMS)).items()}
    assert moments == {"mu": {"bfloat16"}} | ({} if name == "lion" else {"nu": {"float32"}})
    # From 1 to the minimum at 0 and beyond it, so that the moment decides when the direction changes.
    run_with = functools.partial(run, name, lambda x: 2 * x, 1.0, 30, learning_rate=0.1)
    ends = [run_with(mu_dtype=dtype) for dtype in ("float32", "bfloat16")]
    assert abs(ends[0]) < 0.5
    assert ends[1] == pytest.approx(ends[0], abs=0.02)


def moments_of(state):
    """`mu` and `nu` of a chain's state."""
    parts = jax.tree.leaves(state, is_leaf=lambda part: hasattr(part, "mu"))
    (scale,) = [part for part in parts if hasattr(part, "mu")]
    return {name: getattr(scale, name) for name in ("mu", "nu") if hasattr(scale, name)}


def test_coupled_and_decoupled_decay_differ_only_with_momentum():
    """(w - 0.3)**2 from 1 with rate 0.05, L2 gradient 0.1 w."""

    def descend(steps, **kwargs):
        return run("sgd", lambda w: 2 * (w - 0.3), 1.0, steps, learning_rate=0.05, weight_decay=0.1, **kwargs)

    assert descend(50, momentum=0.0) == pytest.approx(0.288501, abs=1e-6)
    assert descend(50, momentum=0.0, decay="decoupled") == pytest.approx(0.288501, abs=1e-6)
    assert descend(50) == pytest.approx(0.249961, abs=1e-5)
    assert descend(50, decay="decoupled") == pytest.approx(0.258222, abs=1e-5)
    assert descend(300) == pytest.approx(0.285714, abs=1e-5)
    assert descend(300, decay="decoupled") == pytest.approx(0.298507, abs=1e-5)


def test_adam_decays_through_the_gradient_and_adamw_beside_it():
    def flat(x):
        return jnp.zeros_like(x)

    assert run("adam", flat, 2.0, 1, weight_decay=0.5) == pytest.approx(2.0 - 0.1, rel=1e-5)
    assert run("adamw", flat, 2.0, 1, weight_decay=0.5) == pytest.approx(2.0 * (1 - 0.1 * 0.5), rel=1e-6)
    assert run("lion", flat, 2.0, 1, weight_decay=0.5) == pytest.approx(2.0 * (1 - 0.1 * 0.5), rel=1e-6)
    assert run("adafactor", flat, 2.0, 1, weight_decay=0.5) == pytest.approx(2.0 * (1 - 0.1 * 0.5), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("sgd", optax.sgd(0.1, 0.9)),
        ("adam", optax.adam(0.1)),
        ("adamw", optax.adamw(0.1, weight_decay=0.3, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p))),
        ("lion", optax.lion(0.1, weight_decay=0.3, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p))),
    ],
)
def test_three_steps_equal_optax(name, reference):
    tx = make(name, PARAMS, weight_decay=0.3 if name in ("adamw", "lion") else 0.0).tx
    ours, theirs = (tx, tx.init(PARAMS), PARAMS), (reference, reference.init(PARAMS), PARAMS)
    for i in range(3):
        grads = jax.tree.map(lambda g: g * (i + 1), GRADS)  # noqa: B023
        ours, theirs = (_step(*run, grads) for run in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), ours[2], theirs[2])


def _step(tx, state, params, grads):
    updates, state = tx.update(grads, state, params)
    return tx, state, optax.apply_updates(params, updates)


@pytest.mark.parametrize(("name", "options"), [("lamb", {}), ("lars", {}), ("lars", {"variant": "you2017"})])
def test_layerwise_optimizers_against_numpy(name, options):
    """Three steps at rates 0.1, 0.05 and 0.025; kernels adapt and decay, biases do not."""
    tx = make(name, PARAMS, weight_decay=0.01, schedule="step(1, 2, factor=0.5)", **options).tx
    state = (tx, tx.init(PARAMS), PARAMS)
    for i in range(3):
        state = _step(*state, jax.tree.map(lambda g: g * (i + 1), GRADS))  # noqa: B023
    transcription = {"lamb": _lamb, "lars": _lars_of_paper if options else _lars}[name]
    for layer, leaves in PARAMS.items():
        for leaf, start in leaves.items():
            grads = [np.asarray(GRADS[layer][leaf], np.float64) * (i + 1) for i in range(3)]
            expected = transcription(np.asarray(start, np.float64), grads, adapted=leaf == "kernel")
            np.testing.assert_allclose(state[2][layer][leaf], expected, rtol=2e-5, atol=1e-6, err_msg=f"{layer}/{leaf}")


def _lamb(w, grads, adapted):
    """You et al. 2020, alg. 2, phi the identity."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (rate, g) in enumerate(zip([0.1, 0.05, 0.025], grads), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        u = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6)
        if adapted:
            u = u + 0.01 * w
            u = u * np.linalg.norm(w) / np.linalg.norm(u)
        w = w - rate * u
    return w


def _lars(w, grads, adapted):
    """SimCLR's lars_optimizer.py: the norm of gradient and decay together."""
    v = np.zeros_like(w)
    for rate, g in zip([0.1, 0.05, 0.025], grads):
        if adapted:
            g = g + 0.01 * w
            g = g * 0.001 * np.linalg.norm(w) / np.linalg.norm(g)
        v = 0.9 * v + rate * g
        w = w - v
    return w


def _lars_of_paper(w, grads, adapted):
    """You et al. 2017, alg. 1: the norms of gradient and weights apart."""
    v = np.zeros_like(w)
    for rate, g in zip([0.1, 0.05, 0.025], grads):
        if adapted:
            local = 0.001 * np.linalg.norm(w) / (np.linalg.norm(g) + 0.01 * np.linalg.norm(w))
            v = 0.9 * v + rate * local * (g + 0.01 * w)
        else:
            v = 0.9 * v + rate * g
        w = w - v
    return w


@pytest.mark.parametrize("variant", ["simclr", "you2017"])
def test_lars_without_weights_or_gradient_stays_finite(variant):
    for weights, gradient in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.0)):
        params = {"kernel": jnp.full((2, 2), weights)}
        updates = one_update(params, {"kernel": jnp.full((2, 2), gradient)}, "lars", variant=variant)
        np.testing.assert_allclose(updates["kernel"], -0.1 * gradient, rtol=1e-6)


def test_both_forms_of_lars_leave_frozen_layers_alone():
    for variant in ("simclr", "you2017"):
        freeze = (("^head/", False), (".*", True))
        updates = one_update(name="lars", variant=variant, weight_decay=0.1, freeze=freeze)
        assert not np.any(updates["embedding"]["kernel"])
        assert np.any(updates["head"]["kernel"])


def test_adafactor_factors_and_caps():
    params = {"kernel": jnp.ones((64, 32)), "bias": jnp.ones(32)}
    tx = make("adafactor", params).tx
    state = tx.init(params)
    factored, average = state[0], state[1]
    assert factored.v_row["kernel"].size + factored.v_col["kernel"].size == 64 + 32
    assert factored.v["bias"].shape == (32,)
    assert average.ema["kernel"].dtype == jnp.bfloat16

    # A rank-1 gradient is factored without loss: the update is its sign, times 1 - momentum.
    grads = {"kernel": jnp.outer(jnp.arange(1.0, 65), jnp.arange(1.0, 33)), "bias": -jnp.ones(32)}
    updates, _ = tx.update(grads, state, params)
    np.testing.assert_allclose(updates["kernel"], -0.01, rtol=1e-4)
    np.testing.assert_allclose(updates["bias"], 0.01, rtol=1e-4)

    # After gradients 1 and 0 the second moment is the decay of step 2.
    def second_moment(b2_cap):
        tx = make("adafactor", params, b2_cap=b2_cap).tx
        _, after = tx.update(grads, tx.init(params), params)
        _, after = tx.update(jax.tree.map(jnp.zeros_like, grads), after, params)
        return float(after[0].v["bias"][0])

    assert second_moment(0.999) == pytest.approx(1 - 2**-0.8, rel=1e-5)
    assert second_moment(0.25) == pytest.approx(0.25, rel=1e-5)


def test_clipping_uses_the_global_norm():
    norm = float(optax.tree.norm(GRADS))
    updates = one_update(momentum=0.0, learning_rate=1.0, clip_norm=0.5)
    jax.tree.map(lambda u, g: np.testing.assert_allclose(u, -g * 0.5 / norm, rtol=1e-5), updates, GRADS)
    untouched = one_update(momentum=0.0, learning_rate=1.0, clip_norm=100.0)
    jax.tree.map(lambda u, g: np.testing.assert_array_equal(u, -g), untouched, GRADS)


def test_decay_rules():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    common = {"grads": zeros, "momentum": 0.0, "learning_rate": 1.0, "weight_decay": 0.1}
    default = one_update(**common)
    np.testing.assert_allclose(default["head"]["kernel"], 0.1)
    np.testing.assert_array_equal(default["block_00"]["bias"], 0)
    by_rules = one_update(**common, decay_rules=(("head/kernel", 2.0), ("bias", 1.0), (".*", 0.0)))
    np.testing.assert_allclose(by_rules["head"]["kernel"], 0.2)
    np.testing.assert_allclose(by_rules["block_00"]["bias"], -0.1)
    np.testing.assert_array_equal(by_rules["block_00"]["kernel"], 0)


def test_learning_rate_rules_and_layer_decay_multiply():
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    updates = one_update(
        grads=ones, momentum=0.0, learning_rate=1.0, layer_decay=0.5, lr_rules=(("head", 10.0), (".*", 1.0))
    )
    scales = {layer: -float(leaves["bias"][0]) for layer, leaves in updates.items()}
    assert scales == {"embedding": 0.125, "block_00": 0.25, "block_01": 0.5, "head": 10.0}


def test_a_part_may_have_a_schedule_of_its_own():
    """As the predictor of SimSiam, whose rate is not decayed; warm-up and peak are those of all."""
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    rules = {"schedule": "linear", "warmup": 10, "schedule_rules": (("^head/", "constant"),)}
    tx, rate, *_ = make("sgd", PARAMS, momentum=0.0, learning_rate=1.0, **rules)
    state, rates = tx.init(PARAMS), {}
    update = jax.jit(tx.update)
    for step in range(100):
        updates, state = update(ones, state, PARAMS)
        rates[step] = tuple(-float(updates[layer]["bias"][0]) for layer in ("head", "block_00"))
    assert rates[5] == pytest.approx((0.5, 0.5))
    assert rates[10] == pytest.approx((1.0, 1.0))
    assert rates[55] == pytest.approx((1.0, 0.5))
    assert rates[55][1] == pytest.approx(float(rate(55)))  # the one that is logged


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_parameters_stay_and_have_no_moments(name):
    freeze = (("^head/", False), (".*", True))
    tx = make(name, PARAMS, weight_decay=0.1, clip_norm=1.0, layer_decay=0.9, freeze=freeze).tx
    state, params = tx.init(PARAMS), PARAMS
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state)]
    assert not [path for path in paths if "block_0" in path or "embedding" in path]
    for _ in range(2):
        updates, state = jax.jit(tx.update)(GRADS, state, params)
        params = optax.apply_updates(params, updates)
    for layer in ("embedding", "block_00", "block_01"):
        jax.tree.map(np.testing.assert_array_equal, params[layer], PARAMS[layer])
    assert not np.array_equal(params["head"]["kernel"], PARAMS["head"]["kernel"])

    alone = make(name, {"head": PARAMS["head"]}, weight_decay=0.1, clip_norm=1.0).tx
    expected, _ = alone.update({"head": GRADS["head"]}, alone.init({"head": PARAMS["head"]}), {"head": PARAMS["head"]})
    first, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), first["head"], expected["head"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_abstract_parameters_and_jit(name):
    shapes = jax.eval_shape(lambda: PARAMS)
    tx, learning_rate, *_ = make(name, shapes, weight_decay=0.1, warmup=2)
    state = jax.eval_shape(tx.init, shapes)
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(PARAMS))
    updates, _ = jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    jax.tree.map(lambda u: np.testing.assert_array_equal(u, 0), updates)  # rate 0 at the first step of a warm-up
    assert float(learning_rate(1)) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"name": "adamm"}, "unknown optimizer 'adamm'; did you mean 'adam'"),
        (
            {"name": "adamw", "nesterov": True},
            r"unknown option of optimizer 'adamw' 'nesterov'.*Choices: .* and \d more",
        ),
        ({"name": "sgd", "weight_dacay": 0.1}, "did you mean 'weight_decay'"),
        ({"name": "sgd", "momentum": 1.0}, "momentum must be"),
        ({"name": "sgd", "momentum": 0.0, "nesterov": True}, "nesterov needs a momentum"),
        ({"name": "sgd", "decay": "l2"}, "unknown decay of sgd 'l2'. Choices: coupled, decoupled"),
        ({"name": "lars", "variant": "you"}, "unknown variant of lars 'you'.*Choices: .*simclr"),
        ({"name": "sgd", "weight_decay": -0.1}, "must not be negative"),
        ({"name": "sgd", "clip_norm": 0.0}, "clip_norm must be above 0"),
        ({"name": "sgd", "layer_decay": 1.5}, "layer_decay must be in"),
        ({"name": "sgd", "freeze": ((".*", True),)}, "nothing is left to train"),
        ({"name": "sgd", "freeze": (("head", True),)}, "freeze must cover everything"),
        ({"name": "sgd", "weight_decay_schedule": "cosinus"}, "unknown schedule 'cosinus'"),
        ({"name": "sgd", "weight_decay_schedule": "cosine|linear"}, "weight_decay_schedule .* must be one call"),
        ({"name": "sgd", "schedule_rules": (("haed", "cosine"),)}, "schedule_rules: the rule 'haed' decides nothing"),
        ({"name": "sgd", "schedule_rules": (("head", "cosin"),)}, "did you mean 'cosine'"),
        ({"name": "sgd", "lr_rules": (("haed", 0.1), (".*", 1.0))}, "lr_rules: the rule 'haed' decides nothing"),
        ({"name": "sgd", "decay_rules": (("kernels", 1.0), (".*", 0.0))}, "decay_rules: the rule 'kernels' decides"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(UserError, match=message):
        make(params=PARAMS, **kwargs)


@pytest.mark.parametrize(("name", "common"), [("sgd", {}), ("adamw", RISING), ("lars", {})])
def test_numbers_may_be_traced(name, common):
    """As for runs that are trained as one program: each update is that of plain numbers, 0 among them."""
    one = functools.partial(one_update, name=name, **common)
    options = {"learning_rate": [0.1, 0.0], "weight_decay": [0.0, 0.1], "clip_norm": [0.5, 2.0]}
    traced = jax.jit(jax.vmap(lambda options: one(**varied(options))))
    updates = traced({key: jnp.array(values) for key, values in options.items()})
    for i in range(2):
        alone = jax.jit(lambda: one(**{key: values[i] for key, values in options.items()}))()  # noqa: B023
        mine = jax.tree.map(lambda x: x[i], updates)  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), mine, alone)


def test_weight_decay_follows_its_schedule():
    """DINO's `cosine_scheduler(0.04, 0.4, epochs, steps of an epoch)`, value by value; decay alone moves the kernel."""
    optimizer = make("sgd", PARAMS, momentum=0.0, weight_decay=0.04, warmup=5, **RISING)
    theirs = 0.4 + 0.5 * (0.04 - 0.4) * (1 + np.cos(np.pi * np.arange(100) / 100))
    np.testing.assert_allclose([float(optimizer.weight_decay(s)) for s in range(100)], theirs, rtol=1e-5)
    assert optimizer.rates(50) == pytest.approx({"learning_rate": 0.1, "weight_decay": 0.22})

    zeros, state = jax.tree.map(jnp.zeros_like, PARAMS), optimizer.tx.init(PARAMS)
    for step in range(8):
        updates, state = optimizer.tx.update(zeros, state, PARAMS)
        expected = -0.1 * min(step / 5, 1) * theirs[step] * np.asarray(PARAMS["head"]["kernel"])
        np.testing.assert_allclose(updates["head"]["kernel"], expected, rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(updates["head"]["bias"], 0)


def test_a_constant_weight_decay_needs_no_state_and_no_metric():
    plain, named = make("adamw", PARAMS, weight_decay=0.1), make("adamw", PARAMS, weight_decay_schedule="constant")
    assert jax.tree.structure(plain.tx.init(PARAMS)) == jax.tree.structure(named.tx.init(PARAMS))
    assert set(plain.rates(0)) == {"learning_rate"}


def test_a_schedule_in_steps_of_the_run_for_updates_in_every_other_step():
    optimizer = make("sgd", PARAMS, weight_decay=1.0, weight_decay_schedule="linear").every(2)
    assert [optimizer.rates(step)["weight_decay"] for step in (0, 1, 2)] == pytest.approx([1.0, 1.0, 0.99])


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_what_is_frozen_for_three_steps_is_then_trained_as_if_alone(name):
    """Neither gradient nor decay moves it before; after, its moments are new and its schedules those of the run."""
    common = dict(weight_decay=0.1, schedule="linear", **RISING)
    tx = make(name, PARAMS, freeze=(("^head/kernel", 3), ("^block_00", True), (".*", False)), **common).tx
    state, params, seen = tx.init(PARAMS), PARAMS, []
    update = jax.jit(tx.update)
    for _ in range(5):
        updates, state = update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    for held in seen[:3]:
        np.testing.assert_array_equal(held["head"]["kernel"], PARAMS["head"]["kernel"])
        assert not np.array_equal(held["head"]["bias"], PARAMS["head"]["bias"])
    jax.tree.map(np.testing.assert_array_equal, seen[-1]["block_00"], PARAMS["block_00"])

    is_adam = lambda x: isinstance(x, optax.ScaleByAdamState)
    rest = make(name, PARAMS, **common).tx
    state, params = rest.init(PARAMS), PARAMS
    for step in range(5):
        if step == 3:  # a new optimizer, but for its counts of steps
            fresh = rest.init(PARAMS)
            state = jax.tree.map(lambda old, new: old if jnp.shape(old) == () else new, state, fresh)
            moments = [x for x in jax.tree.leaves(state, is_leaf=is_adam) if is_adam(x)]
            assert len(moments) == 1
            state = jax.tree.map(
                lambda x: x._replace(count=jnp.zeros((), jnp.int32)) if is_adam(x) else x, state, is_leaf=is_adam
            )
            params = PARAMS
        updates, state = rest.update(GRADS, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(seen[-1]["head"]["kernel"], params["head"]["kernel"], rtol=1e-5)


def test_gradients_of_waiting_parameters_do_not_count_in_the_norm():
    freeze = (("^head/", 1), (".*", False))
    tx = make("sgd", PARAMS, momentum=0.0, learning_rate=1.0, clip_norm=0.5, freeze=freeze).tx
    first, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    second, _ = tx.update(GRADS, state, PARAMS)
    others = {name: x for name, x in GRADS.items() if name != "head"}
    for updates, counted in ((first, others), (second, GRADS)):
        expected = -0.5 / float(optax.tree.norm(counted)) * np.asarray(GRADS["block_01"]["kernel"])
        np.testing.assert_allclose(updates["block_01"]["kernel"], expected, rtol=1e-5)
