"""Players who train in turn: a loop by hand, gradients that touch their own leaves, and what they leave alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from jaxvision import components, durations
from jaxvision.errors import UserError
from jaxvision.layout import module_pattern
from jaxvision.parallel.mesh import shard_batch
from jaxvision.parallel.rules import shardings
from jaxvision.tasks.task import Joint, Player, Task
from jaxvision.train import players
from jaxvision.train import state as states
from jaxvision.train.step import make_train_step

B, D, STEPS = 8, 4, 5
PARTS = {"maker": module_pattern("maker"), "judge": module_pattern("judge")}


def init(rng, batch):
    return {
        "params": {"judge": {"v": jnp.linspace(0.1, 1, D)}, "maker": {"w": jnp.linspace(-1, 1, D)}},
        "counts": {"maker": jnp.zeros(()), "judge": jnp.zeros(())},
    }


def judged(params, x):
    return jnp.tanh(x * params["maker"]["w"]) @ params["judge"]["v"]


def judge_loss(params, batch):
    return jnp.mean((judged(params, batch["x"]) - batch["y"]) ** 2)


def maker_loss(params, batch):
    return jnp.mean((judged(params, batch["x"]) + 1) ** 2)


def of(loss, name):
    def play(variables, batch, rng):
        counts = {**variables["counts"], name: variables["counts"][name] + 1}
        value = loss(variables["params"], batch)
        return value, ({f"{name}_twice": 2 * value}, {"counts": counts})

    return play


def make_task(every=1, **options):
    both = {"judge": Player("judge", of(judge_loss, "judge")), "maker": Player("maker", of(maker_loss, "maker"), every)}
    return Task(init, None, lambda variables, batch: {}, players=both, parts=PARTS, **options)


TX = {"judge": optax.adam(0.1), "maker": optax.sgd(0.05, momentum=0.9)}


def batch_of(step):
    rng = np.random.default_rng(step)
    return {"x": rng.normal(size=(B, D)).astype(np.float32), "y": rng.normal(size=B).astype(np.float32)}


def run(task, tx=TX, mesh=None, bad=(), rules="replicated", **options):
    make = states.initializer(task, tx, batch_of(0), 0, options.get("ema") is not None)
    state = make() if mesh is None else states.create(make, mesh, rules)
    step, metrics_of_steps = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0, **options)), []
    for i in range(STEPS):
        batch = batch_of(i)
        if i in bad:
            batch["y"][0] = np.nan
        state, metrics = step(state, batch if mesh is None else shard_batch(batch, mesh))
        metrics_of_steps.append(jax.device_get(metrics))
    return jax.device_get(state), metrics_of_steps


def alone(mine, name, loss, params, batch):
    return loss({**params, name: mine}, batch)


def by_hand(every=1, skipped=()):
    """Plain JAX and optax: first the judge, then the maker, who sees the judge that it became."""
    params = init(None, None)["params"]
    moments = {name: tx.init(params[name]) for name, tx in TX.items()}
    losses = {"judge": [], "maker": []}
    for step in range(STEPS):
        for name, loss in (("judge", judge_loss), ("maker", maker_loss)):
            if step in skipped:
                continue
            value, grads = jax.value_and_grad(alone)(params[name], name, loss, params, batch_of(step))
            losses[name].append(float(value))
            if name == "maker" and step % every:
                continue
            updates, moments[name] = TX[name].update(grads, moments[name], params[name])
            params = {**params, name: optax.apply_updates(params[name], updates)}
    return params, moments, losses


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6), a, b)


@pytest.mark.parametrize("every", [1, 2])
def test_taking_turns_is_the_loop_by_hand(every):
    state, metrics = run(make_task(every))
    params, moments, losses = by_hand(every)
    assert_close(state.params, params)
    assert_close(state.opt_state["judge"][0].mu["judge"], moments["judge"][0].mu)
    assert_close(state.opt_state["maker"][0].trace["maker"], moments["maker"][0].trace)
    for name, expected in losses.items():
        np.testing.assert_allclose([m[f"{name}_loss"] for m in metrics], expected, rtol=1e-5)
        np.testing.assert_allclose([m[f"{name}_twice"] for m in metrics], 2 * np.array(expected), rtol=1e-5)
    np.testing.assert_allclose([m["loss"] for m in metrics], np.sum(list(losses.values()), axis=0), rtol=1e-5)
    assert state.model_state["counts"] == {"judge": STEPS, "maker": -(-STEPS // every)}


@pytest.mark.parametrize("name", list(TX))
def test_a_player_moves_its_own_leaves_and_keeps_moments_of_these_alone(name):
    task = make_task()
    still = {other: optax.set_to_zero() for other in TX if other != name}
    state, _ = run(task, {**TX, **still})
    before = init(None, None)["params"]
    for part, leaves in state.params.items():
        same = jax.tree.map(np.array_equal, leaves, before[part])
        assert set(jax.tree.leaves(same)) == {part != name}
    assert set(players.params_of(task, name, before)) == {name}
    moments = [path for path, x in jax.tree.leaves_with_path(state.opt_state[name]) if np.ndim(x)]
    assert moments
    assert all(name in jax.tree_util.keystr(path) for path in moments)


def test_in_parts_and_on_many_devices_it_is_the_same(mesh):
    expected, _ = run(make_task())
    rules = ((r"maker/w$", ("data",)), (r".*", "replicated"))  # a moment has the path of its parameter at its end
    spread, _ = run(make_task(), mesh=mesh(4), rules=rules)
    assert_close(spread.params, expected.params)
    parted, _ = run(make_task(), accumulate=4)
    assert_close(parted.params, expected.params)
    places = shardings({"opt_state": expected.opt_state, "params": expected.params}, mesh(4), rules)
    assert places["opt_state"]["maker"][0].trace["maker"]["w"].spec == places["params"]["maker"]["w"].spec


def test_a_step_is_taken_by_all_players_or_by_none():
    state, metrics = run(make_task(), bad=(2,), ema=0.5)
    assert [m["skipped"] for m in metrics] == [0, 0, 1, 0, 0]
    params, moments, _ = by_hand(skipped=(2,))
    assert_close(state.params, params)
    assert_close(state.opt_state["judge"][0].count, moments["judge"][0].count)
    assert np.isfinite(state.ema["params"]["judge"]["v"]).all()


def test_a_player_with_a_joint_loss_accumulates_exactly():
    def embed(variables, batch, rng):
        return jnp.tanh(batch["x"] * variables["params"]["maker"]["w"]), {}

    def compare(variables, embedded, batch):
        scores = embedded @ variables["params"]["judge"]["v"]
        return jnp.square(scores[:, None] - scores).mean(), {}

    both = {"judge": Player("judge", of(judge_loss, "judge")), "maker": Player("maker", Joint(embed, compare))}
    task = make_task()._replace(players=both)
    assert_close(run(task)[0].params, run(task, accumulate=4)[0].params)


STEPS_OF = partial(durations.steps, batch_size=B)


def section(**optimizer):
    return ConfigDict({"optimizer": {"name": "sgd", "learning_rate": 0.1, **optimizer}})


def make_optimizer(task, **optimizer):
    return components.make_optimizer(section(**optimizer), None, task, init(None, None)["params"], STEPS_OF, 10)


def test_each_has_a_section_that_says_what_differs():
    sections = {"judge": dict(learning_rate=0.3), "maker": dict(name="adam", warmup="4 steps")}
    optimizer = make_optimizer(make_task(every=2), players=sections)
    assert optimizer.rates(0) == {"judge_learning_rate": pytest.approx(0.3), "maker_learning_rate": 0.0}
    # The fourth step of the run is the second update of the maker, whose warm-up takes two.
    assert optimizer.rates(2)["maker_learning_rate"] == pytest.approx(0.05)
    state, _ = run(make_task(every=2), optimizer.tx)
    assert set(state.opt_state) == {"judge", "maker"}
    assert not any(jax.tree.leaves(optimizer.frozen))


@pytest.mark.parametrize(
    ("change", "optimizer", "message"),
    [
        ({}, dict(players=dict(jugde=dict(name="adam"))), "'optimizer.players.jugde'; did you mean 'judge'"),
        ({}, dict(players=dict(judge=dict(learning_rat=1.0))), "'learning_rat'; did you mean 'learning_rate'"),
        (dict(players={}), dict(players=dict(judge={})), "this one has none: take it out"),
        (dict(players={"judge": Player("jury", None)}), {}, "unknown part of the player 'judge' 'jury'"),
        (dict(players={"judge": Player("rest", None)}, parts={**PARTS, "rest": ".*"}), {}, "nothing to train: no para"),
    ],
)
def test_mistakes_are_named(change, optimizer, message):
    with pytest.raises(UserError, match=message):
        make_optimizer(make_task()._replace(**change), **optimizer)


def test_metrics_of_one_name_are_refused():
    twice = {"judge": Player("judge", of(judge_loss, "judge")), "maker": Player("maker", of(maker_loss, "judge"))}
    with pytest.raises(UserError, match="two players have a metric 'judge_twice'"):
        run(make_task()._replace(players=twice))
