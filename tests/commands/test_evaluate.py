"""Every protocol on a run while it trains, on its checkpoint, and on its converted weights."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from jaxvision.cli import main
from jaxvision.commands import convert, evaluate, predict, train
from jaxvision.commands.restore import restore
from jaxvision.config import override
from jaxvision.errors import UserError
from jaxvision.evals import features
from jaxvision.models.weights import folder

LEARNED = dict(split="validation", train_split="train")
PROTOCOLS = {
    "near": dict(name="knn", k=(5,), **LEARNED),
    "probe": dict(name="linear_probe", l2=(1.0, 100.0), layers=("features", "stages/1"), **LEARNED),
    "sgd": dict(name="sgd_probe", epochs=2, train_batch_size=16, **LEARNED),
    "augmented": dict(
        name="sgd_probe", epochs=1, train_batch_size=16, train_augment="flip_lr|normalize(0.5, 0.5)", **LEARNED
    ),
    "means": dict(name="class_mean", **LEARNED),
    "few": dict(name="fewshot", shots=(1,), **LEARNED),
}


@pytest.fixture(scope="module")
def judged(trained):
    """The results of all protocols on the finished run."""
    return evaluate.run(trained[0], evals=PROTOCOLS)


@pytest.fixture(scope="module")
def converted(trained, tmp_path_factory):
    """The weights of that run as a folder."""
    out = tmp_path_factory.mktemp("weights") / "tiny"
    convert.run(trained[0], out)
    return out


def test_every_protocol_has_names_of_its_own(trained, judged):
    names = [name.partition("/")[2] for name in judged if not name.endswith("/examples")]
    names += [name.partition("/")[2] for name in trained[1]]  # of the logits, which were trained with the network
    assert len(set(names)) == len(names)
    assert all(np.isfinite(value) for value in judged.values())


def test_while_it_trains_the_numbers_are_those_of_its_checkpoint(config, tmp_path):
    few = {name: dict(PROTOCOLS[name], every="4 steps") for name in ("near", "sgd", "means")}
    results = train.run(override(config, {"evals": few}), tmp_path / "run", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines if "near/knn5_t0.07/top1" in line} == {4, 6}
    assert evaluate.run(tmp_path / "run") == pytest.approx(results)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_probing_leaves_the_variables_as_they_are(trained, name):
    experiment, state, _ = restore(trained[0])
    with experiment.config.unlocked():
        experiment.config.evals = {name: PROTOCOLS[name]}
    assert "batch_stats" in state.variables
    before = jax.device_get(state)
    experiment.evaluations()[0].run(state)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(state))


def test_converted_weights_give_the_numbers_of_their_run(trained, judged, converted):
    with_logits = PROTOCOLS | {"val": dict(name="classify", split="validation")}
    shapes = dict(name="shapes", options=dict(image_size=32, train=80, validation=24, test=8), split="train")
    found = evaluate.run(converted, evals=with_logits, data=shapes | dict(batch_size=16))
    assert found == pytest.approx(judged | trained[1], rel=1e-4)
    there = dict(data="shapes", options=shapes["options"], batch_size=16)
    elsewhere = {name: section | there for name, section in PROTOCOLS.items()}
    assert evaluate.run(converted, evals=elsewhere) == pytest.approx(judged, rel=1e-4)
    line = json.loads((converted / "evaluations.jsonl").read_text().splitlines()[-1])
    assert line["evals"]["near"]["options"]["train"] == 80
    assert line["near/knn5_t0.07/top1"] == found["near/knn5_t0.07/top1"]


def test_features_are_kept_for_other_evaluations(trained, judged, tmp_path, monkeypatch):
    first = evaluate.run(trained[0], evals={"near": PROTOCOLS["near"]}, features=tmp_path / "features")
    assert len(list((tmp_path / "features").iterdir())) == 2  # of two splits

    def unwanted(*_):
        raise AssertionError("the images went through the model again")

    monkeypatch.setattr(features.views, "outputs", unwanted)
    second = evaluate.run(
        trained[0], evals={"means": PROTOCOLS["means"], "near": PROTOCOLS["near"]}, features=tmp_path / "features"
    )
    assert first | second == pytest.approx({name: judged[name] for name in first | second})


def test_predictions_of_converted_weights_are_those_of_the_run(trained, converted, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    ours, theirs = (predict.run(path, str(tmp_path / "*.png")) for path in (trained[0], converted))
    ((_, one),), ((_, other),) = ours.items(), theirs.items()
    assert [name for name, _ in one] == [name for name, _ in other]
    np.testing.assert_allclose([p for _, p in one], [p for _, p in other], rtol=1e-4)


def test_converted_weights_from_the_command_line(converted, tmp_path, capsys):
    words = ["jaxvision", "evaluate", f"--workdir={converted}"]
    with pytest.raises(SystemExit):
        main(words)
    assert "say with --config=FILE.py by what they are judged" in capsys.readouterr().err
    config = f"ConfigDict({dict(evals=PROTOCOLS)!r})"
    (tmp_path / "evals.py").write_text(f"from ml_collections import ConfigDict\n\nget_config = lambda: {config}\n")
    with pytest.raises(SystemExit):
        main([*words, f"--config={tmp_path / 'evals.py'}"])
    assert "set 'evals.near.data', or give the config a section 'data'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(name="knn", k=(5,), layer="stage/1"), "unknown layer 'stage/1'; did you mean 'stages/1'"),
        (dict(name="linear_probe", layers=("features", "stages/9")), "unknown layer 'stages/9'"),
        (dict(name="knn", k=(100,)), "k is 100, but shapes train has 80 images"),
        (dict(name="sgd_probe", epoch=3), "did you mean 'epochs'"),
    ],
)
def test_errors_come_before_the_first_step(config, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        train.run(override(config, {"evals": {"judge": change | LEARNED}}), tmp_path / "run", quiet=True)


def test_a_step_of_weights_and_statistics_that_they_lack(converted, tmp_path):
    with pytest.raises(UserError, match="have no steps"):
        evaluate.run(converted, step=3, evals=PROTOCOLS)
    arrays, meta = folder.load(converted)
    meta["preprocessing"]["augment"] = "standardize"
    folder.save(tmp_path / "other", arrays, meta)
    with pytest.raises(UserError, match="needs statistics of the training images"):
        evaluate.run(tmp_path / "other", evals=PROTOCOLS, data=dict(name="shapes", split="train"))
