"""What rotation, context and jigsaw share: any trunk, judged on whole images, the same on one device and on eight."""

import math

import jax
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.parallel.mesh import shard_batch
from jaxvision.tasks import context, get, jigsaw, rotation

TASKS = {
    "rotation": (rotation.make, {}, 4),
    "context": (context.make, dict(hidden=16, gap=0.25, colors="keep"), 8),
    "jigsaw": (jigsaw.make, dict(permutations=6, grid=2, part_dim=8, hidden=16, questions=2), 6),
}


@pytest.fixture(params=list(TASKS))
def build(request):
    """`build(model)` -> (name, task, number of answers)."""
    make, options, answers = TASKS[request.param]
    return lambda model: (request.param, make(model=model, num_classes=None, **options), answers)


def test_any_trunk_starts_near_the_loss_of_guessing(build, trunk, scenes):
    name, task, answers = build(trunk)
    side = {"rotation": 16, "context": 16, "jigsaw": 18}[name]  # parts of a multiple of 4 pixels, for the ViT
    images = {"image": scenes["image"][:, :side, :side]}
    variables = jax.jit(task.init)(jax.random.key(0), images)
    loss, (metrics, updates) = jax.jit(task.loss)(variables, images, jax.random.key(1))
    assert abs(loss - math.log(answers)) < 0.5
    assert set(metrics) == {f"{name}_top1"}
    assert set(updates) == set(variables) - {"params"}


def test_it_learns(build, resnet, scenes, losses):
    _, task, answers = build(resnet)
    values = losses(task, scenes, 40)
    assert np.mean(values[-5:]) < 0.8 * math.log(answers)


def test_outputs_are_those_of_the_trunk_on_whole_images(build, resnet, scenes):
    name, task, _ = build(resnet)
    variables = task.init(jax.random.key(0), scenes)
    out = task.outputs(variables, scenes)
    images = scenes["image"]
    if name != "rotation":
        images = (images - images.mean((1, 2, 3), keepdims=True)) / images.std((1, 2, 3), keepdims=True)
    features, want = resnet(None).apply(variables, images, train=False)
    np.testing.assert_allclose(out["features"], features, rtol=1e-4, atol=1e-5)
    assert set(out) == {"features", *want}


def test_eight_devices_equal_one(build, resnet, scenes, mesh):
    _, task, _ = build(resnet)
    variables = jax.jit(task.init)(jax.random.key(0), scenes)

    def step(batch):
        loss = lambda params: task.loss({**variables, "params": params}, batch, jax.random.key(1))
        (value, (metrics, _)), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return value, metrics, grads

    one, eight = jax.jit(step)(scenes), jax.jit(step)(shard_batch(scenes, mesh(8)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), one, eight)


def test_views_are_refused(build, resnet, scenes):
    _, task, _ = build(resnet)
    with pytest.raises(UserError, match="take `views` out of augment"):
        task.init(jax.random.key(0), {"image": scenes["image"][:, None]})


def test_they_are_registered():
    assert [get(name) for name in TASKS] == [make for make, *_ in TASKS.values()]
