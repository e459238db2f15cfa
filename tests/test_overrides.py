"""New values for keys of a config, whether or not its file spells them."""

import subprocess
import sys

import jax
import pytest
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import evals, models, tasks
from jaxvision.config import schema
from jaxvision.data import sources
from jaxvision.errors import UserError
from jaxvision.literals import Switch, Written
from jaxvision.optim import optimizers


def make_config():
    return ConfigDict(
        dict(
            data=dict(name="shapes", split="train", batch_size=16, options=dict(image_size=32)),
            model=dict(name="resnet", variant="8", width=0.25),
            task=dict(name="supervised", label_smoothing=0.1),
            optimizer=dict(name="sgd", learning_rate=0.1, momentum=0.9),
            train=dict(total="6 steps"),
            evals=dict(val=dict(name="classify", split="validation")),
        )
    )


def changed(*words):
    """What `--config.KEY=TEXT` for each word makes of the config, as a dict."""
    texts = dict(word.split("=", 1) for word in words)
    return configs.override(make_config(), {key: Written(text) for key, text in texts.items()}).to_dict()


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("train.ema=0.99", ("train", "ema"), 0.99),
        ("train.skip_spikes=true", ("train", "skip_spikes"), True),
        ("train.precision=bfloat16", ("train", "precision"), "bfloat16"),
        ("train.log_every=2 steps", ("train", "log_every"), "2 steps"),
        ("seed=3", ("seed",), 3),
        ("augment=flip_lr", ("augment",), "flip_lr"),
        ("data.fields=image,tokens", ("data", "fields"), ("image", "tokens")),
        ("data.image_size=(32, 48)", ("data", "image_size"), (32, 48)),
        ("data.options.label=color", ("data", "options", "label"), "color"),
        ("data.subset.per_class=5", ("data", "subset", "per_class"), 5),
        ("data.data_dir=None", ("data", "data_dir"), None),
        ("model.stem=imagenet", ("model", "stem"), "imagenet"),
        ("model.projection_layers=1", ("model", "projection_layers"), 1),
        ("optimizer.weight_decay=1", ("optimizer", "weight_decay"), 1.0),
        ("optimizer.nesterov=True", ("optimizer", "nesterov"), True),
        ("optimizer.warmup=5 percent", ("optimizer", "warmup"), "5 percent"),
        ("task.statistics=running", ("task", "statistics"), "running"),
        ("init.weights=runs/8", ("init", "weights"), "runs/8"),
        ("mesh.fsdp=2", ("mesh", "fsdp"), 2),
        ("evals.val.every=2 steps", ("evals", "val", "every"), "2 steps"),
        ("evals.val.options.image_size=48", ("evals", "val", "options", "image_size"), 48),
    ],
)
def test_a_key_that_the_file_does_not_spell(word, path, value):
    config = changed(word)
    for name in path:
        config = config[name]
    assert (config, type(config)) == (value, type(value))


def test_a_new_evaluation_has_its_name_among_the_changes():
    splits = ("evals.knn.split=validation", "evals.knn.train_split=train")
    config = changed("evals.knn.k=5,10", *splits, "evals.knn.name=knn")
    assert config["evals"]["knn"] == dict(name="knn", k=(5, 10), split="validation", train_split="train")
    with pytest.raises(UserError, match="no key 'evals.knn.split'.*A new entry needs its name, too: evals.knn.name"):
        changed("evals.knn.split=validation")
    with pytest.raises(UserError, match="no key 'evals.knn.kk'; did you mean 'evals.knn.k'"):
        changed("evals.knn.name=knn", "evals.knn.kk=5")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.emma=0.9"], "no key 'train.emma'; did you mean 'train.ema'.* Keys of train: ema, "),
        (["optimizer.lr=0.9"], "no key 'optimizer.lr'; did you mean 'optimizer.learning_rate'"),
        (["optimizer.b1=0.9"], "no key 'optimizer.b1'"),
        (["model.dropout=0.9"], "no key 'model.dropout'"),
        (["model.num_classes=10"], "no key 'model.num_classes'"),
        (["task.model=vit"], "no key 'task.model'"),
        (["optimiser.name=sgd"], "no key 'optimiser.name'; did you mean 'optimizer.name'"),
        (["epochs=3"], "no key 'epochs'; did you mean 'train.total'"),
        (["model.name=vitt"], "unknown model 'vitt'; did you mean 'vit'"),
        (["model.name=vit", "model.stem=cifar"], "no key 'model.stem'"),
        (["data.options.imagesize=8"], "no key 'data.options.imagesize'; did you mean 'data.options.image_size'"),
        (["train.total.x=1"], "no key 'train.total.x'"),
        (["train.ema=lots"], "--config.train.ema must be a number.* not 'lots'"),
        (["mesh.fsdp=1e3"], "--config.mesh.fsdp must be a whole number, not '1e3': write 1000"),
        (["model=vit"], "--config.model is a section, not 'vit': change the keys in it, as in --config.model.KEY"),
    ],
)
def test_what_nothing_takes_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        changed(*words)


def test_the_name_of_a_key_alone_is_a_truth_value():
    changes = {"train.skip_spikes": Switch("true"), "optimizer.nesterov": Switch("false")}
    config = configs.override(make_config(), changes)
    assert config.train.skip_spikes is True
    assert config.optimizer.nesterov is False


@pytest.mark.parametrize(
    ("key", "switch", "message"),
    [
        ("train.total", "true", "--config.train.total needs a value: write --config.train.total=VALUE, a text or a nu"),
        ("data.name", "true", "--config.data.name needs a value: write --config.data.name=VALUE, a text"),
        ("model.width", "true", "--config.model.width needs a value: write --config.model.width=VALUE, a number"),
        ("seed", "false", "--noconfig.seed turns a key off that is true or false, and this one is not: write --config"),
        ("model", "true", "--config.model is a section: change the keys in it, as in --config.model.KEY=VALUE"),
        ("model.widht", "true", "no key 'model.widht'; did you mean 'model.width'"),
    ],
)
def test_a_key_without_the_value_that_it_needs(key, switch, message):
    with pytest.raises(UserError, match=message):
        configs.override(make_config(), {key: Switch(switch)})


def test_what_a_new_name_does_not_take_is_left_out_with_a_line():
    lines = []
    changes = {"model.depth": 2, "model.name": "vit", "model.variant": "Ti/4", "optimizer.name": "adamw"}
    config = configs.override(make_config(), changes | {"optimizer.b1": 0.8}, lines.append)
    assert config.model.to_dict() == dict(name="vit", variant="Ti/4", depth=2, width=0.25)
    assert config.optimizer.to_dict() == dict(name="adamw", learning_rate=0.1, b1=0.8)
    assert lines == ["optimizer.name is now 'adamw', which takes no momentum: left out of the config: momentum=0.9"]
    folder = configs.override(make_config(), {"data.name": "folder"}, lines.append)
    assert folder.data.options.to_dict() == {}
    assert lines[1:] == ["data.name is now 'folder', which takes no options.image_size: left out of the config: "
                         "options.image_size=32"]  # fmt: skip


def test_a_number_has_the_type_that_the_new_name_asks_for():
    """The width of a ResNet is a factor, that of a ViT a number of channels."""
    model = changed("model.name=vit", "model.variant=Ti/4", "model.width=64")["model"]
    assert model == dict(name="vit", variant="Ti/4", width=64)
    assert type(model["width"]) is int
    assert type(changed("model.width=2")["model"]["width"]) is float


def test_the_same_name_and_a_whole_section_leave_all_as_it_is():
    lines = []
    assert configs.override(make_config(), {"model.name": "resnet"}, lines.append) == make_config()
    config = configs.override(make_config(), {"model.width": 1.0, "model": dict(name="vit")}, lines.append)
    assert config.model.to_dict() == dict(name="vit", width=1.0)
    assert lines == []


def test_sections_within_sections():
    config = make_config()
    config.model = dict(name="two_towers", image=dict(name="resnet"), text=dict(name="text_transformer"))
    changes = {"model.text.vocab_size": "300", "model.image.variant": "8", "model.scale": "5"}
    changed_config = configs.override(config, {key: Written(text) for key, text in changes.items()})
    assert changed_config.model.text.vocab_size == 300
    assert (changed_config.model.image.variant, changed_config.model.scale) == (8, 5.0)
    with pytest.raises(UserError, match="no key 'model.text.vocabsize'; did you mean 'model.text.vocab_size'"):
        configs.override(config, {"model.text.vocabsize": 3})
    distilled = configs.override(
        make_config(), {"task.name": "distill", "task.teacher.name": "resnet", "task.teacher.variant": Written("20")}
    )
    assert distilled.task.to_dict() == dict(name="distill", teacher=dict(name="resnet", variant=20))


def test_every_part_says_its_keys():
    """A section that names any built-in part has keys of known types, beside those that the program gives."""
    for kind, names in {
        "model": [*models.NAMES, *models.PAIR_NAMES],
        "task": tasks.TASKS,
        "optimizer": optimizers.OPTIMIZERS,
    }.items():
        for name in names:
            keys = schema.section_keys({kind: {"name": name}}, (kind,))
            assert "name" in keys
            assert not set(keys) & {"num_classes", "dtype", "model", "params", "total", "steps"}
    for name in evals.EVALUATORS:
        assert {"split", "every"} <= set(schema.section_keys({"evals": {"a": {"name": name}}}, ("evals", "a")))
    for name in sources.KINDS:
        keys = schema.section_keys({"data": {"name": name}}, ("data", "options"))
        assert (keys is None) == (name == "mixture")


def test_asking_for_keys_touches_no_device():
    """`jax.distributed.initialize` comes after the command line is read, and before any device is asked for."""
    code = """
from ml_collections import ConfigDict
from jaxvision import config
names = dict(data="shapes", model="vit", task="supervised", optimizer="sgd")
c = ConfigDict({kind: dict(name=name) for kind, name in names.items()} | dict(evals=dict(a=dict(name="knn"))))
keys = {"model.depth": 1, "task.loss": "x", "optimizer.momentum": 0.5, "evals.a.k": (1,), "data.options.text": "x"}
config.override(c, keys)
from jax._src import xla_bridge
assert not xla_bridge._backends
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert jax.devices()
