"""The segmentation of experiments/own_parts: its loss, its evaluator against a loop, and maps of image files."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.own_parts.segmentation import CLASSES, make_mean_iou, make_segmentation
from jaxvision import models
from jaxvision.commands import class_maps, photos
from jaxvision.errors import UserError
from jaxvision.fields import Field

RESNET = partial(models.build, "resnet", variant="8", width=0.25)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, (4, 16, 16, 1)).astype(np.uint8)
    return {"image": jnp.asarray(rng.normal(size=(4, 16, 16, 3)), jnp.float32), "instance_mask": jnp.asarray(mask)}


def test_every_pixel_is_judged_by_its_mask(batch, random_variables):
    task = make_segmentation(model=RESNET, width=8)
    variables = random_variables(task.init, batch)
    value, (metrics, updates) = jax.jit(task.loss)(variables, batch, jax.random.key(0))
    assert np.isfinite(value)
    assert set(updates) == {"batch_stats"}
    predicted = jax.jit(task.outputs)(variables, batch)["segmentation"]
    assert (predicted.shape, predicted.dtype) == ((4, 16, 16), np.uint8)
    assert task.kinds["segmentation"].names == CLASSES
    assert 0 <= metrics["pixel_accuracy"] <= 1


def test_mean_iou_is_that_of_a_loop():
    """Over all pixels of two batches, the last example of which fills up and does not count."""
    rng = np.random.default_rng(1)
    batches = [
        {
            "image": rng.integers(0, 2, (3, 4, 5, 1)).astype(np.uint8),
            "instance_mask": rng.integers(0, 3, (3, 4, 5, 1)).astype(np.uint8),
            "mask": np.array([True, True, last]),
        }
        for last in (True, False)
    ]
    task = SimpleNamespace(outputs=lambda variables, batch: {"segmentation": batch["image"][..., 0]})
    data = SimpleNamespace(batches=lambda: iter(batches), preprocess=lambda batch: batch, fields={})
    metrics = make_mean_iou(task=task, data=data)(None)
    truth = np.concatenate([b["instance_mask"][b["mask"]] > 0 for b in batches]).ravel()
    answer = np.concatenate([b["image"][b["mask"]] > 0 for b in batches]).ravel()
    of = [np.sum((truth == k) & (answer == k)) / np.sum((truth == k) | (answer == k)) for k in (False, True)]
    assert metrics["iou_background"] == pytest.approx(of[0])
    assert metrics["iou_shape"] == pytest.approx(of[1])
    assert metrics["mean_iou"] == pytest.approx(np.mean(of))
    assert metrics["pixel_accuracy"] == pytest.approx(np.mean(truth == answer))


@dataclasses.dataclass
class Model:
    name: str = "runs/seg"


KINDS = {"segmentation": Field("segmentation", classes=2, names=CLASSES)}


@pytest.fixture
def applied(monkeypatch):
    """Maps of which the n-th image has n pixels of a shape."""

    def apply(model, files, fn, left_out, what):
        maps = np.zeros((len(files), 2, 3), np.uint8)
        for n, one in enumerate(maps):
            one.ravel()[:n] = 1
        return dict(zip(files, fn({"segmentation": maps})))

    monkeypatch.setattr(photos, "apply_model", apply)


def test_a_map_is_written_for_each_image_and_shares_are_told(applied, tmp_path, capsys):
    files = ["photos/a.jpg", "photos/b.png"]
    shares = class_maps.write_maps(Model(), files, KINDS, tmp_path / "maps", "csv")
    assert shares["photos/a.jpg"] == {"background": 1.0}
    assert shares["photos/b.png"] == {"background": pytest.approx(5 / 6), "shape": pytest.approx(1 / 6)}
    pixels = Image.open(tmp_path / "maps" / "b.png")
    assert pixels.mode == "P"
    assert np.asarray(pixels).tolist() == [[1, 0, 0], [0, 0, 0]]
    assert np.asarray(pixels.convert("RGB"))[0, 0].tolist() == [128, 0, 0]
    assert capsys.readouterr().out.splitlines()[0] == "path,map,class,share"
    with pytest.raises(UserError, match="a.png exists already"):
        class_maps.write_maps(Model(), files, KINDS, tmp_path / "maps", "csv")


@pytest.mark.parametrize(
    ("files", "out", "message"),
    [
        (["a.jpg"], None, "runs/seg segments images, and has no folder for the maps: give --out=FOLDER"),
        (["x/a.jpg", "y/a.png"], "maps", "some images have the same name"),
    ],
)
def test_maps_that_cannot_be_written_are_refused(applied, files, out, message):
    with pytest.raises(UserError, match=message):
        class_maps.write_maps(Model(), files, KINDS, out, "table")
