"""A run without parameters: the model `identity` in training, evaluation, search for neighbours and Python."""

import jax
import numpy as np
import pytest

import jaxvision
from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision.commands import evaluate, train
from jaxvision.errors import UserError


@pytest.fixture(scope="module")
def run(config_file, tmp_path_factory):
    """The workdir of a run of no steps, and its results."""
    workdir = tmp_path_factory.mktemp("runs") / "pixels"
    config = configs.load(str(config_file))
    config.model = dict(name="identity")
    config.train.total = "0 steps"
    config.evals.near = dict(name="knn", split="validation", train_split="train", k=(1,), distance="l2")
    return workdir, train.run_train(config, workdir, quiet=True)


def test_pixels_are_judged_and_nothing_is_trained(run):
    workdir, results = run
    assert 0.1 < results["near/knn1_l2/top1"] <= 1
    again = evaluate.run_evaluate(
        workdir,
        evals={
            "self": dict(name="knn", split="train", train_split="train", k=(1,), distance="l1"),
            "mean": dict(name="class_mean", split="validation", train_split="train"),
        },
    )
    assert again["self/knn1_l1/top1"] == 1.0  # each image is its own neighbour
    assert 0 < again["mean/class_mean/top1"] < 1


def test_training_it_is_refused(config):
    config.model = dict(name="identity")
    with pytest.raises(UserError, match="nothing to train, since the model has no parameters: set train.total='0 st"):
        experiments.build(config)


def test_a_trained_function_gives_pixels(run):
    model = jaxvision.load(run[0])
    assert not jax.tree.leaves(model.variables)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert model.features(images).shape == (2, np.prod(model.layers["map"]))
