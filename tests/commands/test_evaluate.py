"""Every protocol on a run while it trains, on its checkpoint, and on its converted weights."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from shrinking import shrink

from jaxvision import calls
from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision.cli import main
from jaxvision.commands import convert, evaluate, predict, train
from jaxvision.commands.restore import restore
from jaxvision.config import override
from jaxvision.errors import UserError
from jaxvision.evals import EVALUATORS, dataset, features
from jaxvision.models.weights import folder

REPRESENTATION = Path(__file__).parents[2] / "configs" / "evaluation" / "representation.py"
LEARNED = dict(split="validation", train_split="train")
PROTOCOLS = {
    name: section | EVALUATORS.small(section["name"])
    for name, section in configs.load(f"{REPRESENTATION}:folder").evals.to_dict().items()
}
PROTOCOLS["fixed"] = dict(name="sgd_probe", epochs=2, train_batch_size=16, **LEARNED)  # features of plain images
STAGES = ("stages/0", "stages/1", "stages/2", "features")


@pytest.fixture(scope="module")
def run(config_file, tmp_path_factory):
    """The workdir of a run that was judged by all protocols as it went, and its last results."""
    workdir = tmp_path_factory.mktemp("runs") / "judged"
    config = configs.load(str(config_file))
    config.evals.update({name: dict(section, every="4 steps") for name, section in PROTOCOLS.items()})
    return workdir, train.run_train(config, workdir, quiet=True)


@pytest.fixture(scope="module")
def converted(run, tmp_path_factory):
    """The weights of that run as a folder."""
    out = tmp_path_factory.mktemp("weights") / "tiny"
    convert.run_convert(run[0], out)
    return out


def last_line(path):
    return json.loads(path.read_text().splitlines()[-1])


def test_the_config_of_all_protocols_has_them_all(run):
    learning = {name for name, factory in EVALUATORS.items() if "train" in calls.parameters(factory)}
    assert {section["name"] for section in PROTOCOLS.values()} == learning
    for name in ("lbfgs/probe_lbfgs", "sgd/probe_sgd1_augmented"):
        assert {f"{features.protocol_name(name, layer)}/top1" for layer in STAGES} < set(run[1])


def test_every_number_has_a_name_of_its_own(run):
    workdir, results = run
    names = [name.partition("/")[2] for name in results if not name.endswith("/examples")]
    assert len(set(names)) == len(names)
    assert all(np.isfinite(value) for value in results.values())
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    trained = {name for line in lines if "learning_rate" in line for name in line}
    assert "top1" in trained  # of the classifier that is trained with the network, on augmented images
    assert not any("/" in name for name in trained)
    assert all("/" in name for name in results)


def test_the_numbers_of_a_run_are_those_of_its_checkpoint(run):
    workdir, results = run
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines if "knn/knn5_t0.07/top1" in line} == {4, 6}
    assert evaluate.run_evaluate(workdir) == pytest.approx(results)


def test_probing_leaves_the_variables_as_they_are(run):
    experiment, state, _ = restore(run[0])
    assert "batch_stats" in state.variables
    before = jax.device_get(state)
    for evaluation in experiment.evaluations():
        evaluation.run(state)
        jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(state))


def test_a_run_that_is_probed_learns_what_one_that_is_not_does(run, trained):
    probed, plain = (jax.device_get(restore(workdir)[1]) for workdir in (run[0], trained[0]))
    jax.tree.map(np.testing.assert_array_equal, probed, plain)


def test_converted_weights_give_the_numbers_of_their_run(run, converted):
    with_logits = PROTOCOLS | {"val": dict(name="classify", split="validation")}
    shapes = dict(name="shapes", options=dict(image_size=32, train=80, validation=24, test=8), split="train")
    metrics = evaluate.run_evaluate(converted, evals=with_logits, data=shapes | dict(batch_size=16))
    assert metrics == pytest.approx(run[1], rel=1e-4)
    there = dict(data="shapes", options=shapes["options"], batch_size=16)
    elsewhere = evaluate.run_evaluate(converted, evals={"knn": PROTOCOLS["knn"] | there})
    assert elsewhere == pytest.approx({name: run[1][name] for name in elsewhere}, rel=1e-4)
    line = last_line(converted / "evaluations.jsonl")
    assert line["evals"]["knn"]["options"]["train"] == 80
    assert line["knn/knn5_t0.07/top1"] == elsewhere["knn/knn5_t0.07/top1"]


def test_evaluations_of_a_split_share_its_forward_pass(run, monkeypatch):
    three = {"val": dict(name="classify", split="validation"), "knn": PROTOCOLS["knn"], "lbfgs": PROTOCOLS["lbfgs"]}
    each, passes = dataset.EvalSet.each, []

    def counting(self, compute):
        passes.append(self.info.split)
        return each(self, compute)

    monkeypatch.setattr(dataset.EvalSet, "each", counting)
    together = evaluate.run_evaluate(run[0], evals=three)
    assert sorted(passes) == ["train", "validation"]
    alone: dict[str, float] = {}
    for name, section in three.items():
        alone |= evaluate.run_evaluate(run[0], evals={name: section})
    assert sorted(passes) == ["train"] * 3 + ["validation"] * 4
    assert together == alone


def test_features_are_kept_for_other_evaluations(run, tmp_path, monkeypatch):
    kept, near = tmp_path / "features", {"knn": PROTOCOLS["knn"]}
    first = evaluate.run_evaluate(run[0], evals=near, features=kept)
    assert len(list(kept.iterdir())) == 2  # of two splits

    def unwanted(*_):
        raise AssertionError("the images went through the model again")

    monkeypatch.setattr(features.views, "averaged_outputs", unwanted)
    second = evaluate.run_evaluate(run[0], evals=near | {"means": PROTOCOLS["means"]}, features=kept)
    assert first | second == pytest.approx({name: run[1][name] for name in first | second})


def test_other_evaluations_of_a_finished_run(run):
    workdir = run[0]
    few = dict(name="fewshot", layer="stages/1", shots=(1,), train_subset=dict(per_class=1, seed=0), **LEARNED)
    metrics = evaluate.run_evaluate(workdir, evals={"stage": few})
    assert metrics["stage/1shot_ridge1024_stages.1_sd"] == 0  # there is but one image of each class to be drawn
    line = last_line(workdir / "evaluations.jsonl")
    assert line["evals"]["stage"]["layer"] == "stages/1"
    assert line["stage/1shot_ridge1024_stages.1"] == metrics["stage/1shot_ridge1024_stages.1"]
    assert set(restore(workdir)[0].config.evals) == {"val", *PROTOCOLS}  # those of its own are still there


def test_other_evaluations_from_a_file(run, converted, tmp_path, capsys):
    few = f"dict(name='fewshot', shots=(1,), **{LEARNED!r})"
    (tmp_path / "few.py").write_text(
        "from ml_collections import ConfigDict\n\n"
        f"def get_config(name):\n    return ConfigDict(dict(evals={{name: {few}}}))\n"
    )
    words = ["jaxvision", "evaluate", f"--config={tmp_path / 'few.py'}:mine"]
    main([*words, f"--workdir={run[0]}"])
    assert last_line(run[0] / "evaluations.jsonl")["mine/1shot_ridge1024"] == run[1]["few/1shot_ridge1024"]
    (tmp_path / "none.py").write_text("from ml_collections import ConfigDict\n\nget_config = ConfigDict\n")
    for wrong, message in (
        ([*words[:2], f"--workdir={run[0]}", f"--config={tmp_path / 'none.py'}"], "has no section 'evals'"),
        ([*words[:2], f"--workdir={converted}"], "which name no evaluations: add --config=FILE.py"),
        ([*words, f"--workdir={converted}"], "set 'evals.mine.data', or add a section 'data' to the config"),
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert message in capsys.readouterr().err


def test_predictions_of_converted_weights_are_those_of_the_run(run, converted, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    ours, theirs = (predict.run_predict(path, str(tmp_path / "*.png")) for path in (run[0], converted))
    ((_, one),), ((_, other),) = ours.items(), theirs.items()
    assert [name for name, _ in one] == [name for name, _ in other]
    np.testing.assert_allclose([p for _, p in one], [p for _, p in other], rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(name="knn", k=(5,), layer="stage/1"), "unknown layer 'stage/1'; did you mean 'stages/1'"),
        (dict(name="linear_probe", layers=("features", "stages/9")), "unknown layer 'stages/9'"),
        (dict(name="linear_probe", layers=("stage/*",)), r"unknown layer 'stage/\*'"),
        (dict(name="linear_probe", layers="features"), "layers must be a list of texts"),
        (dict(name="knn", k=(100,)), "k is 100, but shapes train has 80 images"),
        (dict(name="sgd_probe", epoch=3), "did you mean 'epochs'"),
        (dict(name="fewshot", train_split=None), "set 'evals.judge.train_split'"),
        (dict(name="fewshot", shots=(30,)), "30 shots: the class"),
        (dict(name="classify"), "learns nothing: leave .*train_split. out"),
    ],
)
def test_errors_come_before_the_first_step(config, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        train.run_train(override(config, {"evals": {"judge": LEARNED | change}}), tmp_path / "run", quiet=True)


def test_shrunk_configs_have_enough_images_of_each_class(config):
    few = dict(name="fewshot", shots=(1, 5, 10, 25), split="validation", train_split="train[:1%]")
    small = shrink(override(config, {"evals": {"few": few}}), dict(width=0.25))
    (evaluation,) = experiments.build(small).evaluations()
    assert evaluation.name == "few"


def test_a_step_of_weights_and_statistics_that_they_lack(converted, tmp_path):
    with pytest.raises(UserError, match="have no steps"):
        evaluate.run_evaluate(converted, step=3, evals=PROTOCOLS)
    arrays, meta = folder.load(converted)
    meta["preprocessing"]["augment"] = "standardize"
    folder.save(tmp_path / "other", arrays, meta)
    with pytest.raises(UserError, match="needs statistics of the training images"):
        evaluate.run_evaluate(tmp_path / "other", evals=PROTOCOLS, data=dict(name="shapes", split="train"))
