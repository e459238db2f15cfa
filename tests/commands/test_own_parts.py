"""A run whose parts are all a user's own: trained, evaluated, used, moved away, and come by from a stranger."""

import json
import shutil
import sys

import pytest
from PIL import Image

from jaxvision import config as configs
from jaxvision import own_modules, scripts
from jaxvision.cli import failures
from jaxvision.commands import evaluate, predict, study, train
from jaxvision.errors import UserError
from jaxvision.train.checkpoint import Saved

PARTS = """
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.data import Info, Source
from jaxvision.data.host_ops import host_ops
from jaxvision.tasks import supervised


class Tiny(nn.Module):
    num_classes: int | None
    width: int

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.relu(nn.Conv(self.width, (3, 3), name="conv")(images))
        features = x.mean((1, 2))
        out = {"map": x}
        if self.num_classes is not None:
            out["logits"] = nn.Dense(self.num_classes, name="head")(features)
        return features, out


def tiny(*, num_classes, dtype, width: int = 8):
    return Tiny(num_classes, width)


class Stripes(Source):
    def __init__(self, data_dir, split, fields, *, n: int = 8):
        self.info = Info("stripes", split, n, ("down", "across"), 2)

    def __len__(self):
        return self.info.num_examples

    def __getitem__(self, index):
        image = np.zeros((8, 8, 3), np.uint8)
        image[(slice(None), slice(None, None, 2)) if index % 2 else slice(None, None, 2)] = 255
        return {"image": image, "label": index % 2}


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]


@host_ops.register(evaluation="")
def darker(by: int = 2):
    return lambda example, rng: {**example, "image": example["image"] // by}


def plain(*, model, num_classes, multi_label=False, loss: str = "parts_of_mine:cross_entropy"):
    return supervised.make_supervised(model=model, num_classes=num_classes, loss=loss)


def count(*, task, data, times: int = 1):
    return lambda variables: {"examples": float(times * len(data.source))}
"""
CONFIG = """
import parts_of_mine


def get_config():
    return dict(
        seed=0,
        data=dict(
            name="parts_of_mine:Stripes",
            split="train",
            batch_size=8,
            host="parts_of_mine:darker(3)",
            options=dict(n=16),
        ),
        augment="none",
        model=dict(name="parts_of_mine:tiny", width=2),
        task=dict(name="parts_of_mine:plain"),
        optimizer=dict(name="sgd", learning_rate=0.1),
        train=dict(total="2 steps"),
        evals=dict(
            val=dict(name="classify", split="train"),
            n=dict(name="parts_of_mine:count", split="train", times=2),
        ),
    )
"""
STUDY = """
import a_config
from ml_collections import ConfigDict
from jaxvision.commands.study import Run, config_of

PRESETS = ("quick",)


def runs(preset, data_dir):
    return [Run("only", ConfigDict(a_config.get_config()), {"width": 2})]


def get_config(arg):
    return config_of(arg, PRESETS, runs)


def analyse(rows, out, preset):
    return f"{len(rows)} run, {rows[0]['n/examples']:g} examples"
"""


@pytest.fixture
def project(own_folder):
    """A project outside the repository, with a config."""
    (own_folder / "project").mkdir()
    (own_folder / "project" / "parts_of_mine.py").write_text(PARTS)
    (own_folder / "project" / "a_config.py").write_text(CONFIG)
    return own_folder / "project"


def test_from_a_config_in_another_folder_to_a_stranger(project, own_folder, monkeypatch, capsys, tmp_path_factory):
    results = train.run_train(configs.load(str(project / "a_config.py")), "runs/a", quiet=True)
    assert results["n/examples"] == 32
    assert json.loads((own_folder / "runs/a/config.json").read_text())["model"] == {
        "name": "parts_of_mine:tiny",
        "width": 2,
    }
    file = str(project / "parts_of_mine.py")
    assert Saved(own_folder / "runs/a").meta()["own"] == {"parts_of_mine": file}

    metrics = evaluate.run_evaluate("runs/a")
    assert {name: value for name, value in metrics.items() if "examples" not in name} == pytest.approx(
        {name: value for name, value in results.items() if "examples" not in name}
    )
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("own code:")]
    assert len(lines) == 1
    assert lines[0].endswith(f", in {file}")
    assert all(f"parts_of_mine:{part}" in lines[0] for part in ("darker", "Stripes", "tiny", "plain", "count"))

    Image.new("RGB", (8, 8)).save(own_folder / "black.png")
    assert set(dict(predict.run_predict("runs/a", "black.png")["black.png"])) == {"down", "across"}

    # What a stranger gets: the folder, and the user's code in it, which is not run.
    received = tmp_path_factory.mktemp("received")
    shutil.copytree(own_folder / "runs/a", received / "a")
    shutil.copy(file, received / "a" / "parts_of_mine.py")
    monkeypatch.chdir(received / "a")
    forget(monkeypatch)
    with pytest.raises(UserError, match=f"The run was trained with {file}. Run the command in {project}, add"):
        evaluate.run_evaluate(".")


def forget(monkeypatch):
    """A new process: nothing is imported yet, and the config's folder is not known."""
    sys.modules.pop("parts_of_mine", None)
    monkeypatch.setattr(scripts, "folders", [])
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "project" not in place])


def test_a_module_in_the_workdir_is_refused_before_training(project, monkeypatch):
    with pytest.raises(UserError, match=r"parts_of_mine.py is in --workdir=.*import nothing from the folder of a run"):
        train.run_train(configs.load(str(project / "a_config.py")), project, quiet=True)


def test_a_study_is_named_by_its_path(project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "my_study").mkdir()
    (project / "my_study" / "study.py").write_text(STUDY)
    assert study.load_study(f"{project}/my_study").PRESETS == ("quick",)
    assert study.load_study(f"{project}/my_study/study.py").get_config("quick/only").model.width == 2
    with pytest.raises(UserError, match="a_config.py is not a study: it defines no PRESETS"):
        study.load_study(f"{project}/a_config.py")
    (project / "sized.py").write_text(STUDY.replace('PRESETS = ("quick",)', 'PRESETS = {"quick": 1}'))
    with pytest.raises(UserError, match=r"PRESETS of .*sized.py must be a tuple of names, .*not {'quick': 1}"):
        study.load_study(f"{project}/sized.py")


def test_an_error_in_the_users_code_is_not_called_a_fault_of_jaxvision(own_folder):
    (own_folder / "fragile.py").write_text("def op(x):\n    return x.no_such_thing\n")
    with pytest.raises(AttributeError) as caught:
        own_modules.load("host operation", "fragile:op")(1)
    line = failures.line(caught.value)
    assert line.endswith(f"raised in your own code, {own_folder / 'fragile.py'}:2 (return x.no_such_thing)")
