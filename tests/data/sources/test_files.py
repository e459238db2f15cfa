import os

import numpy as np
import pytest

from jaxvision.data.sources import files
from jaxvision.errors import UserError


@pytest.fixture
def tree(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def found(root, pattern):
    return {s: [str(f.relative_to(root)) for f in fs] for s, fs in files.split_files(root, pattern).items()}


def test_a_template_finds_the_splits(tree):
    root = tree("train-1.tar", "train-0.tar", "val-0.tar", ".train-0.tar.index.npz", "notes.txt", "a-b-0.tar")
    assert found(root, "{split}-*.tar") == {
        "a": ["a-b-0.tar"],
        "train": ["train-0.tar", "train-1.tar"],
        "val": ["val-0.tar"],
    }
    assert found(root, "{split}-?.tar") == {"train": ["train-0.tar", "train-1.tar"], "val": ["val-0.tar"]}


@pytest.mark.parametrize("name", ["data/train-00000-of-00003.parquet", "train-0.parquet", "train.parquet"])
def test_layouts_of_the_hub(tree, name):
    assert found(tree(name), "{data/,}{split}{-*,}.parquet") == {"train": [name]}


def test_a_split_may_be_a_folder(tree):
    root = tree("train/0.tar", "train/1.tar", "val/0.tar")
    assert found(root, "{split}/*.tar") == {"train": ["train/0.tar", "train/1.tar"], "val": ["val/0.tar"]}


def test_nothing_matches(tree):
    with pytest.raises(UserError, match=r"no \{split\}-\*\.tar in"):
        files.split_files(tree("train.tar"), "{split}-*.tar")


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_the_slices_of_the_pieces_in_a_row(seed):
    rng = np.random.default_rng(seed)
    pieces = {s: [(f"{s}{i}", int(rng.integers(0, 5))) for i in range(4)] for s in ("train", "val")}
    every = {s: [(name, row) for name, count in of_split for row in range(count)] for s, of_split in pieces.items()}
    parts = [(s, *sorted(rng.integers(0, len(every[s]) + 1, 2).tolist())) for s in ("val", "train", "val")]
    rows = files.Rows(parts, pieces)
    expected = [place for s, start, stop in parts for place in every[s][start:stop]]
    assert [rows[i] for i in range(len(rows))] == expected
    assert [(piece, row) for piece, start, stop in rows.ranges for row in range(start, stop)] == expected


def test_more_files_than_may_be_open_at_once(tmp_path):
    limit = files._opened.cache_info().maxsize
    for i in range(limit + 20):
        (tmp_path / str(i)).write_bytes(f"file {i:04d}".encode())
    open_before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for i in [*range(limit + 20), 0]:
        assert files.pread(str(tmp_path / str(i)), 5, 4) == b"%04d" % i
    if open_before:
        assert len(os.listdir("/proc/self/fd")) <= open_before + limit
    with pytest.raises(OSError, match="ends before byte 20"):
        files.pread(str(tmp_path / "0"), 5, 15)
    files._opened.cache_clear()


def test_files_that_a_count_says_are_there_and_are_not_are_told(tree, caplog):
    root = tree("train-0.tar", "train-2.tar")
    files.split_files(root, "{split}-{0..3}.tar")
    assert f"{root} train lacks 2 of 4 files: train-1.tar, train-3.tar" in caplog.text
    caplog.clear()
    files.split_files(tree("train-00000-of-00003.parquet", "train-00002-of-00003.parquet"), "{split}-*.parquet")
    assert "train lacks 1 of 3 files: numbers 1" in caplog.text
    caplog.clear()
    files.split_files(tree("train-00001-of-00003.parquet"), "{split}-*.parquet")
    assert not caplog.records
