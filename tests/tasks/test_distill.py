"""Distillation: the loss by its definition, a teacher that stays, and weights that only it gets."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxvision import experiment as experiments
from jaxvision import models
from jaxvision.commands import train
from jaxvision.errors import UserError
from jaxvision.tasks import get_task
from jaxvision.train.checkpoint import Saved

STUDENT = partial(models.build, "nin", blocks=3, width=0.05)
TEACHER = dict(name="nin", blocks=3, width=0.1)


def make(num_classes=3, teacher=TEACHER, **options):
    return get_task("distill")(model=STUDENT, num_classes=num_classes, teacher=teacher, **options)


@pytest.fixture(scope="module")
def batch():
    return {"image": jax.random.normal(jax.random.key(1), (4, 8, 8, 3)), "label": jnp.array([0, 1, 2, 1])}


@pytest.fixture(scope="module")
def variables(batch, random_variables):
    return random_variables(make().init, batch)


@pytest.fixture(scope="module")
def logits(batch, variables):
    """Of the student, applied as in training, and of the teacher, as in evaluation."""
    mine = {name: x for name, x in variables.items() if name != "teacher"}
    in_training = partial(STUDENT(3).apply, train=True, mutable=["batch_stats"])
    (_, out), _ = jax.jit(in_training)(mine, batch["image"])
    _, theirs = jax.jit(models.build(**TEACHER, num_classes=3).apply)(variables["teacher"], batch["image"])
    return np.asarray(out["logits"], np.float64), np.asarray(theirs["logits"], np.float64)


@pytest.mark.parametrize(("temperature", "alpha"), [(0.1, 1.0), (2.0, 0.3)])
def test_the_loss_is_the_cross_entropy_under_the_teacher_and_the_labels(batch, variables, logits, temperature, alpha):
    task = make(temperature=temperature, alpha=alpha)
    seen = {"image": batch["image"]} if alpha == 1 else batch  # then no label is read
    loss, (metrics, _) = jax.jit(task.loss)(variables, seen, jax.random.key(2))
    student, expert = logits
    log_p = lambda logits: logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    distillation = -(np.exp(log_p(expert / temperature)) * log_p(student / temperature)).sum(1).mean()
    labelled = -log_p(student)[np.arange(4), batch["label"]].mean()
    np.testing.assert_allclose(loss, alpha * distillation + (1 - alpha) * labelled, rtol=1e-4)
    np.testing.assert_allclose(metrics["agreement"], np.mean(student.argmax(1) == expert.argmax(1)))


def test_outputs_are_those_of_the_student(batch, variables):
    out = jax.jit(make().outputs)(variables, batch)
    mine = {name: x for name, x in variables.items() if name != "teacher"}
    _, expected = jax.jit(STUDENT(3).apply)(mine, batch["image"])
    np.testing.assert_allclose(out["logits"], expected["logits"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_classes=None), "needs a data set with one class for each image"),
        (dict(multi_label=True), "needs a data set with one class for each image"),
        (dict(teacher=dict(variant="8")), "task.teacher must be a section like config.model"),
        (dict(teacher=dict(name="resnet", variannt="8")), "unknown option of model 'resnet' 'variannt'"),
        (dict(teacher=dict(name="resnet", variant="8", num_classes=3)), "'task.teacher.num_classes' is set by the"),
        (dict(temperature=-1.0), "task.temperature must be a number above 0"),
        (dict(alpha=1.5), r"task.alpha must be a number in \[0, 1\], not 1.5"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        make(**options)


def config(task, model, steps=2, **sections):
    c = ConfigDict()
    c.seed = 0
    c.data = dict(name="shapes", options=dict(train=32, validation=16, test=8), split="train", batch_size=16)
    c.augment = "normalize(0.5, 0.5)"
    c.model = dict(model)
    c.task = dict(task)
    c.optimizer = dict(name="sgd", learning_rate=0.1)
    c.train = dict(total=f"{steps} steps", checkpoint_every="0 steps", ema=0.5)
    c.update(sections)
    return c


def final(workdir):
    return Saved(workdir).variables()


@pytest.mark.slow
def test_the_way_from_pretraining_to_a_distilled_student(tmp_path, monkeypatch):
    """SimCLRv2 in small: pretrain, fine-tune from the first layer of the head, distil; each starts from the last."""
    monkeypatch.setenv("JAXVISION_DATA", str(tmp_path / "data"))
    model = dict(name="vit", variant="mu/16", depth=1, width=16)
    pretraining = config(dict(name="simclr", projection_layers=3), model, augment="views(2, 'flip_lr')")
    train.run_train(pretraining, tmp_path / "pretrained", quiet=True)

    middle = dict(model, projection_layers=1)
    init = dict(weights=str(tmp_path / "pretrained"), head="new")
    tuning = config(dict(name="supervised"), middle, init=init)
    pretrained, imported = final(tmp_path / "pretrained"), experiments.build(tuning).load_pretrained()
    kernel = imported.variables["params"]["projection"]["dense_0"]["kernel"]
    np.testing.assert_array_equal(kernel, pretrained["params/projection/dense_0/kernel"])
    assert any("9 arrays outside the model left out, such as" in note for note in imported.notes)
    train.run_train(tuning, tmp_path / "tuned", quiet=True)

    init = dict(weights=str(tmp_path / "tuned"), part="teacher")
    distilling = config(dict(name="distill", teacher=middle), model, init=init)
    train.run_train(distilling, tmp_path / "distilled", quiet=True)
    tuned, distilled = final(tmp_path / "tuned"), final(tmp_path / "distilled")
    for name, x in tuned.items():
        np.testing.assert_allclose(distilled[f"teacher/{name}"], x, rtol=1e-6)
    assert not np.array_equal(distilled["params/embedding/kernel"], tuned["params/embedding/kernel"])

    again = config(dict(name="supervised"), model, init=dict(weights=str(tmp_path / "distilled")))
    student = experiments.build(again).load_pretrained().variables
    np.testing.assert_array_equal(student["params"]["head"]["bias"], distilled["params/head/bias"])

    for part, message in ((None, "say with init.part which one"), ("techer", "did you mean 'teacher'")):
        init = dict(weights=str(tmp_path / "tuned"), part=part)
        wrong = config(dict(name="distill", teacher=middle), model, init=init)
        with pytest.raises(UserError, match=message):
            experiments.build(wrong).load_pretrained()
