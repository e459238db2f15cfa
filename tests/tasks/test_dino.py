"""DINO: the loss, the teacher and the centre against a loop in plain JAX, on any number of devices and microbatches."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.models.dino_head import DinoHead
from jaxvision.parallel.mesh import replicate, shard_batch
from jaxvision.tasks import get_task
from jaxvision.tasks.block_masks import block_masks
from jaxvision.tasks.task import After
from jaxvision.train import state as states
from jaxvision.train.step import make_train_step

STEPS, RATE, K = 4, 0.5, 12
SMALL = dict(width=16, depth=1, mlp_dim=16, num_heads=2)
FINE = partial(models.build, "vit", variant="Ti/2", pool="token", **SMALL)  # 4x4 patches of a large crop
make = partial(
    get_task("dino"), total_steps=STEPS, steps=int, prototypes=K, hidden=16, bottleneck=8, momentum=0.5,
    warmup_temperature=0.04, teacher_temperature=0.07, temperature_warmup=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def batch():
    large, small = (jax.random.normal(jax.random.key(i), (8, v, s, s, 3)) for i, v, s in ((1, 2, 8), (2, 3, 4)))
    return {"image": large, "local_image": small}


@pytest.fixture(scope="module")
def variables(vit, batch):
    """Variables whose teacher is another network than the student, with heads whose outputs differ between images."""
    variables = jax.jit(make(model=vit).init)(jax.random.key(0), batch)
    spread = lambda head: jax.tree.map(lambda x: 20 * x, head)
    params = {**variables["params"], "projection": spread(variables["params"]["projection"])}
    other = jax.tree.map(lambda x: x + 0.05 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), params)
    return {**variables, "params": params, "teacher": {"params": other}}


def run(task, variables, batch, rate=RATE, count=STEPS, **options):
    """The states and metrics after each step of SGD."""
    tx = optax.sgd(rate)
    init = task._replace(init=lambda rng, batch: variables)
    state, seen = states.initializer(init, tx, batch, 0, False)(), []
    step = jax.jit(make_train_step(task, lambda rng, batch: batch, tx, seed=0, **options))
    for _ in range(count):
        state, metrics = step(state, batch)
        seen.append(jax.device_get((state, metrics)))
    return seen


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **(tolerance or dict(rtol=1e-3, atol=1e-5))), a, b)


@pytest.fixture(scope="module")
def steps(vit, variables, batch):
    return run(make(model=vit), variables, batch)


@pytest.fixture(scope="module")
def with_patches(batch):
    """`with_patches(**options)`: a task that masks patches, and its variables."""

    def build(**options):
        task = make(model=FINE, patches=2.0, masked=0.75, mask_share=(0.3, 0.6), **options)
        variables = jax.jit(task.init)(jax.random.key(0), batch)
        wide = lambda params: {
            name: jax.tree.map(lambda x: 20 * x, part) if name.endswith("projection") else part
            for name, part in params.items()
        }
        params = wide(variables["params"])
        other = jax.tree.map(lambda x: x + 0.05 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), params)
        return task, {**variables, "params": params, "teacher": {"params": other}}

    return build


def test_steps_are_those_of_a_loop_by_hand(vit, variables, batch, steps):
    """Caron et al. 2021, alg. 1: targets, centre and teacher, updated from the parameters that the step has made."""
    backbone, head = vit(None), DinoHead(K, hidden=16, bottleneck=8)

    def scores(params, images):
        trunk = {name: x for name, x in params.items() if name != "projection"}
        return head.apply({"params": params["projection"]}, backbone.apply({"params": trunk}, images, False)[0])

    def loss(params, targets):
        views = [batch["image"][:, v] for v in range(2)] + [batch["local_image"][:, v] for v in range(3)]
        logs = [jax.nn.log_softmax(scores(params, view) / 0.1) for view in views]
        pairs = [(g, v) for g in range(2) for v in range(5) if v != g]
        return sum(-(targets[g] * logs[v]).sum(-1).mean() for g, v in pairs) / len(pairs)

    slope, scored = jax.jit(jax.value_and_grad(loss)), jax.jit(scores)
    params, teacher, centre = variables["params"], variables["teacher"]["params"], jnp.zeros(K)
    for step, (state, metrics) in enumerate(steps):
        theirs = [scored(teacher, batch["image"][:, g]) for g in range(2)]
        temperature = (0.04, 0.055, 0.07, 0.07)[step]
        targets = [jax.nn.softmax((t - centre) / temperature) for t in theirs]
        value, grads = slope(params, targets)
        params = jax.tree.map(lambda p, g: p - RATE * g, params, grads)
        centre = 0.9 * centre + 0.1 * jnp.concatenate(theirs).mean(0)
        tau = 1 - (1 - 0.5) * (math.cos(math.pi * step / STEPS) + 1) / 2
        teacher = jax.tree.map(lambda t, p, tau=tau: tau * t + (1 - tau) * p, teacher, params)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-4)
        close(state.params, params)
        close(state.model_state["teacher"]["params"], teacher)
        close(state.model_state["targets"], {"centre": {"image": centre}, "step": step + 1})
        entropies = np.mean([-(t * np.log(t + 1e-30)).sum(-1) for t in targets])
        mean = np.mean(targets, (0, 1))
        np.testing.assert_allclose(metrics["teacher_entropy"], entropies, rtol=1e-3)
        np.testing.assert_allclose(metrics["student_kl"], value - entropies, rtol=1e-3)
        np.testing.assert_allclose(metrics["mean_entropy"], -(mean * np.log(mean)).sum(), rtol=1e-3)
        np.testing.assert_allclose(metrics["target_kl"], metrics["mean_entropy"] - entropies, rtol=1e-3, atol=1e-5)


def test_microbatches_leave_the_centre_and_the_teacher_of_the_whole_batch(vit, variables, batch, steps):
    parts, _ = run(make(model=vit), variables, batch, accumulate=2)[-1]
    whole, _ = steps[-1]
    close(whole.model_state, parts.model_state)
    close(whole.params, parts.params)


def test_losses_of_the_whole_batch_are_exact_in_microbatches(vit, variables, batch):
    """Sinkhorn's algorithm and neighbours see all examples; a step of SGD is the gradient."""
    task = make(model=vit, centering="sinkhorn", koleo=0.1)
    (whole, metrics), (parts, of_parts) = (run(task, variables, batch, accumulate=n, count=1)[0] for n in (1, 2))
    close(whole.params, parts.params)
    close(whole.model_state, parts.model_state)
    assert metrics["koleo"] == pytest.approx(of_parts["koleo"], rel=1e-4)


@pytest.mark.parametrize("centering", ["centre", "sinkhorn"])
def test_eight_devices_take_the_step_of_one(with_patches, batch, mesh, centering):
    """With every loss of DINOv2."""
    task, variables = with_patches(centering=centering, koleo=0.1)
    alone, metrics = run(task, variables, batch, count=1)[0]
    spread, of_spread = run(task, replicate(variables, mesh()), shard_batch(batch, mesh()), count=1)[0]
    close(alone.params, spread.params)
    close(alone.model_state, spread.model_state)
    for name in ("loss", "grad_norm", "koleo", "patch_loss", "teacher_entropy", "mean_entropy", "embedding_std"):
        np.testing.assert_allclose(metrics[name], of_spread[name], rtol=1e-4)
    assert np.any(alone.model_state["targets"]["centre"]["patches"]) == (centering == "centre")


def test_masked_patches_are_predicted_from_the_others(with_patches, batch):
    """Zhou et al. 2022, eq. 2: targets are of the teacher, which sees the patches; the head is one of its own."""
    task, variables = with_patches(patch_head="separate")
    key = jax.random.key(7)
    loss, (metrics, _, rows) = jax.jit(task.loss)(variables, batch, key)
    images = batch["image"].reshape(16, 8, 8, 3)
    masks = block_masks(jax.random.fold_in(key, 2), 16, (4, 4), 0.75, (0.3, 0.6))
    backbone, head = FINE(None), DinoHead(K, hidden=16, bottleneck=8)

    def patches(params, **hidden):
        trunk = {name: x for name, x in params.items() if not name.endswith("projection")}
        tokens = backbone.apply({"params": trunk}, images, False, **hidden)[1]["tokens"]
        embedded = head.apply({"params": params["patch_projection"]}, tokens, method="embed")
        return embedded, head.apply({"params": params["patch_projection"]}, embedded, method="score")

    logs = jax.nn.log_softmax(patches(variables["params"], masked=masks)[1] / 0.1)
    embedded, scores = patches(variables["teacher"]["params"])
    targets = jax.nn.softmax(scores / 0.04)
    each = [-(targets[i] * logs[i]).sum(-1)[masks[i]].mean() if masks[i].any() else 0.0 for i in range(16)]
    assert sum(map(bool, each)) == 12
    np.testing.assert_allclose(metrics["patch_loss"], np.mean(each), rtol=1e-3)
    of_images = metrics["teacher_entropy"] + metrics["student_kl"]
    np.testing.assert_allclose(loss, of_images + 2 * metrics["patch_loss"], rtol=1e-5)
    np.testing.assert_allclose(rows["patches"].sum(0), embedded[masks].sum(0), rtol=1e-3, atol=1e-3)
    centres = task.after(After(jnp.int32(0), variables, rows, key))["targets"]["centre"]
    np.testing.assert_allclose(centres["patches"], 0.1 * scores[masks].mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_the_metrics_show_a_collapse(vit, variables, batch, scale):
    """All images have the same output: uniform if the scores are 0, one prototype if the teacher's are large."""
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    kernel = jnp.zeros((8, K)).at[0].set(1.0)
    params["projection"] |= {"last_layer": {"kernel": kernel}}
    params["projection"]["dense_2"]["bias"] = jnp.eye(8)[0]
    targets = variables["targets"] | {"centre": {"image": -scale * jnp.eye(K)[0]}}
    equal = {**variables, "params": params, "teacher": {"params": params}, "targets": targets}
    metrics = jax.jit(make(model=vit).loss)(equal, batch, jax.random.key(0))[1][0]
    expected = np.log(K) if scale == 0 else 0.0
    np.testing.assert_allclose([metrics["teacher_entropy"], metrics["mean_entropy"]], expected, atol=1e-5)
    np.testing.assert_allclose([metrics["target_kl"], metrics["embedding_std"]], 0, atol=1e-5)


def test_a_network_with_batchnorm_and_what_is_evaluated(nin, batch):
    small = {"image": batch["image"]}  # without small crops
    tasks = {name: make(model=nin, network=name) for name in ("student", "teacher")}
    variables = jax.jit(tasks["student"].init)(jax.random.key(0), small)
    moved = jax.jit(tasks["student"].loss)(variables, small, jax.random.key(0))[1][1]
    same = jax.tree.map(np.array_equal, moved["teacher"]["batch_stats"], variables["teacher"]["batch_stats"])
    assert not all(jax.tree.leaves(same))
    variables = {**variables, "teacher": jax.tree.map(lambda x: x + 0.1, variables["teacher"])}
    student, teacher = (jax.jit(task.outputs)(variables, {"image": small["image"][:, 0]}) for task in tasks.values())
    assert student["projection"].shape == (8, 8)
    assert student["features"].shape == teacher["features"].shape == (8, 16)
    assert not np.allclose(student["features"], teacher["features"])


def test_the_teacher_has_no_stochastic_depth(batch):
    model = partial(models.build, "vit", variant="Ti/4", width=16, depth=2, mlp_dim=16, num_heads=2, drop_path=0.9)
    task = make(model=model)
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    embed = jax.jit(lambda key: task.loss(variables, batch, key)[1][2]["image"])
    np.testing.assert_array_equal(embed(jax.random.key(0)), embed(jax.random.key(1)))


LEARNED = partial(models.build, "vit", variant="Ti/4", posemb="learned", **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(centering="center"), "unknown value of task.centering 'center'; did you mean 'centre'"),
        (dict(patch_head="seperate"), "unknown value of task.patch_head 'seperate'; did you mean 'separate'"),
        (dict(patches=1.0, mask_share=(0.5, 0.1)), "two shares, the smaller one first"),
        (dict(patches=1.0, model=partial(models.build, "nin", blocks=3, width=1 / 12)), "hides patches from a Vision"),
        (dict(network="teachers"), "unknown value of task.network 'teachers'; did you mean 'teacher'"),
        (dict(model=LEARNED), "set model.base_grid"),
        (dict(fields={"image": Field("image", (None, None, 3), "float32", views=1)}), "needs several views"),
    ],
)
def test_wrong_options(vit, batch, options, message):
    def trace():
        task = make(**{"model": vit, **options})
        shapes = jax.eval_shape(task.init, jax.random.key(0), batch)
        return jax.eval_shape(task.loss, shapes, batch, jax.random.key(0))

    with pytest.raises(UserError, match=message):
        trace()
