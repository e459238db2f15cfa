"""Towers that start from other weights, are locked, have rates of their own, and are taken out again."""

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from jaxvision import experiment as experiments
from jaxvision import paths
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.weights import folder

VIT = dict(name="vit", variant="mu/8", depth=1, width=16, pool="token", posemb="learned")
TEXT = dict(
    name="text_transformer", variant="mu", depth=1, width=16, num_heads=2, vocab_size=259, length=24, end_token=2
)
PAIR = dict(name="two_towers", image=VIT, text=TEXT, embedding=8)


@pytest.fixture(scope="module", autouse=True)
def shapes_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXVISION_DATA", str(tmp_path_factory.mktemp("shapes")))
        yield


def config(model=PAIR, task="image_text", **sections):
    c = ConfigDict()
    c.seed = 0
    options = dict(image_size=32, train=64, validation=16, test=8, text="caption")
    host = "decode|tokenize('bytes', 24, caption='first')" if task == "image_text" else "decode"
    fields = ("image", "tokens") if task == "image_text" else ("image", "label")
    c.data = dict(name="shapes", options=options, split="train", batch_size=16, host=host, fields=fields)
    c.augment = "normalize(0.5, 0.5)"
    c.model = dict(model)
    c.task = dict(name=task)
    c.optimizer = dict(name="adamw", learning_rate=0.1, weight_decay=0.1)
    c.train = dict(total="2 steps")
    c.update(sections)
    return c


def drawn(c):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(experiments.build(c).init).variables
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)


@pytest.fixture(scope="module")
def donors(tmp_path_factory):
    """Folders of a ViT with a head, and of both towers, and their arrays."""
    root = tmp_path_factory.mktemp("donors")
    donors_by_name = {}
    for name, c in {"vit": config(VIT, task="supervised"), "pair": config()}.items():
        arrays = weights.export_weights(drawn(c), "jaxvision", c.model.name)
        folder.save(root / name, arrays, {"model": c.model.to_dict()})
        donors_by_name[name] = root / name, arrays
    return donors_by_name


def start(c):
    experiment = experiments.build(c)
    state = experiment.initial_state(experiment.load_pretrained())
    return experiment, dict(zip(paths.names(state.variables), jax.tree.leaves(jax.device_get(state.variables))))


def lit(donors, **sections):
    path, arrays = donors["vit"]
    init = dict(weights=str(path), part="image_tower", head="drop")
    return config(init=init, task="image_text", **sections), arrays


def test_a_tower_starts_from_weights_of_its_backbone(donors):
    c, arrays = lit(donors)
    _, values = start(c)
    for name, x in arrays.items():
        if "/head/" not in name:
            np.testing.assert_array_equal(values[name.replace("params/", "params/image_tower/", 1)], x)
    fresh = start(config())[1]
    for name in ("params/image_tower/projection/kernel", "params/text_tower/pos_embedding", "params/logit_scale"):
        np.testing.assert_array_equal(values[name], fresh[name])


def test_a_locked_tower_is_bit_equal_after_a_step_and_has_no_moments(donors):
    c, _ = lit(donors)
    c.task.locked = ("image_tower",)
    experiment, before = start(c)
    state = experiment.initial_state(experiment.load_pretrained())
    moments = paths.names(optax.tree.get(state.opt_state, "mu"))
    assert moments
    assert not any(name.startswith("image_tower/") for name in moments)
    batch = {name: np.zeros(x.shape, x.dtype) for name, x in experiment.batch.items()}
    batch["image"] = np.random.default_rng(1).integers(0, 256, batch["image"].shape, np.uint8)
    batch["tokens"] = np.random.default_rng(2).integers(0, 259, batch["tokens"].shape, np.int32)
    after, _ = jax.jit(experiment.step())(state, batch)
    values = dict(zip(paths.names(after.params), jax.tree.leaves(after.params)))
    for name, x in values.items():
        if name.startswith("image_tower/"):
            np.testing.assert_array_equal(x, before[f"params/{name}"])
    kernel = "text_tower/projection/kernel"
    assert not np.array_equal(values[kernel], before[f"params/{kernel}"])


def test_both_towers_start_from_those_of_another_run(donors):
    path, arrays = donors["pair"]
    _, values = start(config(init=dict(weights=str(path))))
    for name, x in arrays.items():
        np.testing.assert_array_equal(values[name], x)


def test_the_image_tower_is_fine_tuned_as_a_classifier(donors):
    path, arrays = donors["pair"]
    c = config(VIT, task="supervised", init=dict(weights=str(path), head="new"))
    experiment, values = start(c)
    block = "encoder/block_00/mlp/dense_0/kernel"
    np.testing.assert_array_equal(values[f"params/{block}"], arrays[f"params/image_tower/{block}"])
    assert any("projection" in note for note in experiment.load_pretrained().notes)
    assert "params/head/kernel" in values


def test_each_tower_has_its_own_rate():
    rules = ((r"^image_tower/", 0.1), (r".*", 1.0))
    c = config()
    c.optimizer = dict(name="sgd", momentum=0.0, learning_rate=1.0, lr_rules=rules, layer_decay=0.5)
    experiment = experiments.build(c)
    params = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), experiment.params)
    updates, _ = experiment.optimizer.tx.update(params, experiment.optimizer.tx.init(params), params)
    rates = {name: -float(x.ravel()[0]) for name, x in zip(paths.names(updates), jax.tree.leaves(updates))}
    assert rates["text_tower/projection/kernel"] == pytest.approx(1)
    assert rates["image_tower/projection/kernel"] == pytest.approx(0.1)
    assert rates["image_tower/embedding/kernel"] == pytest.approx(0.1 * 0.25)
    assert rates["logit_scale"] == 1


def test_mistakes_are_named(donors):
    c, _ = lit(donors)
    c.init.part = "image"
    with pytest.raises(UserError, match="unknown value of init.part 'image'; did you mean 'image_tower'"):
        start(c)
    c, _ = lit(donors)
    c.init.freeze = "backbone"
    c.task.locked = ("image_tower",)
    with pytest.raises(UserError, match="init.freeze and task.locked exclude each other"):
        experiments.build(c)
