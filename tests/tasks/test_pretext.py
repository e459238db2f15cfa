"""What rotation, context and jigsaw share: any trunk, judged on whole images, the same on one device and on eight."""

import functools
import math

import jax
import numpy as np
import optax
import pytest
from compiling import OPTIMISED

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.parallel.mesh import shard_batch
from jaxvision.tasks import context, get_task, jigsaw, rotation

# Parts of 32 or 8 pixels for images of 32, which the patches of the ViT divide.
TASKS = {
    "rotation": (rotation.make_rotation, {}, 4),
    "context": (context.make_context, dict(hidden=16, gap=0.25, colors="keep"), 8),
    "jigsaw": (jigsaw.make_jigsaw, dict(permutations=6, grid=2, tile=0.5, part_dim=8, hidden=16, questions=2), 6),
}


@pytest.fixture(params=list(TASKS))
def build(request):
    """`build(model)` -> (name, task, number of answers)."""
    make, options, answers = TASKS[request.param]
    return lambda model: (request.param, make(model=model, **options), answers)


def test_any_trunk_will_do(build, trunk, scenes):
    name, task, answers = build(trunk)
    variables = jax.eval_shape(task.init, jax.random.key(0), scenes)
    loss, (metrics, updates) = jax.eval_shape(task.loss, variables, scenes, jax.random.key(1))
    assert loss.shape == ()
    assert set(metrics) == {f"{name}_top1"}
    assert set(updates) == set(variables) - {"params"}
    assert variables["params"]["head"]["bias"].shape == (answers,)


def test_it_learns_from_guessing_on(build, vit, scenes):
    """Some steps of Adam, all on one batch with new questions in each."""
    _, task, answers = build(vit)
    variables = dict(jax.jit(task.init)(jax.random.key(0), scenes))
    params, tx = variables.pop("params"), optax.adam(1e-2)

    @jax.jit
    def step(params, rest, state, rng):
        loss = lambda p: task.loss({"params": p, **rest}, scenes, rng)
        (value, (_, updates)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        moves, state = tx.update(grads, state)
        return optax.apply_updates(params, moves), {**rest, **updates}, state, value

    state, values = tx.init(params), []
    for i in range(40):
        params, variables, state, value = step(params, variables, state, jax.random.key(i))
        values.append(float(value))
    assert values[0] == pytest.approx(math.log(answers), abs=0.3)
    assert np.mean(values[-5:]) < 0.5 * math.log(answers)


def test_outputs_are_those_of_the_trunk_on_whole_images(build, nin, scenes, random_variables):
    name, task, _ = build(nin)
    variables = random_variables(task.init, scenes)
    out = jax.jit(task.outputs)(variables, scenes)
    images = scenes["image"]
    if name != "rotation":
        images = (images - images.mean((1, 2, 3), keepdims=True)) / images.std((1, 2, 3), keepdims=True)
    features, want = jax.jit(nin(None).apply)(variables, images)
    np.testing.assert_allclose(out["features"], features, rtol=1e-4, atol=1e-5)
    assert set(out) == {"features", *want}


ONE_OF_TASKS = [name if name == "rotation" else pytest.param(name, marks=pytest.mark.slow) for name in TASKS]


@pytest.mark.parametrize("build", ONE_OF_TASKS, indirect=True)
def test_eight_devices_equal_one(build, nin, scenes, mesh, random_variables):
    _, task, _ = build(nin)
    variables = random_variables(task.init, scenes)

    @functools.partial(jax.jit, compiler_options=OPTIMISED)
    def gradients(params, batch):
        loss = lambda params: task.loss({**variables, "params": params}, batch, jax.random.key(1))
        return jax.value_and_grad(loss, has_aux=True)(params)

    one = gradients(variables["params"], scenes)
    eight = gradients(variables["params"], shard_batch(scenes, mesh()))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), one, eight)


def test_the_questions_are_those_that_the_loss_asks(build, nin, scenes):
    _, task, answers = build(nin)
    parts, beside, asked = jax.eval_shape(task.ask, scenes, jax.random.key(0))
    assert parts.shape[:2] == (8, {4: 4, 8: 9, 6: 4}[answers])
    assert beside.shape[:2] == asked.shape


def test_views_are_refused(build, nin, scenes):
    _, task, _ = build(nin)
    with pytest.raises(UserError, match="take `views` out of augment"):
        jax.eval_shape(task.init, jax.random.key(0), {"image": scenes["image"][:, None]})


def test_a_model_with_the_head_of_another_pretraining_is_refused(build):
    with pytest.raises(UserError, match="remove projection_layers from config.model"):
        build(functools.partial(models.build, "nin", projection_layers=1))


def test_they_are_registered():
    assert [get_task(name) for name in TASKS] == [make for make, *_ in TASKS.values()]
