"""The script that writes CIFAR-10 as a folder tree, on 50 made-up images."""

import runpy
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxvision.data import open_source
from jaxvision.data.resident import load_arrays

SCRIPT = Path(__file__).parents[2] / "experiments" / "data_scaling" / "make_cifar10_folder.py"


def write_batch(source, kind, number, images, labels, encode):
    path = source / f"data_batch_{number}.{kind}"
    if kind == "bin":
        path.write_bytes(b"".join(bytes([y]) + x.transpose(2, 0, 1).tobytes() for x, y in zip(images, labels)))
        return
    np.save(source / "labels.npy", labels)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("strip_0.png", encode(images[:5].reshape(-1, 32, 3)))
        archive.writestr("strip_1.png", encode(images[5:].reshape(-1, 32, 3)))
        archive.write(source / "labels.npy", "labels.npy")


@pytest.mark.parametrize("kind", ["bin", "zip"])
def test_tree(kind, tmp_path, encode, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), np.uint8)
    labels = (np.arange(50) % 10).astype(np.uint8)
    for number in range(1, 6):
        rows = slice(10 * number - 10, 10 * number)
        write_batch(tmp_path, kind, number, images[rows], labels[rows], encode)
    script = runpy.run_path(str(SCRIPT))
    monkeypatch.setitem(script["main"].__globals__, "TRAIN", 40)
    out = tmp_path / "tree"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path), str(out)])
    script["main"]()
    for split, start, stop in [("train", 0, 40), ("validation", 40, 50)]:
        source = open_source("folder", split, data_dir=str(out))
        places = [int(Path(source.describe(i)).stem) for i in range(len(source))]
        assert sorted(places) == list(range(start, stop))
        arrays = load_arrays(source, "decode")
        np.testing.assert_array_equal(arrays["image"], images[places])
        np.testing.assert_array_equal(arrays["label"], labels[places])
    with pytest.raises(SystemExit, match="exists already"):
        script["main"]()


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path), str(tmp_path / "out" / "tree")])
    with pytest.raises(SystemExit, match="neither"):
        runpy.run_path(str(SCRIPT))["main"]()
    assert not list((tmp_path / "out").iterdir())
