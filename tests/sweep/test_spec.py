"""Sweep files: what is read, and every mistake that is named before anything runs."""

from pathlib import Path

import numpy as np
import pytest

from jaxvision import config as configs
from jaxvision import experiment
from jaxvision.errors import UserError
from jaxvision.sweep import Sweep, choice, grid, integers, log_uniform, spec, uniform, when

ROOT = Path(__file__).parents[2]
CONFIG = """
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

def get_config(arg="8"):
    c = ConfigDict()
    c.seed = 0
    sizes = dict(image_size=32, train=80, validation=24, test=8)
    c.data = dict(name="shapes", options=sizes, split="train", batch_size=16, data_dir=placeholder(str), subset=None,
                  classes=10, examples=80, image_size=32)
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="resnet", variant=arg, width=0.25)
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1, momentum=0.9)
    c.train = dict(total="6 steps")
    c.evals = dict(val=dict(name="classify", split="validation"))
    return c
"""
RATE = {"optimizer.learning_rate": log_uniform(1e-4, 1)}


@pytest.fixture
def config(tmp_path):
    (tmp_path / "tiny.py").write_text(CONFIG)
    return f"{tmp_path}/tiny.py"


@pytest.fixture
def make(config):
    """`make(**fields)`: a checked sweep."""

    def made(**fields):
        sweep = Sweep(**{"config": config, "space": RATE, "trials": 4, **fields})
        spec.check(sweep)
        return sweep

    return made


@pytest.mark.parametrize("file", sorted(ROOT.glob("configs/sweeps/*.py")), ids=lambda file: file.stem)
def test_every_sweep_file_is_sound_and_says_how_to_run_it(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = spec.load(str(file))
    assert f"--sweep={file.relative_to(ROOT)}" in file.read_text()
    assert experiment.build(sweep.base(), training_data="ignored").total > 0


def test_a_file_may_take_an_argument(monkeypatch):
    monkeypatch.chdir(ROOT)
    sweep = spec.load("configs/sweeps/resnet_cifar10.py:/data/cifar10")
    assert sweep.base().data.data_dir == "/data/cifar10"
    assert sweep.base().data.name == "folder"


def test_a_run_has_the_values_of_its_point_and_of_all_points(make):
    sweep = make(space={**RATE, "train.total": "2 steps"}, seeds=(0, 5))
    config = sweep.config_of({"optimizer.learning_rate": 0.3}, 5)
    assert (config.optimizer.learning_rate, config.train.total, config.seed) == (0.3, "2 steps", 5)


def test_a_grid_has_as_many_trials_as_points(make):
    space = {"optimizer.learning_rate": grid(0.1, 0.2, 0.3), "model.variant": choice("8", "20")}
    assert make(space=space, search="grid", trials=None).budget == 6
    assert make(space=space, search="grid", trials=4).budget == 4
    assert make(trials=4).budget == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"space": {"optimizer.learning_rat": uniform(0, 1)}}, "did you mean 'optimizer.learning_rate'"),
        (
            {"space": {"data.batch_size": uniform(8, 64)}},
            "--config.data.batch_size must be a whole number of at least 1, not '8.0': write 8",
        ),
        ({"space": {"model.variant": choice(8, 20)}}, "cannot be 8: the command line reads it as '8'"),
        ({"space": {"data.subset": choice(1, 2)}}, r"subset must be a dict\(...\) or None, not '1'"),
        ({"space": {"optimizer.b1": uniform(0, 1)}}, "no key 'optimizer.b1'.* Keys of optimizer: .*momentum"),
        ({"space": {"seed": integers(0, 9)}}, "list them in `seeds`"),
        ({"space": {"train.total": "2 steps"}}, "holds no domain"),
        ({"space": {**RATE, "train.total": "5"}}, "train.total: the duration '5' has no unit: write '5 steps'"),
        (
            {"space": {**RATE, "augment": choice("flip_lr", "")}},
            "an empty text for 'augment'; 'none' is a spec without",
        ),
        ({"space": {**RATE, "train.total": 2}}, "train.total: the duration 2 has no unit"),
        ({"space": {"optimizer.momentum": when("optimizer.nam", "sgd", uniform(0, 1))}}, "no key before it"),
        (
            {
                "space": {
                    "optimizer.name": choice("sgd"),
                    "optimizer.momentum": when("optimizer.name", "sdg", grid(0.9)),
                }
            },
            "did you mean 'sgd'",
        ),
        ({"space": {**RATE, "optimizer.momentum": when("train.total", "x", grid(0.9)), "train.total": "x"}}, "no key"),
        ({"search": "grid"}, "use grid"),
        ({"search": "reinforce"}, "'reinforce' goes through listed values, but 'optimizer.learning_rate' is log"),
        ({"search": "ageing_evolution", "space": {"task.label_smoothing": uniform(0, 0.1)}}, "or take another search"),
        ({"search": "bayes"}, "unknown search 'bayes'"),
        ({"search": "random", "trials": None}, "set `trials` of the sweep"),
        ({"trials": 0}, "at least 1"),
        ({"direction": "maximise"}, "did you mean 'maximize'"),
        ({"objective": "val/loss"}, "set direction='minimize'"),
        ({"objective": "test/top1"}, "Choices: val/..."),
        ({"objective": "val"}, "unknown evaluation"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": (1, 1)}, "different"),
        ({"seeds": (0.5,)}, "whole numbers"),
        ({"pruning": "asha"}, "set evals.val.every"),
        ({"pruning": "assha"}, "did you mean 'asha'"),
        ({"config": "nowhere.py"}, "no config file"),
    ],
)
def test_a_mistake_is_named(make, fields, message):
    with pytest.raises(UserError, match=message):
        make(**fields)


def test_values_that_numpy_computed_are_plain(make):
    sweep = make(
        space={"optimizer.learning_rate": grid(*np.logspace(-2, 0, 3)), "data.batch_size": grid(*np.array([8, 16]))}
    )
    assert sweep.space["optimizer.learning_rate"] == grid(0.01, 0.1, 1.0)
    assert repr(sweep.space["data.batch_size"]) == "grid(8, 16)"


def test_a_key_that_is_empty_but_typed_can_be_searched_or_set(make):
    make(space={**RATE, "data.data_dir": "/data"})


def test_pruning_may_get_its_evaluations_from_the_space(make, config, tmp_path):
    (tmp_path / "tiny.py").write_text(CONFIG.replace('split="validation"', 'split="validation", every="0 steps"'))
    make(space={**RATE, "evals.val.every": "2 steps"}, pruning="asha")
    with pytest.raises(UserError, match="at the end only"):
        make(pruning="asha")


def test_a_value_that_no_experiment_takes_is_named_with_its_key(make):
    space = {"model.variant": choice("8", "9"), "optimizer.momentum": when("model.variant", "9", uniform(0, 0.9))}
    with pytest.raises(UserError, match="with model.variant='9': "):
        spec.check_experiments(make(space=space))
    assert spec.check_experiments(make(space={**RATE, "model.variant": choice("8", "20")})) == 6


def test_two_sweeps_differ_in_what_matters(make, config, tmp_path):
    old = spec.to_json(make())
    assert spec.differences(old, spec.to_json(make(trials=9))) == []
    assert spec.differences(old, spec.to_json(make(space={"optimizer.learning_rate": log_uniform(1e-3, 1)}))) == [
        "sweep.space: optimizer.learning_rate: log_uniform(0.0001, 1.0) -> log_uniform(0.001, 1.0)"
    ]
    (tmp_path / "tiny.py").write_text(CONFIG.replace("width=0.25", "width=0.5"))
    assert spec.differences(old, spec.to_json(make())) == ["config.model.width: 0.25 -> 0.5"]


def test_a_file_without_a_sweep_is_refused(tmp_path, config):
    for text, message in [("x = 1", "defines no get_sweep"), ("def get_sweep():\n    return {}", "must return")]:
        (tmp_path / "sweep.py").write_text(text)
        with pytest.raises(UserError, match=message):
            spec.load(f"{tmp_path}/sweep.py")
    with pytest.raises(UserError, match="takes no argument"):
        spec.load(f"{tmp_path}/sweep.py:8")
    with pytest.raises(UserError, match="no sweep file"):
        spec.load("nowhere.py")
    assert configs.load(config).model.variant == "8"


def test_the_objective_may_be_of_one_of_several_sets(make, tmp_path):
    sets = 'sets=dict(a=dict(split="validation"), b=dict(split="test"))'
    (tmp_path / "sets.py").write_text(CONFIG.replace('split="validation")', f"{sets})"))
    make(config=f"{tmp_path}/sets.py", objective="val/b/top1")
    with pytest.raises(UserError, match="Choices: val/a/..., val/b/..."):
        make(config=f"{tmp_path}/sets.py", objective="val/c/top1")


def test_the_runs_of_a_point_are_the_folds_of_a_cross_validation(make, config, tmp_path):
    """Each run trains without its fold and is judged on it, and a sweep without folds is saved as before."""
    plain, sweep = make(), make(folds=5, seeds=(0, 1, 2, 3, 4))
    for seed in sweep.seeds:
        made = sweep.config_of({"optimizer.learning_rate": 0.1}, seed)
        assert (made.seed, made.data.subset.to_dict()) == (seed, {"fold": f"{seed + 1}/5"})
        assert made.evals.val.split == "train"
        assert made.evals.val.subset.to_dict() == {"fold": f"{seed + 1}/5", "part": "held_out"}
    assert plain.config_of({}, 1).evals.val.split == "validation"
    assert "folds" not in spec.to_json(plain)["sweep"]
    assert spec.to_json(sweep)["sweep"]["folds"] == 5
    for fields, message in (
        (dict(folds=5), "needs the seeds 0 to 4"),
        (dict(folds=1), "at least 2, not 1"),
        (dict(folds="5"), "at least 2, not '5'"),
    ):
        with pytest.raises(UserError, match=message):
            make(**fields)
    (tmp_path / "sweep.py").write_text(
        f"from jaxvision.sweep import Sweep, grid\n\ndef get_sweep(arg=None):\n    return Sweep({config!r}, "
        "{'optimizer.learning_rate': grid(0.1, 0.2)}, search='grid', folds=3)\n"
    )
    assert spec.load(str(tmp_path / "sweep.py")).seeds == (0, 1, 2)
