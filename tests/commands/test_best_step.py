"""The best checkpoint of a run, from the config to `--step=best`."""

import json

import numpy as np
import pytest

import jaxvision
from jaxvision import config as configs
from jaxvision.cli import main
from jaxvision.commands import evaluate, plot, train, verify
from jaxvision.errors import UserError
from jaxvision.train.saved import Saved


@pytest.fixture(scope="module")
def stopped(data_cache, config_file, tmp_path_factory):
    """The workdir of a run that learns nothing, so that its first evaluation is the best and its patience ends it."""
    workdir = tmp_path_factory.mktemp("runs") / "patient"
    config = configs.override(
        configs.load(str(config_file)),
        {
            "model.name": "lenet",
            "optimizer.learning_rate": 0.0,
            "optimizer.momentum": 0.0,
            "train.total": "20 steps",
            "train.keep": 1,
            "train.keep_best": "val/loss",
            "train.patience": "2 evaluations",
        },
    )
    train.run_train(config, workdir, quiet=True)
    return workdir, config


def test_the_records_say_why_the_run_ended_and_which_step_was_best(stopped, no_figures, capsys):
    workdir, config = stopped
    results = json.loads((workdir / "results.json").read_text())
    assert results["steps"] == 12
    assert results["best"] == {"metric": "val/loss", "step": 4, "value": results["results"]["val/loss"]}
    assert results["ended"].startswith("val/loss was not lower than ")
    assert results["ended"].endswith("(step 4) up to step 12: train.patience is 8 steps")
    assert Saved(workdir).steps() == [4, 12]
    assert verify.run_verify(workdir) == 0
    capsys.readouterr()
    train.run_train(config, workdir)
    assert "--step=best" in capsys.readouterr().out
    plot.write_at_end(str(workdir))
    page = (workdir / "page.html").read_text()
    assert "Why the run ended" in page
    assert "at step 4;" in page


def test_commands_take_the_best_step(stopped, capsys):
    workdir, _ = stopped
    main(["jaxvision", "evaluate", f"--workdir={workdir}", "--step=best", "--format=json"])
    assert {row["step"] for row in json.loads(capsys.readouterr().out)} == {4}
    assert jaxvision.load(workdir, step="best").opened.step == 4
    assert jaxvision.load(workdir).opened.step == 12


def test_a_run_starts_from_the_best_step_of_another(stopped, tmp_path):
    workdir, config = stopped
    start = {"init": dict(weights=str(workdir), step="best"), "train.total": "0 steps"}
    changed = {"train.keep_best": None, "train.patience": None}
    train.run_train(configs.override(config, start | changed), tmp_path / "run", quiet=True)
    theirs, ours = Saved(workdir).variables(4), Saved(tmp_path / "run").variables()
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(UserError, match=r"step 5.*4, 12"):
        train.run_train(configs.override(config, start | changed | {"init.step": 5}), tmp_path / "other", quiet=True)


def test_a_run_without_a_best_step_says_which_it_has(trained, capsys):
    with pytest.raises(UserError, match=r"no best step.*train.keep_best.*Its steps: 3, 6"):
        evaluate.run_evaluate(trained[0], "best")
    with pytest.raises(UserError, match="'last' is neither a number nor 'best'"):
        evaluate.run_evaluate(trained[0], "last")
    with pytest.raises(SystemExit):
        main(["jaxvision", "evaluate", f"--workdir={trained[0]}", "--step=last"])
    assert "--step must be the number of a step, or best, not 'last'" in capsys.readouterr().err


def test_a_wrong_metric_is_refused_before_anything_is_written(config, tmp_path):
    config.train.keep_best = "val/recall"
    with pytest.raises(UserError, match=r"'val/recall' is no metric of the evaluation 'val': val/loss, val/top1"):
        train.run_train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
