"""A probe trains its classifier and nothing else, and does what the supervised task does with it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import paths
from jaxvision.errors import UserError
from jaxvision.losses.classification import softmax_cross_entropy
from jaxvision.models import weights
from jaxvision.optim import optimizers
from jaxvision.tasks import probe, rotation, supervised


@pytest.fixture(scope="module")
def batch(scenes):
    return {**scenes, "label": jnp.arange(8) % 3}


def test_loss_is_that_of_the_classifiers_logits(batch, nin, random_variables):
    make = partial(probe.make_probe, model=nin, num_classes=3, layer="stages/0", label_smoothing=0.1)
    task = make(statistics="running")
    variables = random_variables(task.init, batch)
    loss, (metrics, _) = jax.jit(task.loss)(variables, batch, jax.random.key(1))
    logits = jax.jit(task.outputs)(variables, batch)["logits"]
    np.testing.assert_allclose(loss, softmax_cross_entropy(logits, batch["label"], 0.1).mean(), rtol=1e-5)
    assert set(metrics) == {"top1"}
    assert jax.jit(make().loss)(variables, batch, jax.random.key(1))[0] != loss


@pytest.mark.parametrize(("classifier", "norm"), [("linear", False), ("linear", True), ("mlp", False), ("conv", False)])
def test_the_backbone_stays_bit_for_bit(batch, nin, classifier, norm, random_variables):
    """With `init.freeze="backbone"`, which freezes all but the head and sets `statistics`, weight decay and all."""
    task = probe.make_probe(
        model=nin, num_classes=3, layer="stages/1", classifier=classifier, hidden=5, norm=norm, statistics="running"
    )
    first = random_variables(task.init, batch)
    tx = optimizers.make_optimizer(
        name="sgd",
        learning_rate=0.1,
        weight_decay=0.1,
        decay_rules=((".*", 1.0),),
        params=first["params"],
        total=3,
        steps=int,
        freeze=(("^head/", False), (".*", True)),
    ).tx

    @jax.jit
    def step(variables, state):
        loss = lambda params: task.loss({**variables, "params": params}, batch, jax.random.key(1))
        (value, (_, updates)), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        moves, state = tx.update(grads, state, variables["params"])
        return {"params": optax.apply_updates(variables["params"], moves), **updates}, state, value

    variables, state, values = first, tx.init(first["params"]), []
    for _ in range(3):
        variables, state, value = step(variables, state)
        values.append(value)
    assert values[-1] < values[0]
    for collection in variables:
        same = jax.tree.map(np.array_equal, first[collection], variables[collection])
        assert not all(jax.tree.leaves(same.pop("head", False)))
        assert all(jax.tree.leaves(same))


def test_weights_of_a_rotation_run_fill_all_but_the_classifier(batch, nin, random_variables):
    """And those of a probe a new supervised run: with `init.head="new"` nothing of either head is asked for or used."""

    def start(task, arrays):
        shapes = jax.eval_shape(task.init, jax.random.key(0), batch)
        fresh = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        imported = weights.import_weights(arrays, "jaxvision", "nin", fresh, head="new")
        return dict(zip(paths.names(fresh), jax.tree.leaves(imported.variables)))

    of_rotation = random_variables(rotation.make_rotation(model=nin).init, batch)
    of_rotation = dict(zip(paths.names(of_rotation), jax.tree.leaves(of_rotation)))
    probed = start(
        probe.make_probe(model=nin, num_classes=3, layer="stages/1", classifier="conv", hidden=4), of_rotation
    )
    again = start(supervised.make_supervised(model=nin, num_classes=3), probed)
    for arrays in (probed, again):
        backbone = {name for name in arrays if "head" not in name}
        assert backbone == {name for name in of_rotation if "head" not in name}
        assert all(np.array_equal(arrays[name], of_rotation[name]) for name in backbone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(classifier="cnn"), "unknown value of task.classifier 'cnn'"),
        (dict(hidden=0), "task.hidden must be"),
        (dict(classifier="conv", norm=True), "task.norm is for the classifier 'linear'; 'conv' has BatchNorm"),
        (dict(statistics="runing"), "did you mean 'running'"),
        (dict(num_classes=None), "names no classes"),
    ],
)
def test_mistakes_are_named(nin, options, message):
    with pytest.raises(UserError, match=message):
        probe.make_probe(**{"model": nin, "num_classes": 3, **options})
