"""`jaxvision train` as a user meets it: records, resuming, refusing."""

import json

import numpy as np
import pytest

from jaxvision.commands import evaluate, train
from jaxvision.config import override
from jaxvision.errors import UserError
from jaxvision.train.metrics import read
from jaxvision.train.watch import Preempted


def states(workdir):
    """Every saved array of the last checkpoint, as bytes by file name."""
    import orbax.checkpoint as ocp

    (step,) = sorted(p.name for p in (workdir / "checkpoints").iterdir())[-1:]
    return ocp.StandardCheckpointer().restore(workdir / "checkpoints" / step / "state")


def test_records_of_a_run(trained):
    workdir, results = trained
    assert set(results) == {"val/top1", "val/top5", "val/loss", "val/examples"}
    assert results["val/examples"] == 24
    saved = json.loads((workdir / "results.json").read_text())
    assert saved["results"] == results
    assert saved["steps"] == 6
    launch = json.loads((workdir / "run.json").read_text())["launches"][0]
    assert launch["versions"]["jax"]
    assert launch["devices"][0].startswith("cpu")
    lines = read(workdir / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [2, 3, 4, 6]
    assert {"top1", "grad_norm", "examples_per_second", "data_wait", "learning_rate"} <= set(lines[0])
    assert [line["step"] for line in lines if "val/top1" in line] == [4, 6]


def test_a_finished_run_says_so(trained, config, capsys):
    workdir, results = trained
    before = (workdir / "metrics.jsonl").read_bytes()
    assert train.run(config, workdir) == results
    assert "is finished (6 steps)" in capsys.readouterr().out
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_resumed_equals_unbroken_bit_for_bit(trained, config, tmp_path, capsys):
    import jax

    workdir, results = trained
    with pytest.raises(Preempted):
        train.run(config, tmp_path / "run", stop_after=4)
    assert train.run(config, tmp_path / "run") == results
    assert "going on from step 4" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, states(workdir), states(tmp_path / "run"))
    assert len(json.loads((tmp_path / "run" / "run.json").read_text())["launches"]) == 2


def test_streamed_and_chunked_equal_the_run_in_memory(trained, config, tmp_path):
    import jax

    workdir, _ = trained
    for name, change in {
        "stream": {"data.resident": "never"},
        "chunk": {"train.steps_per_dispatch": 2},
    }.items():
        section, key = next(iter(change)).split(".")
        with config.unlocked():
            config[section][key] = next(iter(change.values()))
        train.run(config, tmp_path / name, quiet=True)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
            states(workdir),
            states(tmp_path / name),
        )
        del config[section][key]


def test_another_config_is_refused_until_the_user_decides(config, tmp_path):
    workdir = tmp_path / "run"
    train.run(config, workdir, quiet=True)
    longer = override(config, {"train.total": "8 steps", "optimizer.learning_rate": 0.05})
    with pytest.raises(UserError) as error:
        train.run(longer, workdir)
    assert "train.total: '6 steps' -> '8 steps'" in str(error.value)
    assert "optimizer.learning_rate: 0.1 -> 0.05" in str(error.value)
    assert "momentum" not in str(error.value)
    train.run(longer, workdir, resume=True, quiet=True)
    assert [line["step"] for line in read(workdir / "metrics.jsonl")][-1] == 8
    train.run(config, workdir, fresh=True, quiet=True)
    assert [line["step"] for line in read(workdir / "metrics.jsonl")][-1] == 6
    assert [line["step"] for line in read(tmp_path / "run.1" / "metrics.jsonl")][-1] == 8  # nothing is lost


def test_a_workdir_that_cannot_be_written(config, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write to the workdir"):
        train.run(config, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.name", "resnett", "unknown model 'resnett'; did you mean 'resnet'"),
        ("model.variant", "19", "unknown ResNet variant '19'"),
        ("task.name", "selfsupervised", "unknown task 'selfsupervised'; did you mean 'supervised'"),
        ("data.name", "shape", "unknown data set 'shape'; did you mean 'shapes'"),
        ("augment", "flip_l", "unknown augmentation 'flip_l'; did you mean 'flip_lr'"),
        ("optimizer.name", "sdg", "unknown optimizer 'sdg'; did you mean 'sgd'"),
        ("data.split", "training", "training"),
        ("data.batch_size", 17, "does not divide over"),
        ("train.total", "6 stepps", "unknown unit of duration 'stepps'; did you mean 'steps'"),
    ],
)
def test_wrong_values_are_named_before_anything_is_written(config, tmp_path, key, value, message):
    with pytest.raises(UserError, match=message):
        train.run(override(config, {key: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("threads", -1, "data.threads must be a whole number of at least 0, not -1"),
        ("processes", 1.5, "data.processes must be a whole number"),
        ("max_bad_fraction", 2.0, r"data.max_bad_fraction must be in \[0, 1\], not 2.0"),
        ("fields", ("label",), "data.fields must hold 'image', not only label"),
    ],
)
def test_wrong_ways_of_reading_are_named(config, tmp_path, key, value, message):
    with config.unlocked():
        config.data[key] = value
    with pytest.raises(UserError, match=message):
        train.run(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ("data", "bach_size", "unknown config key 'data.bach_size'; did you mean 'batch_size'"),
        ("train", "totl", "unknown config key 'train.totl'; did you mean 'total'"),
        ("optimizer", "momentm", "'momentm'; did you mean 'momentum'"),
        ("model", "widht", "'widht'; did you mean 'width'"),
        ("mesh", "fdsp", "unknown config key 'mesh.fdsp'; did you mean 'fsdp'"),
    ],
)
def test_misspelt_keys_are_named(config, tmp_path, section, key, message):
    with config.unlocked():
        config[section] = {**config.get(section, {}), key: 1}
    with pytest.raises(UserError, match=message):
        train.run(config, tmp_path / "run")


def test_misspelt_key_of_an_evaluator(config, tmp_path):
    with config.unlocked():
        config.evals.val.topks = (1,)
    with pytest.raises(UserError, match=r"unknown config key 'evals.val.topks'; did you mean 'topk'"):
        train.run(config, tmp_path / "run")


def test_wrong_number_of_classes(config, tmp_path):
    config.data.classes = 12
    with pytest.raises(UserError, match="the config says 12 classes, but shapes train has 10"):
        train.run(config, tmp_path / "run")


def test_evaluate_repeats_the_last_evaluation(trained):
    workdir, results = trained
    assert evaluate.run(workdir) == results
    at3 = evaluate.run(workdir, step=3)
    assert at3 != results
    lines = [json.loads(line) for line in (workdir / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines[-2:]] == [6, 3]


def test_evaluate_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        evaluate.run(tmp_path)
