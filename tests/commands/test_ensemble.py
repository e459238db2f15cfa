"""Several runs as one classifier, and the mean over several sets."""

import json

import numpy as np
import pytest

import jaxvision
from jaxvision import config as configs
from jaxvision.cli import main
from jaxvision.commands import ensemble, evaluate, train
from jaxvision.config import override
from jaxvision.errors import UserError

LITTLE = {"model.name": "lenet", "train.total": "2 steps", "optimizer.learning_rate": 0.01}


@pytest.fixture(scope="module")
def runs(data_cache, config_file, tmp_path_factory):
    """Two runs that differ in their seed, and one with other preprocessing."""
    folder = tmp_path_factory.mktemp("runs")
    changes = {"a": {"seed": 0}, "b": {"seed": 1}, "other": {"augment": "normalize(0.4, 0.5)"}}
    for name, change in changes.items():
        train.run_train(override(configs.load(str(config_file)), {**LITTLE, **change}), folder / name, quiet=True)
    return folder


def test_each_member_and_the_ensemble_are_judged(runs, capsys):
    a, b = str(runs / "a"), str(runs / "b")
    results = jaxvision.evaluate_ensemble([a, b])
    for path in (a, b):
        alone = evaluate.run_evaluate(path)
        assert results[path] == pytest.approx(alone, rel=1e-5)
    members = [results[path]["val/loss"] for path in (a, b)]
    assert results["ensemble"]["val/loss"] < np.mean(members)
    assert results["ensemble"]["val/examples"] == 24
    capsys.readouterr()
    main(["jaxvision", "evaluate", f"--ensemble={a},{b}", "--mean=logits", "--format=json"])
    rows = json.loads(capsys.readouterr().out)
    assert {row["workdir"]: row["step"] for row in rows} == {a: 2, b: 2, "ensemble": None}
    (loss,) = [row["value"] for row in rows if (row["workdir"], row["metric"]) == ("ensemble", "loss")]
    assert loss < np.mean(members)
    assert loss != results["ensemble"]["val/loss"]


def test_an_ensemble_among_some_of_the_classes(runs):
    some = {"some": dict(name="classify", split="validation", only=(1, 3, 4))}
    a, b = str(runs / "a"), str(runs / "b")
    results = jaxvision.evaluate_ensemble([a, b], evals=some)
    alone = evaluate.run_evaluate(a, evals=some)
    assert results[a] == pytest.approx(alone, rel=1e-5)
    assert 0 < results["ensemble"]["some/examples"] < 24
    assert set(results["ensemble"]) == set(alone)


def test_runs_that_do_not_fit_together_are_named(runs, trained):
    a, other = runs / "a", runs / "other"
    with pytest.raises(UserError, match=r"/a and .*/other have other preprocessing on the device.*0.5.*0.4"):
        ensemble.judge_ensemble([a, other])
    for paths in ([a], [a, a], []):
        with pytest.raises(UserError, match="two runs or more, each once"):
            ensemble.judge_ensemble(paths)
    knn = dict(name="knn", k=(5,), split="validation", train_split="train")
    with pytest.raises(UserError, match=r"none. The entries: near \(knn\)"):
        ensemble.judge_ensemble([a, runs / "b"], evals={"near": knn})
    with pytest.raises(UserError, match="unknown value of --mean 'median'"):
        ensemble.judge_ensemble([a, runs / "b"], mean="median")


def test_the_mean_over_several_sets(runs):
    sets = dict(first=dict(split="validation"), second=dict(split="test"))
    results = evaluate.run_evaluate(runs / "a", evals={"all": dict(name="classify", mean=True, sets=sets)})
    for metric in ("top1", "loss"):
        mean = (results[f"all/first/{metric}"] + results[f"all/second/{metric}"]) / 2
        assert results[f"all/mean/{metric}"] == pytest.approx(mean)
    assert "all/mean/examples" not in results
    with pytest.raises(UserError, match="evals.all.mean is the mean over several sets"):
        evaluate.run_evaluate(runs / "a", evals={"all": dict(name="classify", mean=True, split="test")})
