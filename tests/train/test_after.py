"""What follows an optimizer step: teacher, centre and queue, against loops in NumPy; exact in parts and spread out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision.errors import UserError
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks.task import Joint, Task
from jaxvision.train import state as states
from jaxvision.train.step import make_train_step

B, D, RATE, STEPS = 8, 3, 0.1, 4
LENGTH = 12  # of the queue


def momentum(step):
    """The teacher's, by hand: 0.5, 0.6, 0.7, 0.8."""
    return 0.5 + 0.1 * step


def init(rng, batch):
    return {
        "params": {"w": jnp.ones(D)},
        "teacher": {"w": jnp.zeros(D)},
        "memory": {"centre": jnp.zeros(()), "queue": jnp.zeros(LENGTH), "place": jnp.zeros((), jnp.int32)},
    }


def loss(variables, batch, rng):
    """Squares, and as rows what the teacher says of each example."""
    error = batch["x"] @ variables["params"]["w"] - batch["y"] - variables["memory"]["centre"]
    return jnp.mean(error**2), ({"error": error.mean()}, {}, {"said": batch["x"] @ variables["teacher"]["w"]})


def after(done):
    rate, teacher, memory = momentum(done.step), done.variables["teacher"], done.variables["memory"]
    logits = done.rows["said"]
    places = (memory["place"] + jnp.arange(len(logits))) % LENGTH
    return {
        "teacher": jax.tree.map(lambda t, w: rate * t + (1 - rate) * w, teacher, done.variables["params"]),
        "memory": {
            "centre": 0.9 * memory["centre"] + 0.1 * logits.mean(),
            "queue": memory["queue"].at[places].set(logits),
            "place": (memory["place"] + len(logits)) % LENGTH,
        },
    }


TASK = Task(init, loss, lambda variables, batch: {}, after=after)
JOINT = TASK._replace(
    loss=Joint(
        lambda variables, batch, rng: ((batch["x"] @ variables["params"]["w"], batch["x"]), {}),
        lambda variables, embedded, batch: (
            jnp.mean((embedded[0] - batch["y"] - variables["memory"]["centre"]) ** 2),
            {},
            {"said": embedded[1] @ variables["teacher"]["w"]},
        ),
    )
)


def batch_of(step):
    rng = np.random.default_rng(step)
    return {"x": rng.normal(size=(B, D)).astype(np.float32), "y": rng.normal(size=B).astype(np.float32)}


def by_hand(skipped=()):
    w, teacher, centre, queue, place = np.ones(D), np.zeros(D), 0.0, np.zeros(LENGTH), 0
    for step in range(STEPS):
        if step in skipped:
            continue
        x, y = batch_of(step).values()
        logits = x @ teacher
        w = w - RATE * 2 * ((x @ w - y - centre)[:, None] * x).mean(0)
        teacher = momentum(step) * teacher + (1 - momentum(step)) * w
        centre = 0.9 * centre + 0.1 * logits.mean()
        for row in logits:
            queue[place] = row
            place = (place + 1) % LENGTH
    return {"teacher": {"w": teacher}, "memory": {"centre": centre, "queue": queue, "place": place}, "w": w}


def run(task=TASK, mesh=None, bad=(), **options):
    tx = optax.sgd(RATE)
    state = states.initializer(task, tx, batch_of(0), 0, options.get("ema") is not None)()
    step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0, **options))
    state = state if mesh is None else replicate(jax.device_get(state), mesh)
    for i in range(STEPS):
        batch = batch_of(i)
        if i in bad:
            batch["y"][2] = np.nan
        state, metrics = step(state, batch if mesh is None else shard_batch(batch, mesh))
        assert metrics["skipped"] == (i in bad)
    return jax.device_get(state)


def assert_as_by_hand(state, expected):
    variables = {**state.model_state, "w": state.params["w"]}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), variables, expected)


@pytest.mark.parametrize("task", [TASK, JOINT], ids=["mean", "joint"])
@pytest.mark.parametrize(("devices", "parts"), [(1, 1), (1, 4), (4, 2)])
def test_teacher_centre_and_queue_are_those_of_a_loop(task, devices, parts, mesh):
    """Once a step, of the new parameters, over all rows in their order, in however many parts and on however many."""
    assert_as_by_hand(run(task, mesh(devices) if devices > 1 else None, accumulate=parts), by_hand())


def test_a_skipped_step_skips_what_follows_it():
    assert_as_by_hand(run(bad=(1, 2)), by_hand(skipped=(1, 2)))


def test_the_average_holds_what_follows_a_step_and_whole_numbers_are_not_averaged():
    state = run(ema=0.5)
    assert state.ema["memory"]["place"] == state.model_state["memory"]["place"] == STEPS * B % LENGTH
    teacher, average = [by_hand_of(n)["teacher"]["w"] for n in range(STEPS + 1)], np.zeros(D)
    for t in range(STEPS):
        decay = min(0.5, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * teacher[t + 1]
    np.testing.assert_allclose(state.ema["teacher"]["w"], average, rtol=1e-5)


def by_hand_of(steps):
    return by_hand(skipped=range(steps, STEPS))


def test_draws_after_a_step_follow_from_the_step():
    draw = lambda done: {"memory": {**done.variables["memory"], "centre": jax.random.normal(done.rng)}}
    one, again = (run(TASK._replace(after=draw)).model_state["memory"]["centre"] for _ in range(2))
    assert one == again != 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"teecher": jnp.zeros(3)}, "collection 'teecher' is new"),
        ({"teacher": {"w": jnp.zeros(4)}}, "collection 'teacher' has others, or of another shape"),
        ({"teacher": {"w": jnp.zeros(3, int)}}, "collection 'teacher' has others, or of another shape or type"),
    ],
)
def test_arrays_that_were_not_there_before_are_refused(changed, message):
    with pytest.raises(UserError, match=message):
        run(TASK._replace(after=lambda done: changed))
