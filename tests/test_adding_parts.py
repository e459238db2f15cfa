"""A part of each kind is added by one file in one folder, as the table of docs/architecture.md says."""

import importlib
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxvision import augment, evals, explain, launch, loggers, losses, models, tasks
from jaxvision.augment import ops
from jaxvision.data import host_ops, sources, text
from jaxvision.data.text.registry import TOKENIZERS
from jaxvision.launch import LAUNCHERS
from jaxvision.optim import optimizers

ROOT = Path(__file__).parents[1]
PART = "from jaxvision.registry import part\n"
MODEL = """
import flax.linen as nn


class Flat(nn.Module):
    num_classes: int | None

    @nn.compact
    def __call__(self, images, train=False):
        features = images.reshape(len(images), -1)
        return features, {"logits": nn.Dense(self.num_classes)(features)}


@part("model", small={"scale": 2})
def flat(*, num_classes, dtype, scale: int = 1):
    return Flat(num_classes)
"""


def use_model():
    module = models.build("flat", 3, **models.NAMES.small("flat"))
    return module.init_with_output(jax.random.key(0), jnp.ones((2, 4, 4, 3)))[0][1]["logits"].shape == (2, 3)


def use_task():
    task = tasks.get_task("constant")(model=None, value=3.0)
    return float(task.loss({}, {}, None)[0]) == 3.0


def use_optimizer():
    params = {"kernel": jnp.ones(2)}
    tx = optimizers.make_optimizer(name="halved", learning_rate=1.0, params=params, total=1, steps=int).tx
    return float(optax.apply_updates(params, tx.update(params, tx.init(params), params)[0])["kernel"][0]) == 0.5


def use_host_operation():
    image = np.full((2, 2, 3), 4, np.uint8)
    return host_ops.make_chain("half")({"image": image}, None)["image"].max() == 2


def use_augmentation():
    batch = {"image": jnp.full((1, 2, 2, 3), 0.25), "label": jnp.zeros(1, jnp.int32)}
    return float(augment.make_augmentation("twice")(jax.random.key(0), batch)["image"].max()) == 0.5


# Of each kind: the package in whose folder the file is put, the file, its name, the names that there are, and a use.
KINDS = {
    "model": ("jaxvision.models", PART + MODEL, "flat", models.NAMES, use_model),
    "task": (
        "jaxvision.tasks",
        PART + "from jaxvision.tasks.task import Task\n\n\n@part('task')\ndef constant(*, model, value: float = 1.0):\n"
        "    return Task(None, lambda variables, batch, rng: (value, ({}, {})), None)\n",
        "constant",
        tasks.TASKS,
        use_task,
    ),
    "loss": (
        "jaxvision.losses",
        PART + "\n\n@part('loss')\ndef distance(logits, labels):\n    return abs(logits[:, 0] - labels)\n",
        "distance",
        losses.LOSSES,
        lambda: losses.smoothed("distance", 0.0)(jnp.ones((1, 1)), jnp.zeros(1)).tolist() == [1.0],
    ),
    "data set": (
        "jaxvision.data.sources",
        PART + "from jaxvision.data.sources.base import Info, Source\n\n\n@part('data set')\nclass empty(Source):\n"
        "    def __init__(self, data_dir, split, fields, *, n: int = 1):\n"
        "        self.info = Info('empty', split, n, (), None)\n",
        "empty",
        sources.KINDS,
        lambda: sources.open_source("empty", "train", options={"n": 7}).info.num_examples == 7,
    ),
    "evaluator": (
        "jaxvision.evals",
        PART + "\n\n@part('evaluator')\ndef nothing(*, task, data):\n    return lambda variables: {'nothing': 0.0}\n",
        "nothing",
        evals.EVALUATORS,
        lambda: evals.get_evaluator("nothing")(task=None, data=None)({}) == {"nothing": 0.0},
    ),
    "optimizer": (
        "jaxvision.optim",
        PART + "import optax\n\n\n@part('optimizer')\ndef halved(parts):\n    return [optax.scale(0.5), parts.rate]\n",
        "halved",
        optimizers.OPTIMIZERS,
        use_optimizer,
    ),
    "augmentation": (
        "jaxvision.augment",
        "from jaxvision.augment.registry import ops\n\n\n@ops.register(examples=lambda side: ('twice',))\n"
        "def twice():\n    return lambda rng, batch: {**batch, 'image': 2 * batch['image']}\n",
        "twice",
        ops,
        use_augmentation,
    ),
    "host operation": (
        "jaxvision.data.host_ops",
        "from jaxvision.data.host_ops.base import host_ops\n\n\n@host_ops.register()\n"
        "def half():\n    return lambda example, rng: {**example, 'image': example['image'] // 2}\n",
        "half",
        host_ops.host_ops,
        use_host_operation,
    ),
    "tokenizer": (
        "jaxvision.data.text",
        PART + "from jaxvision.data.text.tokenizer import Tokenizer\n\n\n@part('tokenizer')\nclass ones(Tokenizer):\n"
        "    vocabulary = 2\n\n    def pieces(self, text):\n        return [1] * len(text)\n",
        "ones",
        TOKENIZERS,
        lambda: text.make_tokenizer("ones", length=4)("ab").tolist() == [[1, 1, 0, 0]],
    ),
    "launcher": (
        "jaxvision.launch",
        PART + "\n\n@part('launcher')\nclass nowhere:\n    def __init__(self, slots: int = 1):\n"
        "        self.slots = slots\n",
        "nowhere",
        LAUNCHERS,
        lambda: launch.make_launcher("nowhere(slots=3)").slots == 3,
    ),
    "logger": (
        "jaxvision.loggers",
        PART + "\n\n@part('logger')\ndef silent(*, run, level: int = 0):\n    return lambda event: None\n",
        "silent",
        loggers.LOGGERS,
        lambda: loggers.read_entries({"silent": {"level": 3}})[0].options == {"level": 3},
    ),
    "explanation": (
        "jaxvision.explain",
        PART + "from jaxvision.explain.base import Explanation\n\n\n@part('explanation')\n"
        "def words(subject, *, text: str = 'nothing'):\n    return Explanation('Words', text, [])\n",
        "words",
        explain.EXPLANATIONS,
        lambda: explain.get_explanation("words")(None, text="all").text == "all",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_built_in_part_is_one_file(kind, tmp_path, monkeypatch):
    package, file, name, built_in, use = KINDS[kind]
    names = lambda: set(getattr(built_in, "factories", built_in))
    before = names()
    assert name not in before
    (tmp_path / "brand_new.py").write_text(file)
    module = importlib.import_module(package)
    monkeypatch.setattr(module, "__path__", [*module.__path__, str(tmp_path)])
    for attribute, value in {"_factories": None, "_walked": False}.items():
        if hasattr(built_in, attribute):
            monkeypatch.setattr(built_in, attribute, value)
    try:
        assert names() == before | {name}
        assert use()
    finally:
        sys.modules.pop(f"{package}.brand_new", None)
        vars(module).pop("brand_new", None)
        getattr(built_in, "_built_in", {}).pop(name, None)


def test_the_table_names_a_folder_for_each_kind():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| ([a-z ]+) \| `(jaxvision/[\w/]+/)`", page[page.index("## What to touch") :], re.MULTILINE)
    assert dict(rows) == {kind: KINDS[kind][0].replace(".", "/") + "/" for kind in KINDS}
    assert all((ROOT / folder).is_dir() for _, folder in rows)
