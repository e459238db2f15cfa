"""Whole runs on other data than one label an image: several labels, mixtures, statistics, several views."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxvision.augment import gallery
from jaxvision.commands import evaluate, inspect, predict, train
from jaxvision.commands.restore import restore
from jaxvision.config import override
from jaxvision.errors import UserError
from jaxvision.train.checkpoint import Saved


@pytest.fixture
def multi_label(tmp_path):
    """A manifest of 24 images whose labels are the colour channels that are bright."""
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        rows = []
        for i in range(24):
            bright = rng.random(3) < 0.5
            Image.fromarray(rng.integers(0, 60, (32, 32, 3), np.uint8) + bright.astype(np.uint8) * 190).save(
                tmp_path / f"{split}{i}.png"
            )
            names = [name for name, on in zip(("red", "green", "blue"), bright) if on]
            rows.append({"path": f"{split}{i}.png", "labels": names})
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_several_labels_an_image(config, multi_label, tmp_path, capsys):
    with config.unlocked():
        config.data = dict(name="manifest", data_dir=str(multi_label), split="train", batch_size=16)
        config.task.loss = "sigmoid_cross_entropy"
        config.evals.val = dict(name="multilabel", split="validation")
    results = train.run_train(config, tmp_path / "run", quiet=True)
    assert 0 < results["val/map"] <= 1
    assert evaluate.run_evaluate(tmp_path / "run")["val/map"] == results["val/map"]
    inspect.run_inspect(config, compile_step=False)
    assert "3 classes" in capsys.readouterr().out
    with pytest.raises(UserError, match="set task.loss to 'sigmoid_cross_entropy'"):
        train.run_train(override(config, {"task.loss": "softmax_cross_entropy"}), tmp_path / "wrong")


def test_a_mixture_is_trained_on(config, tmp_path):
    part = dict(name="shapes", options=dict(config.data.options))
    with config.unlocked():
        config.data.name = "mixture"
        config.data.options = {
            "often": {**part, "weight": 3.0},
            "seldom": {**part, "options": dict(image_size=32, train=40, validation=8, test=8)},
        }
    results = train.run_train(config, tmp_path / "run", quiet=True)
    assert results["val/examples"] == 24 + 8


def test_statistics_travel_with_the_checkpoint(config, tmp_path, monkeypatch):
    config.augment = "flip_lr|pca_lighting(0.1)|standardize"
    workdir = tmp_path / "run"
    results = train.run_train(config, workdir, quiet=True)
    saved = Saved(workdir).meta()["statistics"]
    experiment, _, meta = restore(workdir)
    assert set(saved) == {"mean", "std", "color_values", "color_vectors"}
    assert meta["preprocessing"]["augment"] == "standardize"
    images = np.stack([experiment_image(config, i) for i in range(80)]) / 255
    np.testing.assert_allclose(saved["mean"], images.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(saved["std"], images.std((0, 1, 2)), rtol=1e-9)
    np.testing.assert_array_equal(experiment.statistics["mean"], saved["mean"])
    assert evaluate.run_evaluate(workdir) == pytest.approx(results)


def experiment_image(config, index):
    from jaxvision.data import host_ops, open_source

    source = open_source("shapes", "train", options=dict(config.data.options))
    return host_ops.make_chain("decode")(source[index], None)["image"]


def test_evaluation_over_ten_crops(config, tmp_path):
    with config.unlocked():
        config.evals.ten = dict(name="classify", split="validation", augment="ten_crop(24)|normalize(0.5, 0.5)")
    config.augment = "random_crop(24)|flip_lr|normalize(0.5, 0.5)"
    results = train.run_train(config, tmp_path / "run", quiet=True)
    assert results["ten/examples"] == results["val/examples"] == 24
    assert results["ten/loss"] != results["val/loss"]
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "new.png")
    assert len(predict.run_predict(tmp_path / "run", str(tmp_path / "new.png"))) == 1


def test_the_pages_show_the_data(config, tmp_path, monkeypatch):
    pages, some = tmp_path / "pages", ("flip_lr", "standardize", "whiten", "ten_crop")  # all take a minute to compile
    every = gallery.example_specs
    monkeypatch.setattr(gallery, "example_specs", lambda side: {name: every(side)[name] for name in some})
    config.augment = "flip_lr|mixup(0.5)|normalize(0.5, 0.5)"
    inspect.run_inspect(config, pages=str(pages), compile_step=False)
    files = {path.name: path for path in pages.iterdir() if not path.name.startswith(".")}
    assert set(files) == {"classes.png", "examples.png", "operations.png", "batch.png"}
    for path in files.values():
        assert np.asarray(Image.open(path).convert("RGB")).std() > 5, path
