"""Schedules of the recipes in configs/self_supervised, in every step, against the formulas of the authors' code.

An epoch has five steps here; rates, durations and schedules are those of the config. The formulas are in NumPy, in
steps of such epochs.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import config as configs
from jaxvision import durations, models, paths
from jaxvision.models.order import layer_order
from jaxvision.optim import optimizers
from jaxvision.tasks import get_task
from jaxvision.tasks.task import After

EPOCH, BLOCKS = 5, 3


class Recipe(NamedTuple):
    """A config whose epochs have `EPOCH` steps."""

    config: dict
    steps: Callable
    total: int

    def optimizer(self, params, order=dict, **changes):
        section = self.config["optimizer"] | changes
        return optimizers.make_optimizer(**section, params=params, total=self.total, steps=self.steps, order=order)

    def task(self, model, **changes):
        options = {k: v for k, v in self.config["task"].items() if k != "name"} | changes
        return get_task(self.config["task"]["name"])(model=model, total_steps=self.total, **options)


def read(name, **overrides):
    config = configs.load(f"configs/self_supervised/{name}", overrides).to_dict()
    batch = config["data"]["batch_size"]
    sizes = dict(batch_size=batch, examples=EPOCH * batch)
    total = durations.steps(config["train"]["total"], **sizes)
    return Recipe(config, partial(durations.steps, **sizes, total=total), total)


@pytest.fixture(scope="module")
def trunk():
    return models.build("vit", None, variant="Ti/4", width=8, depth=BLOCKS, mlp_dim=8, num_heads=2, posemb="learned")


@pytest.fixture(scope="module")
def params(trunk):
    """A ViT, and heads that the rules of the recipes name; every array is 1, since rules read paths only."""
    shapes = jax.eval_shape(trunk.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    heads = {"projection": {"last_layer": {"kernel": 1}}, "prototypes": {"kernel": 1}, "predictor": {"kernel": 1}}
    return jax.tree.map(lambda _: jnp.ones(()), shapes | heads)


def every(schedule, total):
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(total)), np.float64)


def rates(recipe, params, trunk, steps, **changes):
    """The learning rates {path: [steps]} with which the recipe moves its parameters: gradient descent along ones."""
    plain = dict(name="sgd", momentum=0.0, weight_decay=0.0, weight_decay_schedule="constant", clip_norm=None)
    for key in ("b2", "variant"):
        recipe.config["optimizer"].pop(key, None)
    tx = recipe.optimizer(params, lambda: layer_order(trunk), **plain, **changes).tx

    def step(state, _):
        updates, state = tx.update(params, state, params)
        return state, jax.tree.map(jnp.negative, updates)

    moved = jax.jit(lambda: jax.lax.scan(step, tx.init(params), None, steps)[1])()
    return dict(zip(paths.names(moved), map(np.asarray, jax.tree.leaves(moved)), strict=True))


def half_cosine(start, end, steps):
    return end + (start - end) * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2


@pytest.mark.parametrize(
    ("name", "rate", "batch", "end", "epochs", "warmup"),
    [  # the rate is that of 256 images, the end that of the batch
        ("mae_vit_b16_imagenet2012.py", 1.5e-4, 4096, 0.0, 1600, 40),
        ("mae_finetune_imagenet2012.py:b16", 5e-4, 1024, 1e-6, 100, 5),
        ("mae_finetune_imagenet2012.py:l16", 1e-3, 1024, 1e-6, 50, 5),
        ("mae_finetune_imagenet2012.py:h14", 1e-3, 1024, 1e-6, 50, 5),
        ("mae_probe_imagenet2012.py", 0.1, 16384, 0.0, 90, 10),
        ("moco_v3_resnet50_imagenet2012.py:100", 0.6, 4096, 0.0, 100, 10),
        ("moco_v3_resnet50_imagenet2012.py:300", 0.3, 4096, 0.0, 300, 10),
        ("moco_v3_resnet50_imagenet2012.py:1000", 0.3, 4096, 0.0, 1000, 10),
        ("moco_v3_vit_imagenet2012.py:S", 1.5e-4, 4096, 0.0, 300, 40),
        ("barlow_twins_resnet50_imagenet2012.py", 0.2, 2048, 0.2 * 8 * 0.001, 1000, 10),
        ("vicreg_resnet50_imagenet2012.py", 0.2, 2048, 0.2 * 8 * 0.001, 1000, 10),
    ],
)
def test_learning_rates_that_rise_from_zero(params, trunk, name, rate, batch, end, epochs, warmup):
    """`adjust_learning_rate` of MAE and of MoCo v3 (with fractions of epochs), of Barlow Twins and of VICReg."""
    recipe, peak = read(name), rate * batch / 256
    rise = peak * np.arange(warmup * EPOCH) / (warmup * EPOCH)
    theirs = np.concatenate([rise, half_cosine(peak, end, (epochs - warmup) * EPOCH)])
    assert recipe.total == len(theirs)
    ours = every(recipe.optimizer(params, lambda: layer_order(trunk)).learning_rate, recipe.total)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * peak)


@pytest.mark.parametrize(
    ("name", "epoch", "start", "peak", "end", "epochs", "warmup"),
    [
        ("dino_vit_s16_imagenet2012.py:100", EPOCH, 0.0, 5e-4 * 512 / 256, 1e-6, 100, 10),
        ("dino_vit_s16_imagenet2012.py:300", EPOCH, 0.0, 5e-4 * 1024 / 256, 1e-6, 300, 10),
        ("dinov2_vit_l16_imagenet2012.py", 1250, 0.0, 4e-3 * math.sqrt(2048 / 1024), 1e-6, 100, 10),
        ("swav_resnet50_imagenet2012.py:100", EPOCH, 0.3, 4.8, 0.0048, 100, 10),
        ("swav_resnet50_imagenet2012.py:800", EPOCH, 0.3, 4.8, 0.0048, 800, 10),
        ("swav_resnet50_imagenet2012.py:small", EPOCH, 0.0, 0.6, 0.0006, 200, 0),
    ],
)
def test_learning_rates_that_rise_by_linspace(params, trunk, name, epoch, start, peak, end, epochs, warmup):
    """`cosine_scheduler` of DINO, `CosineScheduler` of DINOv2, the schedule of SwAV.

    `linspace(start, peak, w)` reaches the peak in step w - 1 of the warm-up; ours begins at 0 and reaches it in step w.
    """
    recipe, w = read(name), warmup * epoch
    rise, fall = np.linspace(start, peak, w), half_cosine(peak, end, (epochs - warmup) * epoch)
    assert recipe.total == w + len(fall)
    ours = every(recipe.optimizer(params, lambda: layer_order(trunk)).learning_rate, recipe.total)
    np.testing.assert_allclose(ours[w:], fall, rtol=1e-5, atol=1e-6 * peak)
    np.testing.assert_allclose(ours[:w] * (w / (w - 1)) + np.linspace(start, 0, w), rise, rtol=1e-5, atol=1e-6 * peak)


@pytest.mark.parametrize(
    ("name", "peak", "epochs"),
    [
        ("simsiam_resnet50_imagenet2012.py:100", 0.05, 100),
        ("simsiam_resnet50_imagenet2012.py:800", 0.05, 800),
        ("moco_v2_resnet50_imagenet2012.py:200", 0.03, 200),
        ("moco_v2_resnet50_imagenet2012.py:800", 0.03, 800),
    ],
)
def test_learning_rates_that_the_authors_change_once_an_epoch(params, name, peak, epochs):
    """`adjust_learning_rate` of SimSiam and MoCo: ours is theirs in the first step of an epoch, and then goes on."""
    recipe, stairs = read(name), half_cosine(peak, 0.0, epochs)
    ours = every(recipe.optimizer(params).learning_rate, recipe.total).reshape(epochs, EPOCH)
    np.testing.assert_allclose(ours[:, 0], stairs, rtol=1e-5, atol=1e-6 * peak)
    assert np.all(np.abs(ours - stairs[:, None]) < peak * np.pi / 2 / epochs)


def test_learning_rate_of_moco_v1(params):
    """`--schedule 120 160` of MoCo's main_moco.py."""
    recipe = read("moco_v2_resnet50_imagenet2012.py:v1")
    theirs = 0.03 * np.repeat([1.0, 0.1, 0.01], np.multiply([120, 40, 40], EPOCH))
    np.testing.assert_allclose(every(recipe.optimizer(params).learning_rate, recipe.total), theirs, rtol=1e-5)


def test_rate_of_the_predictor_stays_in_simsiam(params, trunk):
    """`--fix-pred-lr` of the authors' main_simsiam.py."""
    recipe = read("simsiam_resnet50_imagenet2012.py:100")
    moved = rates(recipe, params, trunk, recipe.total)
    np.testing.assert_allclose(moved.pop("predictor/kernel"), 0.05, rtol=1e-6)
    for ours in moved.values():
        np.testing.assert_allclose(ours[::EPOCH], half_cosine(0.05, 0.0, 100), rtol=1e-5, atol=1e-7)


def test_rates_of_biases_in_barlow_twins(params, trunk):
    """`learning_rate_weights` and `learning_rate_biases` of the authors' main.py, the latter for vectors."""
    moved = rates(read("barlow_twins_resnet50_imagenet2012.py"), params, trunk, 10 * EPOCH + 1)
    for name, ours in moved.items():
        if name.endswith(("kernel", "bias", "scale")):
            base = 0.2 if name.endswith("kernel") else 0.0048
            np.testing.assert_allclose(ours[-1], base * 2048 / 256, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("name", "decay", "of_patches"),
    [
        ("mae_finetune_imagenet2012.py:b16", 0.65, 1.0),
        ("mae_finetune_imagenet2012.py:l16", 0.75, 1.0),
        ("dinov2_vit_l16_imagenet2012.py", 0.9, 0.2),
    ],
)
def test_rates_of_layers(params, trunk, name, decay, of_patches):
    """`param_groups_lrd` of MAE and `get_params_groups_with_decay` of DINOv2: layer 0 is all before the blocks."""
    recipe = read(name)
    moved = rates(recipe, params, trunk, 1, schedule="constant", warmup=0, freeze=())
    for name, (ours,) in moved.items():
        first, *rest = name.split("/")
        layer = BLOCKS + 1
        if first in ("embedding", "pos_embedding", "cls"):
            layer = 0
        elif first == "encoder" and rest[0].startswith("block_"):
            layer = int(rest[0].removeprefix("block_")) + 1
        theirs = decay ** (BLOCKS + 1 - layer) * (of_patches if first == "embedding" else 1)
        rate = recipe.config["optimizer"]["learning_rate"]
        np.testing.assert_allclose(ours, rate * theirs, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("name", "part", "epoch", "steps"),
    [
        ("dino_vit_s16_imagenet2012.py:100", "last_layer", EPOCH, 2502),
        ("dinov2_vit_l16_imagenet2012.py", "last_layer", 1250, 1250),
        ("swav_resnet50_imagenet2012.py:100", "prototypes", EPOCH, 313),
        ("swav_resnet50_imagenet2012.py:small", "prototypes", EPOCH, 5005),
    ],
)
def test_what_is_frozen_in_the_first_epoch(params, trunk, name, part, epoch, steps):
    """`--freeze_last_layer 1` of DINO, `freeze_last_layer_epochs: 1` of DINOv2, `--freeze_prototypes_niters` of SwAV.

    `steps` is the number for ImageNet: of the first two from the batch, of SwAV as in the authors' scripts.
    """
    recipe = read(name)
    moved = rates(recipe, params, trunk, epoch + 3)
    (ours,) = (x for path, x in moved.items() if part in path)
    np.testing.assert_array_equal(ours[:epoch], 0)
    np.testing.assert_allclose(ours[epoch:], moved["predictor/kernel"][epoch:], rtol=1e-6)
    assert np.all(moved["predictor/kernel"][1:] > 0)
    imagenet = dict(batch_size=recipe.config["data"]["batch_size"], examples=1_281_167)
    assert durations.steps(recipe.config["optimizer"]["freeze"][0][1], **imagenet) == steps


@pytest.mark.parametrize(
    "name",
    ["dino_vit_s16_imagenet2012.py:100", "dino_vit_s16_imagenet2012.py:800", "dinov2_vit_l16_imagenet2012.py"],
)
def test_weight_decay_of_every_step(params, trunk, name):
    """`cosine_scheduler(0.04, 0.4, ...)` of DINO; DINOv2's default is the same."""
    recipe = read(name)
    ours = every(recipe.optimizer(params, lambda: layer_order(trunk)).weight_decay, recipe.total)
    np.testing.assert_allclose(ours, half_cosine(0.04, 0.4, recipe.total), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "overrides", "base"),
    [
        ("byol_resnet50_imagenet2012.py:1000", {}, 0.996),
        ("byol_shapes.py", {}, 0.97),
        ("dino_vit_s16_imagenet2012.py:100", {}, 0.996),
        ("dinov2_vit_l16_imagenet2012.py", {}, 0.992),
        ("dinov2_vit_l16_imagenet2012.py", {"task.momentum": 0.994}, 0.994),  # of the authors' vitl14.yaml
        ("moco_v3_resnet50_imagenet2012.py:100", {}, 0.99),
        ("moco_v3_resnet50_imagenet2012.py:1000", {}, 0.996),
        ("moco_v3_vit_imagenet2012.py:S", {}, 0.99),
    ],
)
def test_momentum_of_the_teacher_in_every_step(nin, name, overrides, base):
    """Grill et al. 2020 (BYOL), sec. 3.3: 1 - (1 - base) (cos(pi k / K) + 1) / 2.

    It is also `adjust_moco_momentum` of MoCo v3, with fractions of epochs, and `cosine_scheduler(base, 1, ...)` of DINO
    and DINOv2.
    """
    recipe = read(name, **overrides)
    plain = dict(steps=recipe.steps, centering="sinkhorn", patches=0.0) if "dino" in name else {}  # needs no rows
    task = recipe.task(nin, **plain)

    def stays(step):
        """What is left of a teacher of ones next to a network of zeros."""
        collections = {"params": {"w": 0.0}, "teacher": {"params": {"w": 1.0}}, "targets": {"centre": {}, "step": 0}}
        return task.after(After(step, collections, {}, jax.random.key(0)))["teacher"]["params"]["w"]

    theirs = half_cosine(base, 1.0, recipe.total)
    np.testing.assert_allclose(every(stays, recipe.total), theirs, rtol=0, atol=2e-7)


def temperatures(recipe, nin):
    """The teacher's temperature in every step, from the entropy of its targets.

    The two prototypes are one, so the target is softmax(-centre / temperature) for every image.
    """
    task = recipe.task(nin, steps=recipe.steps, prototypes=2, centering="centre", patches=0.0, koleo=0.0, hidden=8)
    batch = {"image": jax.random.normal(jax.random.key(1), (1, 2, 8, 8, 3))}
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    variables["teacher"]["params"]["projection"]["last_layer"]["kernel"] = jnp.ones((256, 2))
    centre = {"image": jnp.array([0.0, 0.05])}

    def entropy(step):
        collections = variables | {"targets": {"centre": centre, "step": step}}
        return task.loss(collections, batch, jax.random.key(0))[1][0]["teacher_entropy"]

    grid = np.linspace(0.03, 0.08, 100_001)
    first = 1 / (1 + np.exp(-0.05 / grid))
    return np.interp(every(entropy, recipe.total), -first * np.log(first) - (1 - first) * np.log(1 - first), grid)


def test_temperature_of_the_teacher_in_dinov2(nin):
    """`CosineScheduler` of DINOv2 with a warm-up that is all of it: `linspace(0.04, 0.07, w)`, then 0.07."""
    overrides = {"train.total": "50 epochs", "task.temperature_warmup": "30 epochs", "optimizer.warmup": 0}
    ours = temperatures(read("dinov2_vit_l16_imagenet2012.py", **overrides), nin)
    theirs = np.concatenate([np.linspace(0.04, 0.07, 30 * EPOCH), np.full(20 * EPOCH, 0.07)])
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)


def test_temperature_of_the_teacher_in_dino(nin):
    """`teacher_temp_schedule` of DINO: the line of 30 epochs is constant within each of them; ours goes on in it.

    They differ by at most one step of this line, 0.03 / 29, and are equal in its first and last step and afterwards.
    """
    ours = temperatures(read("dino_vit_s16_imagenet2012.py:300"), nin).reshape(300, EPOCH)
    theirs = np.concatenate([np.linspace(0.04, 0.07, 30), np.full(270, 0.07)])
    assert np.all(np.abs(ours - theirs[:, None]) < 0.03 / 29)
    np.testing.assert_allclose([ours[0, 0], ours[29, -1]], [0.04, 0.07], rtol=2e-5)
    np.testing.assert_allclose(ours[30:], 0.07, rtol=2e-5)


def test_temperature_of_the_teacher_in_short_runs_of_dino(nin):
    ours = temperatures(read("dino_vit_s16_imagenet2012.py:100"), nin)
    np.testing.assert_allclose(ours, 0.04, rtol=2e-5)
