"""The supervised task against its definition."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.losses.classification import softmax_cross_entropy
from jaxvision.tasks import get_task, supervised


def _model(num_classes):
    return models.build("resnet", num_classes, variant="8", width=0.25)


@pytest.fixture(scope="module")
def batch():
    image = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    return {"image": image, "label": jnp.array([0, 1, 2, 1]), "mask": jnp.ones(4, bool)}


def test_loss_is_the_mean_cross_entropy_in_training_mode(batch):
    task = supervised.make_supervised(model=_model, num_classes=3, label_smoothing=0.1)
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    variables["params"]["head"]["kernel"] = jax.random.normal(
        jax.random.key(5), variables["params"]["head"]["kernel"].shape
    )
    loss, (metrics, updates) = jax.jit(task.loss)(variables, batch, jax.random.key(2))
    apply = functools.partial(_model(3).apply, train=True, mutable=["batch_stats"])
    (_, out), stats = jax.jit(apply)(variables, batch["image"])
    want = softmax_cross_entropy(out["logits"], batch["label"], 0.1).mean()
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    np.testing.assert_allclose(metrics["top1"], np.mean(out["logits"].argmax(-1) == batch["label"]))
    chex.assert_trees_all_close(updates, stats, rtol=1e-5, atol=1e-8)  # XLA fuses the two programs differently


class WithAuxiliary(nn.Module):
    """Logits, and those of two auxiliary classifiers."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train=False):
        features = images.mean((1, 2))
        logits = [nn.Dense(self.num_classes, name=name)(features) for name in ("head", "aux1", "aux2")]
        return features, {"logits": logits[0], "aux_logits": tuple(logits[1:])}


def test_auxiliary_classifiers_add_their_loss(batch):
    task = supervised.make_supervised(model=WithAuxiliary, num_classes=3, aux_weight=0.5)
    variables = task.init(jax.random.key(0), batch)
    loss, _ = task.loss(variables, batch, jax.random.key(2))
    _, out = WithAuxiliary(3).apply(variables, batch["image"])
    cross_entropy = lambda logits: softmax_cross_entropy(logits, batch["label"], 0.0).mean()
    want = cross_entropy(out["logits"]) + 0.5 * sum(map(cross_entropy, out["aux_logits"]))
    np.testing.assert_allclose(loss, want, rtol=1e-6)


def test_running_statistics_give_the_logits_of_an_evaluation_and_stay(batch):
    task = supervised.make_supervised(model=_model, num_classes=3, statistics="running")
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    loss, (_, updates) = jax.jit(task.loss)(variables, batch, jax.random.key(2))
    want = softmax_cross_entropy(jax.jit(task.outputs)(variables, batch)["logits"], batch["label"], 0.0).mean()
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])


def test_soft_labels_count_their_largest_class(batch):
    task = supervised.make_supervised(model=_model, num_classes=3)
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    hard = jax.jit(task.loss)(variables, batch, jax.random.key(2))
    soft = jax.jit(task.loss)(variables, {**batch, "label": jax.nn.one_hot(batch["label"], 3)}, jax.random.key(2))
    np.testing.assert_allclose(hard[0], soft[0], rtol=1e-6)
    assert hard[1][0]["top1"] == soft[1][0]["top1"]


def test_outputs_leave_the_statistics_alone(batch):
    task = supervised.make_supervised(model=_model, num_classes=3)
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    out = jax.jit(task.outputs)(variables, batch)
    assert out["logits"].shape == (4, 3)
    assert out["features"].ndim == 2
    # With running statistics an example does not depend on the others of its batch.
    alone = jax.jit(task.outputs)(variables, {"image": batch["image"][:1]})
    np.testing.assert_allclose(out["features"][:1], alone["features"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_classes=None), "names no classes"),
        (dict(num_classes=3, statistics="runing"), "did you mean 'running'"),
        (dict(num_classes=3, label_smoothing=1.0), "label_smoothing must be a number in"),
        (dict(num_classes=3, aux_weight=-0.1), "task.aux_weight must be a number"),
        (dict(num_classes=3, loss="zero_one"), "unknown loss 'zero_one'"),
        (dict(num_classes=3, multi_label=True), "set task.loss to 'sigmoid_cross_entropy'"),
    ],
)
def test_errors(options, message):
    with pytest.raises(UserError, match=message):
        supervised.make_supervised(model=_model, **options)


def test_several_labels_are_right_at_any_of_them(batch):
    task = supervised.make_supervised(model=_model, num_classes=3, multi_label=True, loss="sigmoid_cross_entropy")
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    variables["params"]["head"]["bias"] = jnp.array([0.0, 100.0, 0.0])  # class 1 wins everywhere
    labels = jnp.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [0, 1, 0]], jnp.float32)
    _, (metrics, _) = jax.jit(task.loss)(variables, {**batch, "label": labels}, jax.random.key(2))
    assert metrics["top1"] == 0.75


def test_unknown_task():
    with pytest.raises(UserError, match="did you mean 'supervised'"):
        get_task("supervized")
