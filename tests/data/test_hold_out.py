"""Examples that are held out are chosen by names: those of every kind of source differ, and move with the set."""

import io
import shutil
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from jaxvision.data import open_source, subsets, take
from jaxvision.data.sources.cifar import _PIXELS
from jaxvision.errors import UserError

PER_CLASS = 20


def _png(value):
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def _images():
    """Yields (class, number, bytes) of 20 images of each of two classes, different from one another."""
    for k, name in enumerate(("cat", "owl")):
        for i in range(PER_CLASS):
            yield name, i, _png(k * PER_CLASS + i)


def _folder(root):
    for name, i, data in _images():  # a folder in the way is called as descriptions are made
        path = root / "train" / name / f"row 1 in patient{i:02}" / "image.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)


def _manifest(root):
    lines = ["path,label"]
    for name, i, data in _images():
        path = root / "images" / name / f"patient{i:02}" / "left in box.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        lines.append(f"{path.relative_to(root)},{name}")
    (root / "train.csv").write_text("\n".join(lines))


def _webdataset(root):
    with tarfile.open(root / "train-0.tar", "w") as tar:
        for name, i, data in _images():
            for suffix, content in (("png", data), ("cls", str(int(name == "owl")).encode())):
                member = tarfile.TarInfo(f"{name}/{i}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _parquet(root):
    rows = list(_images())
    columns = {"image": [{"bytes": data} for _, _, data in rows], "label": [int(name == "owl") for name, _, _ in rows]}
    pyarrow.parquet.write_table(pyarrow.table(columns), root / "train.parquet", row_group_size=7)


def _cifar(root):
    records = np.zeros((8, 1 + _PIXELS), np.uint8)
    records[:, 0] = np.arange(8) % 2
    for b in range(5):
        records[:, 1:] = np.arange(8)[:, None] + 8 * b
        (root / f"data_batch_{b + 1}.bin").write_bytes(records.tobytes())
    (root / "batches.meta.txt").write_text("cat\nowl")


KINDS = {"folder": _folder, "manifest": _manifest, "webdataset": _webdataset, "parquet": _parquet, "cifar": _cifar}


def _held_out(kind, root, seed=0):
    source = open_source(kind, "train", data_dir=str(root))
    held = take(source, hold_out=0.25, part="held_out", seed=seed)
    assert np.bincount(held.labels).tolist() == [5, 5]
    return [
        np.asarray(held[i]["image"] if kind == "cifar" else bytearray(held[i]["image"])).tobytes() for i in range(10)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_every_kind_of_source(tmp_path, kind):
    root = tmp_path / "my set"
    root.mkdir()
    KINDS[kind](root)
    source = open_source(kind, "train", data_dir=str(root))
    assert len(set(subsets.names(source))) == len(source) == 2 * PER_CLASS
    chosen = _held_out(kind, root)
    assert chosen != _held_out(kind, root, seed=1)
    shutil.move(root, tmp_path / "moved in 2026")
    assert _held_out(kind, tmp_path / "moved in 2026") == chosen


def test_a_part_of_a_part_keeps_its_names(pictures):
    part = take(pictures, 6, seed=0)
    assert subsets.names(part) == [subsets.names(pictures)[i] for i in part._indices]


def test_one_name_several_times_still_follows_the_seed():
    labels, names = np.zeros(40, int), ["a"] * 40
    chosen = [np.flatnonzero(subsets.held_out(labels, names, 0.2, seed=seed)).tolist() for seed in range(2)]
    assert chosen[0] != chosen[1]
    assert list(range(8)) not in chosen


@pytest.mark.parametrize("share", [0, 0.0, 1, 1.0, -0.1, float("nan")])
def test_nothing_and_everything_are_no_shares(pictures, share):
    with pytest.raises(UserError, match=r"hold_out=.* must be in \(0, 1\)"):
        take(pictures, hold_out=share)
