"""`jaxvision train` as a user meets it: records, resuming, refusing."""

import json
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxvision import checks
from jaxvision import experiment as experiments
from jaxvision import workdir as workdirs
from jaxvision.commands import evaluate, inspect, train
from jaxvision.config import override
from jaxvision.errors import UserError
from jaxvision.train import turns
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
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6]
    assert {"top1", "grad_norm", "examples_per_second", "data_wait", "learning_rate"} <= set(lines[0])
    assert [line["step"] for line in lines if "val/top1" in line] == [4, 6]


def test_a_finished_run_says_so(trained, config, capsys):
    workdir, results = trained
    before = (workdir / "metrics.jsonl").read_bytes()
    assert train.run_train(config, workdir) == results
    assert "is finished (6 steps)" in capsys.readouterr().out
    assert (workdir / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("steps_per_dispatch", [1, 2])
def test_a_run_traces_its_step_once(config, tmp_path, monkeypatch, steps_per_dispatch):
    traces = []
    take_turns = turns.take_turns
    monkeypatch.setattr(turns, "take_turns", lambda *args: (traces.append(1), take_turns(*args))[1])
    config.train.steps_per_dispatch = steps_per_dispatch
    train.run_train(config, tmp_path / "run")
    assert len(traces) == 1


def test_resumed_equals_unbroken_bit_for_bit(trained, config, tmp_path, capsys):
    import jax

    workdir, results = trained
    with pytest.raises(Preempted):
        train.run_train(config, tmp_path / "run", stop_after=4)
    assert train.run_train(config, tmp_path / "run") == results
    assert "resuming from step 4" in capsys.readouterr().out
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
        train.run_train(config, tmp_path / name, quiet=True)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
            states(workdir),
            states(tmp_path / name),
        )
        del config[section][key]


def test_another_config_is_refused_until_the_user_decides(config, tmp_path):
    workdir = tmp_path / "run"
    train.run_train(config, workdir, quiet=True)
    longer = override(config, {"train.total": "8 steps", "optimizer.learning_rate": 0.05})
    with pytest.raises(UserError) as error:
        train.run_train(longer, workdir)
    assert "train.total: '6 steps' -> '8 steps'" in str(error.value)
    assert "optimizer.learning_rate: 0.1 -> 0.05" in str(error.value)
    assert "momentum" not in str(error.value)
    train.run_train(longer, workdir, resume=True, quiet=True)
    assert [line["step"] for line in read(workdir / "metrics.jsonl")][-1] == 8
    train.run_train(config, workdir, fresh=True, quiet=True)
    assert [line["step"] for line in read(workdir / "metrics.jsonl")][-1] == 6
    assert [line["step"] for line in read(tmp_path / "run.1" / "metrics.jsonl")][-1] == 8  # nothing is lost


def test_a_workdir_that_cannot_be_written(config, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="run cannot be a folder: .*file is a file"):
        train.run_train(config, tmp_path / "file" / "run")


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
        ("evals.val.split", "validatoin", "validatoin"),
        ("evals.val.name", "classfy", "unknown evaluator 'classfy'; did you mean 'classify'"),
        ("evals.val.every", 4, "evals.val.every: the duration 4 has no unit: write '4 steps'"),
        ("train.total", "5", "train.total: the duration '5' has no unit: write '5 steps', '5 epochs'"),
        ("train.log_every", 2.5, "train.log_every: the duration 2.5 has no unit"),
        ("augment", "", "augment is empty: .* Write 'none' for no operations"),
        ("augment", "mixup", "missing argument alpha"),
        ("data.name", "", "data.name is empty: was a variable not set"),
        (
            "data.batch_size",
            "16",
            "data.batch_size must be a whole number of at least 1, not '16': write 16 without quotes",
        ),
        ("model.width", "0.25", "model 'resnet': width must be a number, not '0.25'"),
        ("optimizer", dict(name="sgd", learning_rate=0.1, nesterov=1), "nesterov must be True or False, not 1"),
        ("seed", 0.5, r"seed must be a whole number in \[0, .*\], not 0.5"),
        ("model", 3, "the section 'model' must be a dict of keys and values, not 3"),
        ("train.total", "6 stepps", "unknown unit of duration 'stepps'; did you mean 'steps'"),
    ],
)
def test_wrong_values_are_named_before_anything_is_written(config, tmp_path, key, value, message):
    with pytest.raises(UserError, match=message):
        train.run_train(override(config, {key: value}), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        (
            "data",
            dict(image_size=64),
            "is 64x64, but the first image .* stored at 32x32 and comes out .* 16x16",
        ),
        ("data", dict(examples=40), r"data.examples is 40, but shapes train has 80 examples: .* dict\(examples=40\)"),
        ("data", dict(examples=100), ""),  # a warning
        ("data", dict(examples=80, subset=dict(examples=40, seed=0)), ""),
        ("data", dict(image_size=[32, 32]), ""),
        ("data", dict(image_size=16), ""),  # what the host operations make of it
        ("data", dict(multi_label=True), "data.multi_label is True, but an image of shapes train has one label"),
        ("data", dict(processes=1, threads=2), "data.processes=1 reads in place of threads"),
        ("data", dict(resident="alwys"), "unknown value of data.resident 'alwys'; did you mean 'always'"),
        ("data", dict(resident="always", host="decode|random_crop(16)"), "data.resident is 'always', but data.host="),
        ("data", dict(fields=("image",)), "the task needs the field 'label'; the fields are image, mask"),
        ("data", dict(fields="image"), "data.fields must be a list of texts, not 'image'"),
        ("train", dict(steps_per_dispatch=4), ""),
        ("train", dict(keep=0), "train.keep must be a whole number of at least 1, not 0"),
        ("train", dict(ema=1.0), "train.ema must be in"),
        ("init", dict(weights=None), "init.weights must be a text, not None"),
        ("init", dict(head="new"), "the config has no 'init.weights', which is required"),
        ("init", dict(weights="absent"), "absent is neither a folder of converted weights nor the workdir of a run"),
        ("model", dict(dtype="bfloat16"), "'model.dtype' is set by the program: it follows from train.precision"),
        ("model", dict(num_classes=10), "'model.num_classes' is set by the program: .* of the data set"),
        (
            "evals",
            dict(val=dict(name="classify", split="test", train_subset=dict(examples=2))),
            "is a subset of train_split, which is missing",
        ),
        ("evals", dict(val=dict(name="knn", split="test", train_split="trian")), "trian"),
        ("evals", dict(val=dict(name="knn", split="test", train_split="train", k=(5,), layer="featurs")), "'featurs'"),
        (
            "evals",
            dict(val=dict(name="classify", split="test", batch_size=12.5)),
            "val.batch_size must be a whole",
        ),
        (
            "evals",
            dict(val=dict(name="classify", split="test", topk=5)),
            "val.topk must be a list of whole",
        ),
    ],
)
def test_what_contradicts_or_does_nothing_is_named_before_anything_is_written(
    config, tmp_path, section, changes, message
):
    changed = config.to_dict()
    changed["data"]["host"] = "decode|resize(16)"
    changed[section] = {**changed.get(section, {}), **changes}
    changed = ConfigDict(changed)
    if not message:
        checks.check_run(experiments.build(changed))
        return
    with pytest.raises(UserError, match=message):
        train.run_train(changed, tmp_path / "run")
    assert not list(tmp_path.iterdir())
    if section == "evals":
        with pytest.raises(UserError, match=message):
            inspect.run_inspect(changed, compile_step=False)


def test_a_stream_takes_one_step_a_dispatch(config, tmp_path):
    with config.unlocked():
        config.data.resident = "never"
        config.train.steps_per_dispatch = 2
    with pytest.raises(UserError, match="steps_per_dispatch is 2, but this set is read as a stream"):
        train.run_train(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_corrected_command_is_not_told_of_another_config(config, tmp_path):
    with pytest.raises(UserError, match="validatoin"):
        train.run_train(override(config, {"evals.val.split": "validatoin"}), tmp_path / "run")
    train.run_train(override(config, {"train.total": "1 step"}), tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "results.json").is_file()


def test_a_resume_that_cannot_fit_leaves_the_run_as_it_was(trained, config, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    (run / "results.json").unlink()
    before = (run / "config.json").read_bytes()
    for changes, message in {
        ("model.width", 0.5): "does not fit the config",
        ("train.total", "5 steps"): "holds step 6, beyond train.total",
    }.items():
        with pytest.raises(UserError, match=message):
            train.run_train(override(config, dict([changes])), run, resume=True)
        assert (run / "config.json").read_bytes() == before
    assert train.run_train(config, run, quiet=True) == trained[1]


def test_numbers_of_numpy_train_as_plain_ones(trained, config, tmp_path):
    with config.unlocked(), config.data.ignore_type(), config.model.ignore_type(), config.optimizer.ignore_type():
        config.data.batch_size = np.int64(16)
        config.model.width = np.float64(0.25)
        config.optimizer.learning_rate = np.float32(0.1)
    assert train.run_train(config, tmp_path / "run", quiet=True) == trained[1]
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved == json.loads((trained[0] / "config.json").read_text())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("threads", -1, "data.threads must be a whole number of at least 0, not -1"),
        ("processes", 1.5, "data.processes must be a whole number"),
        ("max_bad_fraction", 2.0, r"data.max_bad_fraction must be a number in \[0, 1\], not 2.0"),
        ("fields", ("label",), "flip_lr needs an image, and the fields are label: add the image to data.fields"),
    ],
)
def test_wrong_ways_of_reading_are_named(config, tmp_path, key, value, message):
    with config.unlocked():
        config.data[key] = value
    with pytest.raises(UserError, match=message):
        train.run_train(config, tmp_path / "run")


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
        train.run_train(config, tmp_path / "run")


def test_misspelt_key_of_an_evaluator(config, tmp_path):
    with config.unlocked():
        config.evals.val.topks = (1,)
    with pytest.raises(UserError, match=r"unknown config key 'evals.val.topks'; did you mean 'topk'"):
        train.run_train(config, tmp_path / "run")


def test_wrong_number_of_classes(config, tmp_path):
    config.data.classes = 12
    with pytest.raises(UserError, match="the config says 12 classes, but shapes train has 10"):
        train.run_train(config, tmp_path / "run")


def test_evaluate_repeats_the_last_evaluation(trained):
    workdir, results = trained
    assert evaluate.run_evaluate(workdir) == results
    at3 = evaluate.run_evaluate(workdir, step=3)
    assert at3 != results
    lines = [json.loads(line) for line in (workdir / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines[-2:]] == [6, 3]


def test_evaluate_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        evaluate.run_evaluate(tmp_path)


def test_a_workdir_that_is_a_file_is_told(tmp_path):
    (tmp_path / "f").write_text("x")
    for where in (tmp_path / "f", tmp_path / "f" / "sub"):
        with pytest.raises(UserError, match=f"cannot be a folder: {tmp_path / 'f'} is a file"):
            workdirs.check(where, ConfigDict())
