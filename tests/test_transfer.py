"""Runs that start from weights (`config.init`): what is loaded, replaced, resized, frozen; and what is refused."""

import json
import re

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxvision import experiment as experiments
from jaxvision import transfer
from jaxvision.commands import train
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.weights import folder
from jaxvision.train.checkpoint import Saved


@pytest.fixture(scope="module", autouse=True)
def shapes_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXVISION_DATA", str(tmp_path_factory.mktemp("shapes")))
        yield


RESNET = dict(name="resnet", variant="8", width=0.25)
VIT = dict(name="vit", variant="mu/8", depth=2, width=16, pool="token", posemb="learned")
EXACT = VIT | dict(gelu="exact")  # as timm's


def config(model=RESNET, size=32, steps=2, **sections):
    c = ConfigDict()
    c.seed = 0
    options = dict(image_size=32, train=64, validation=16, test=8)
    c.data = dict(name="shapes", options=options, split="train", batch_size=16, host=f"decode|resize({size})")
    c.augment = "normalize(0.5, 0.5)"
    c.model = dict(model)
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1, momentum=0.9)
    c.train = dict(total=f"{steps} steps", log_every="1 step", checkpoint_every="0 steps")
    c.update(sections)
    return c


@pytest.fixture(scope="module")
def donors(tmp_path_factory):
    """Where weights lie and what they are, by path: a finished run of a ResNet, a converted folder of a ViT."""
    root = tmp_path_factory.mktemp("donors")
    train.run_train(config(RESNET, seed=7), root / "resnet", quiet=True)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(experiments.build(config(VIT)).init).variables
    vit = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
    arrays = weights.export_weights(vit, "jaxvision", "vit")
    folder.save(root / "vit", arrays, {"model": VIT})
    return {"resnet": (root / "resnet", final(root / "resnet")), "vit": (root / "vit", arrays)}


def loaded(c):
    """The variables that a config starts from, by path, and the notes."""
    imported = experiments.build(c).load_pretrained()
    return weights.export_weights(imported.variables, "jaxvision", c.model.name), imported.notes


def start(c):
    """The state at step 0 of a config."""
    experiment = experiments.build(c)
    return experiment.initial_state(experiment.load_pretrained())


def final(workdir):
    return Saved(workdir).variables()


def after_a_step(c):
    """The variables after one update on noise, by path."""
    experiment = experiments.build(c)
    state = experiment.initial_state(experiment.load_pretrained())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, experiment.batch["image"].shape, np.uint8)
    batch = {"image": images, "label": np.arange(16, dtype=np.int32) % 10, "mask": np.ones(16, bool)}
    state, _ = jax.jit(experiment.step())(jax.device_get(state), batch)
    return weights.export_weights(state.variables, "jaxvision", c.model.name)


def test_a_run_starts_from_the_weights_of_another(donors):
    workdir, donated = donors["resnet"]
    variables, notes = loaded(config(init=dict(weights=str(workdir))))
    assert variables.keys() == donated.keys()
    assert "batch_stats/stem_norm/mean" in variables
    for name, array in donated.items():
        np.testing.assert_array_equal(variables[name], array)
    assert len(notes) == 1
    count = len(donated)
    assert re.fullmatch(rf"init: {count} of {count} arrays, [\d,]+ numbers, from .*resnet \(jaxvision\)", notes[0])


def test_a_deep_net_starts_from_a_shallower_one(tmp_path):
    """Simonyan & Zisserman 2015, sec. 3.1: the layers that the shallow one has are copied, the others are fresh."""
    net = lambda between, head: dict(name="cnn", layers=f"conv(4)|norm|relu|pool{between}|global_pool|dense(8){head}")
    shallow, extra = net("", "|relu"), "|conv(4, name='extra')|relu"
    shapes = jax.eval_shape(experiments.build(config(shallow)).init).variables
    rng = np.random.default_rng(0)
    arrays = weights.export_weights(
        jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes), "jaxvision", "cnn"
    )
    folder.save(tmp_path / "shallow", arrays, {"model": shallow})
    deep = net(extra, "|relu")
    init = dict(weights=str(tmp_path / "shallow"), new=("extra", "head/"))
    state = start(config(deep, init=init))
    mine = weights.export_weights(state.variables, "jaxvision", "cnn")
    fresh = weights.export_weights(experiments.build(config(deep)).initial_state().variables, "jaxvision", "cnn")
    new = {"params/extra/kernel", "params/extra/bias", "params/head/kernel", "params/head/bias"}
    assert new <= set(mine)
    for name, array in mine.items():
        np.testing.assert_array_equal(array, fresh[name] if name in new else arrays[name])
    assert not np.array_equal(mine["params/head/kernel"], arrays["params/head/kernel"])
    note = "init: new, not from the weights: params/extra/bias, params/extra/kernel, params/head/bias, "
    assert any(line.startswith(note) for line in loaded(config(deep, init=init))[1])
    with pytest.raises(UserError, match="init.new: 'extar' matches no parameter; they are batch_stats/norm1/mean, "):
        loaded(config(deep, init=init | dict(new=("extar",))))
    with pytest.raises(UserError, match="'\\(' is no regular expression"):
        loaded(config(deep, init=init | dict(new=("(",))))
    with pytest.raises(UserError, match="params/extra/kernel"):  # without `new` they are missing
        loaded(config(deep, init=init | dict(new=())))


def test_copied_layers_are_bit_equal_a_new_head_is_fresh_and_the_average_starts_there_too(donors):
    workdir, donated = donors["resnet"]
    c = config(init=dict(weights=str(workdir), head="new"))
    c.train.ema = 0.9
    state = start(c)
    variables = weights.export_weights(state.variables, "jaxvision", "resnet")
    fresh = experiments.build(config()).initial_state().params["head"]["kernel"]
    np.testing.assert_array_equal(variables["params/head/kernel"], fresh)
    assert not np.array_equal(fresh, donated["params/head/kernel"])
    assert all(np.array_equal(variables[k], x) for k, x in donated.items() if "head" not in k)
    jax.tree.map(np.testing.assert_array_equal, state.ema, state.variables)


def test_another_image_size_resizes_the_positions_and_says_so(donors):
    variables, notes = loaded(config(VIT, size=48, init=dict(weights=str(donors["vit"][0]), model="vit:mu/8")))
    assert variables["params/pos_embedding"].shape == (1, 37, 16)
    np.testing.assert_array_equal(variables["params/cls"], donors["vit"][1]["params/cls"])
    assert "init: positions: 4x4 resized to 6x6, bicubic" in notes


def test_a_foreign_file_with_a_prefix_and_two_sets_of_weights(donors, tmp_path):
    """As checkpoints of timm are; without its name, the source is told."""
    filled = jax.tree.unflatten(
        jax.tree.structure(jax.eval_shape(experiments.build(config(VIT)).init).variables),
        list(donors["vit"][1].values()),
    )
    arrays = weights.export_weights(filled, "timm", "vit")
    both = {f"state_dict.{name}": x + 1 for name, x in arrays.items()}
    both |= {f"state_dict_ema.module.{name}": x for name, x in arrays.items()}
    path = tmp_path / "last.ckpt"
    weights.write(path, both)
    variables, notes = loaded(config(EXACT, init=dict(weights=str(path), source="timm")))
    assert all(np.array_equal(variables[name], x) for name, x in donors["vit"][1].items())
    assert any(note.startswith("init: names: 'state_dict_ema.module.' removed from") for note in notes)
    variables, _ = loaded(config(EXACT, init=dict(weights=str(path), source="timm", prefix="state_dict")))
    assert all(np.array_equal(variables[name], x + 1) for name, x in donors["vit"][1].items())
    with pytest.raises(UserError, match="names are as 'timm' writes them"):
        loaded(config(EXACT, init=dict(weights=str(path))))
    path.write_bytes(b"<html>")
    with pytest.raises(UserError, match="last.ckpt: it is a web page"):
        loaded(config(EXACT, init=dict(weights=str(path), source="timm")))


def test_a_foreign_file_needs_its_source(donors, tmp_path):
    arrays = {"cls_token": donors["vit"][1]["params/cls"]}
    weights.write(tmp_path / "vit.safetensors", arrays)
    with pytest.raises(UserError, match=r"read as 'timm', .*\d+ missing, 0 misshapen, 0 surplus"):
        loaded(config(VIT, init=dict(weights=str(tmp_path / "vit.safetensors"), source="timm")))
    with pytest.raises(UserError, match=r"read as 'jaxvision', .*\d+ missing, 0 misshapen, 1 surplus"):
        loaded(config(VIT, init=dict(weights=str(tmp_path / "vit.safetensors"))))


def test_frozen_arrays_are_bit_equal_after_training_and_only_the_head_has_a_moment(donors):
    workdir, donated = donors["resnet"]
    c = config(init=dict(weights=str(workdir), head="new", freeze="backbone"))
    trained = after_a_step(c)
    frozen = [name for name in trained if "head" not in name]
    assert any("batch_stats" in name for name in frozen)
    assert all(np.array_equal(trained[name], donated[name]) for name in frozen)
    assert not np.array_equal(trained["params/head/kernel"], donated["params/head/kernel"])
    moments = sorted(x.shape for x in jax.tree.leaves(experiments.build(c).abstract_state().opt_state) if x.shape)
    assert moments == sorted(trained[f"params/head/{leaf}"].shape for leaf in ("bias", "kernel"))


def test_the_last_stage_is_trained_and_those_before_are_not(donors):
    workdir, donated = donors["resnet"]
    trained = after_a_step(config(init=dict(weights=str(workdir), freeze="all_but_last(1)")))
    changed = {name for name, x in trained.items() if not np.array_equal(x, donated[name])}
    assert all(re.match("params/(stage3|head)/", name) for name in changed)
    assert {"params/stage3/block1/conv1/kernel", "params/head/bias"} <= changed


def test_batch_statistics_can_be_asked_for_beside_frozen_layers(donors):
    workdir, donated = donors["resnet"]
    c = config(init=dict(weights=str(workdir), freeze="backbone"))
    c.task.statistics = "batch"
    mean = "batch_stats/stem_norm/mean"
    assert not np.array_equal(after_a_step(c)[mean], donated[mean])


def test_a_run_goes_on_from_its_own_checkpoint_not_from_the_weights(donors, tmp_path):
    folder.save(tmp_path / "out", donors["resnet"][1], {"model": RESNET})
    c = config(steps=3, init=dict(weights=str(tmp_path / "out")))
    unbroken = train.run_train(c, tmp_path / "unbroken", quiet=True)
    with pytest.raises(Exception, match="stopped by request"):
        train.run_train(c, tmp_path / "run", stop_after=1, quiet=True)
    (tmp_path / "out" / "weights.safetensors").unlink()
    assert train.run_train(c, tmp_path / "run", quiet=True) == unbroken
    a, b = final(tmp_path / "run"), final(tmp_path / "unbroken")
    assert all(np.array_equal(a[name], b[name]) for name in b)
    launches = json.loads((tmp_path / "run" / "run.json").read_text())["launches"]
    assert [bool(launch["init"]) for launch in launches] == [True, False]


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (dict(weights="nowhere"), "nowhere is neither a folder of converted weights nor the workdir of a run"),
        (dict(weights="w.pth", source="timm"), "no file of weights 'w.pth'"),
        (dict(weights="w.safetensors", source="tim"), "unknown value of init.source 'tim'; did you mean 'timm'"),
        (dict(weights="x", head="neww"), "unknown value of init.head 'neww'; did you mean 'new'"),
        (dict(weights="x", model="vit:B/16"), "init.model is 'vit:B/16', but config.model is resnet:8"),
        (dict(weights="x", haed="new"), "unknown config key 'init.haed'; did you mean 'head'"),
        (dict(head="new"), "the config has no 'init.weights', which is required"),
        (dict(weights="x", freeze="backbon"), "unknown value of init.freeze 'backbon'; did you mean 'backbone'"),
        (dict(weights="x", freeze="all_but_last(9)"), "freezes nothing"),
    ],
)
def test_mistakes_are_named_before_the_workdir_is_made(init, message, tmp_path):
    with pytest.raises(UserError) as error:
        train.run_train(config(init=init), tmp_path / "run", quiet=True)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_model_or_shape_are_refused(donors):
    with pytest.raises(UserError, match="holds weights of the model 'vit', not 'resnet'"):
        loaded(config(init=dict(weights=str(donors["vit"][0]))))
    wider = RESNET | dict(width=0.5)
    with pytest.raises(UserError, match=r"0 missing, \d+ misshapen, 0 surplus"):
        loaded(config(wider, init=dict(weights=str(donors["resnet"][0]))))
    frozen = config(init=dict(weights="x", freeze="backbone"))
    frozen.optimizer.freeze = ((".*", False),)
    with pytest.raises(UserError, match="init.freeze and optimizer.freeze exclude each other"):
        experiments.build(frozen)


def test_open_own_knows_model_and_preprocessing(donors):
    arrays, meta = transfer.open_own(donors["resnet"][0])
    assert arrays.keys() == donors["resnet"][1].keys()
    assert meta["model"] == RESNET
    assert meta["preprocessing"] == {"host": "decode|resize(32)", "augment": "normalize(0.5, 0.5)"}


@pytest.mark.parametrize(
    ("source", "property_", "ours", "theirs"),
    [
        ({}, "gelu", "tanh", "exact"),
        (dict(gelu="exact"), "norm_epsilon", 1e-6, 1e-5),
    ],
)
def test_a_model_that_computes_something_else_than_its_weights_is_refused(source, property_, ours, theirs, tmp_path):
    """All arrays fit, and nothing but `property_` differs."""
    trained = VIT | dict(gelu="exact", norm_epsilon=1e-6) | {property_: theirs}
    shapes = jax.eval_shape(experiments.build(config(trained)).init).variables
    arrays = weights.export_weights(jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes), "jaxvision", "vit")
    folder.save(tmp_path / "out", arrays, {"model": trained})
    init = dict(weights=str(tmp_path / "out"))
    message = rf"{property_}: .*out computes {theirs!r} .*the model here {ours!r}.*{property_} = "
    with pytest.raises(UserError, match=message):
        loaded(config(VIT | source, init=init))
    loaded(config(trained, init=init))
    _, notes = loaded(config(VIT | source | {property_: ours}, init=init))  # the section says so itself
    assert any(f"NOTE: {property_}={ours!r} as you set it" in note and repr(theirs) in note for note in notes)


def test_a_foreign_file_starts_no_model_that_computes_something_else(donors, tmp_path):
    shapes = jax.eval_shape(experiments.build(config(VIT)).init).variables
    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    weights.write(tmp_path / "vit.safetensors", weights.export_weights(variables, "timm", "vit"))
    init = dict(weights=str(tmp_path / "vit.safetensors"), source="timm")
    with pytest.raises(UserError, match=r"gelu: .*computes 'exact' .*here 'tanh'.*config.model.gelu = 'exact'"):
        loaded(config(VIT, init=init))
    loaded(config(VIT | dict(gelu="exact"), init=init))
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_small_patch16_clip_quickgelu_224"}))
    with pytest.raises(UserError, match=r"norm_epsilon: .*computes 1e-05 \(architecture vit_small_patch16_clip_quick"):
        loaded(config(VIT | dict(gelu="exact"), init=init))
    _, notes = loaded(config(VIT | dict(gelu="exact", norm_epsilon=1e-5), init=init))
    assert any("NOTE: gelu='exact' as you set it" in note and "computes 'quick'" in note for note in notes)


def test_zero_channels_lie_where_the_weights_had_them(donors, tmp_path):
    folder.save(tmp_path / "out", donors["resnet"][1], {"model": RESNET | dict(shortcut="zeros_centred")})
    init = dict(weights=str(tmp_path / "out"))
    with pytest.raises(UserError, match=r"shortcut: .*computes 'zeros_centred' .*the model here 'A'"):
        loaded(config(RESNET, init=init))
    _, notes = loaded(config(RESNET | dict(shortcut="A"), init=init))
    assert any("NOTE: shortcut='A' as you set it" in note for note in notes)
