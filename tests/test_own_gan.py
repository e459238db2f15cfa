"""The GAN of experiments/own_parts against a loop in plain JAX and optax, and whose leaves each player moves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.own_parts.gan import Generator, make_gan
from jaxvision import augment, models
from jaxvision.evals import views
from jaxvision.train import state as states
from jaxvision.train.step import make_train_step, step_keys

B, LATENT, STEPS = 4, 6, 2
CRITIC = partial(models.build, "vit", variant="Ti/4", width=16, depth=1, mlp_dim=16, num_heads=2)
TX = {"discriminator": optax.sgd(0.05), "generator": optax.sgd(0.1, momentum=0.9)}


@pytest.fixture(scope="module")
def task():
    return make_gan(model=CRITIC, latent=LATENT, widths=(8, 4))


@pytest.fixture(scope="module")
def batch():
    return {"image": jnp.tanh(jax.random.normal(jax.random.key(3), (B, 16, 16, 3)))}


@pytest.fixture(scope="module")
def variables(task, batch, random_variables):
    return random_variables(task.init, batch)  # of a head that is not zero, behind which no gradient would come


def run(task, variables, batch, tx, steps=STEPS):
    state = states.initializer(task._replace(init=lambda rng, batch: variables), tx, batch, 0, False)()
    step, metrics_of_steps = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0)), []
    for _ in range(steps):
        state, metrics = step(state, batch)
        metrics_of_steps.append(jax.device_get(metrics))
    return jax.device_get(state), metrics_of_steps


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), a, b)


def test_alternating_is_the_loop_by_hand(task, variables, batch):
    """Goodfellow et al. 2014, alg. 1 with one step of the discriminator, and the generator's loss of sec. 3."""
    critic, generator = CRITIC(1), Generator((8, 4))
    log_sigmoid = lambda x: -jnp.log1p(jnp.exp(-x))

    def draw(params, rng):
        return generator.apply({"params": params}, jax.random.normal(rng, (B, LATENT)))

    def says(params, images):
        return critic.apply({"params": params}, images, True)[1]["logits"][:, 0]

    def judge(mine, theirs, rng):
        real, drawn = says(mine, batch["image"]), says(mine, draw(theirs, rng))
        return -(log_sigmoid(real) + log_sigmoid(-drawn)).mean()

    def forge(mine, theirs, rng):
        return -log_sigmoid(says(theirs, draw(mine, rng))).mean()

    params = dict(variables["params"])
    moments = {name: tx.init(params[name]) for name, tx in TX.items()}
    turns = [("discriminator", "generator", jax.jit(jax.value_and_grad(judge)))]
    turns += [("generator", "discriminator", jax.jit(jax.value_and_grad(forge)))]
    state, metrics = run(task, variables, batch, TX)
    for step in range(STEPS):
        for index, (name, other, slope) in enumerate(turns):
            rng = jax.random.fold_in(step_keys(0, step)[1], index)
            value, grads = slope(params[name], params[other], rng)
            updates, moments[name] = TX[name].update(grads, moments[name], params[name])
            params[name] = optax.apply_updates(params[name], updates)
            np.testing.assert_allclose(metrics[step][f"{name}_loss"], value, rtol=1e-4)
    close(state.params, params)


@pytest.mark.parametrize("name", list(TX))
def test_a_player_moves_its_own_leaves_alone(task, variables, batch, name):
    tx = {player: tx if player == name else optax.set_to_zero() for player, tx in TX.items()}
    state, _ = run(task, variables, batch, tx, steps=1)
    for part, leaves in state.params.items():
        moved = [not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (leaves, variables["params"][part])))]
        assert any(moved) == (part == name)


def test_samples_are_drawn_with_the_key(task, variables, batch):
    draw = jax.jit(lambda rng: views.averaged_outputs(task, variables, batch, augment.DEFAULT_FIELDS, rng)["samples"])
    one, again, other = (draw(jax.random.key(seed)) for seed in (0, 0, 1))
    assert one.shape == (B, 16, 16, 3)
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
