"""Examples that two splits share, by files and by numbers; the right values are counted by hand."""

import json
import os
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from jaxvision.data import open_source, overlap, take
from jaxvision.data.sources.cifar import _PIXELS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images of each of two classes in train/, and copies of them in validation/."""
    root = tmp_path_factory.mktemp("pets")
    for name in ("cat", "owl"):
        (root / "train" / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(root / "train" / name / f"{i}.png")
    shutil.copytree(root / "train", root / "validation")
    return root


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """Four records in each of the five files of the training split, and four in that of the test split."""
    root = tmp_path_factory.mktemp("cifar")
    records = np.zeros((4, 1 + _PIXELS), np.uint8)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (root / f"{name}.bin").write_bytes(records.tobytes())
    (root / "batches.meta.txt").write_text("\n".join(map(str, range(10))))
    return root


def shared(name, root, one, other, subset=None):
    opened = [open_source(name, split, data_dir=str(root)) for split in (one, other)]
    if subset:
        opened[1] = take(opened[1], **subset)
    return overlap.count_shared(*opened, lambda split: len(open_source(name, split, data_dir=str(root))))


@pytest.mark.parametrize("kind", ["folder", "cifar"])
@pytest.mark.parametrize(
    ("one", "other", "number"),
    [
        ("train", "train", 20),
        ("train[:90%]", "train[80%:]", 2),
        ("train[:15]", "train[5:10]+train[12:18]", 8),
        ("train[:50%]", "train[50%:]", 0),
        ("train", "{other}", 0),
        ("train", "{other}+train[:3]", 3),
    ],
)
def test_slices_of_one_set(request, kind, one, other, number):
    root = request.getfixturevalue(kind)
    other = other.format(other="validation" if kind == "folder" else "test")
    assert shared(kind, root, one, other) == number


@pytest.mark.parametrize("kind", ["folder", "cifar"])
def test_of_a_subset_its_own_examples_count(request, kind):
    root = request.getfixturevalue(kind)
    assert shared(kind, root, "train", "train", dict(examples=7, seed=0)) == 7
    assert 0 < shared(kind, root, "train[:50%]", "train", dict(examples=18, seed=0)) < 11


def test_of_another_set_whose_examples_have_numbers_only_nothing_is_known(cifar):
    assert overlap.count_shared(*(open_source("cifar", "train", data_dir=str(cifar)),) * 2, None) is None


def test_a_split_that_is_a_link_to_the_other_and_links_to_files(folder, tmp_path):
    shutil.copytree(folder / "train", tmp_path / "train")
    os.symlink(tmp_path / "train", tmp_path / "validation")
    assert shared("folder", tmp_path, "train", "validation") == 20
    os.unlink(tmp_path / "validation")
    for name in ("cat", "owl"):
        (tmp_path / "validation" / name).mkdir(parents=True)
        shutil.copy(folder / "train" / name / "0.png", tmp_path / "validation" / name / "0.png")
    os.symlink(tmp_path / "train" / "cat" / "3.png", tmp_path / "validation" / "cat" / "new.png")
    assert shared("folder", tmp_path, "train", "validation") == 1


def test_manifests_that_list_the_same_files(folder, tmp_path):
    rows = [{"path": f"{folder}/train/cat/{i}.png", "label": "cat"} for i in range(10)]
    for split, part in (("train", rows[:8]), ("validation", rows[6:])):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, part)))
    assert shared("manifest", tmp_path, "train", "validation") == 2


def test_shards_with_the_same_keys_are_other_examples(folder, tmp_path):
    for split in ("train", "validation"):
        with tarfile.open(tmp_path / f"{split}-000.tar", "w") as tar:
            for i in range(4):
                tar.add(folder / "train" / "cat" / f"{i}.png", f"{i}.png")
    one, other = (open_source("webdataset", split, data_dir=str(tmp_path)) for split in ("train", "validation"))
    assert overlap.count_shared(one, other, None) == 0
    assert overlap.count_shared(one, one, None) == 4


def test_large_sets_are_not_compared(folder, monkeypatch):
    monkeypatch.setattr(overlap, "MOST", 39)
    assert shared("folder", folder, "train", "train") is None
