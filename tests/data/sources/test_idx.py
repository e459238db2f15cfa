import gzip
import hashlib
import os
import pickle
import struct

import numpy as np
import pytest

from jaxvision.data import sources
from jaxvision.data.reader import Reader
from jaxvision.data.sources.idx import read_idx
from jaxvision.errors import UserError

RNG = np.random.default_rng(0)


def open_idx(root, split="train", **options):
    return sources.open_source("idx", split, data_dir=str(root), options=options)


def encoded(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(root, prefix="", suffix="", test="t10k"):
    """Seven training and three test images of 5 rows and 4 columns."""
    images, labels = RNG.integers(0, 256, (10, 5, 4), np.uint8), np.arange(10, dtype=np.uint8) % 4
    for name, part in {"train": slice(0, 7), test: slice(7, 10)}.items():
        for kind, array in {"images-idx3": images[part], "labels-idx1": labels[part]}.items():
            data = encoded(array)
            (root / f"{prefix}{name}-{kind}-ubyte{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    return images, labels


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("prefix", "test"), [("", "t10k"), ("emnist-letters", "test")])
def test_idx(tmp_path, prefix, suffix, test):
    images, labels = write_idx(tmp_path, prefix and f"{prefix}-", suffix, test)
    options = dict(prefix=prefix) if prefix else {}
    train, rest = open_idx(tmp_path, **options), open_idx(tmp_path, "test", **options)
    assert train.info._replace(fields={}) == sources.Info(tmp_path.name, "train", 7, (), 4)
    for source, first in ((train, 0), (rest, 7)):
        for i in range(len(source)):
            np.testing.assert_array_equal(source[i]["image"], images[first + i])
            assert source[i]["label"] == source.labels[i] == labels[first + i]
    assert open_idx(tmp_path, "test[1:]+train[:2]", **options).labels.tolist() == labels[[8, 9, 0, 1]].tolist()


def test_decode_makes_three_channels(tmp_path):
    images, _ = write_idx(tmp_path)
    example, _ = Reader(open_idx(tmp_path), "decode|resize(5)", ["image", "label"]).read(2, 0, 0)
    assert example["image"].shape == (5, 5, 3)
    example, _ = Reader(open_idx(tmp_path), "decode", ["image", "label"]).read(2, 0, 0)
    np.testing.assert_array_equal(example["image"], np.repeat(images[2][..., None], 3, axis=2))


def test_transpose_and_classes(tmp_path):
    images, _ = write_idx(tmp_path)
    source = open_idx(tmp_path, transpose=True, classes=("a", "b", "c", "d"))
    np.testing.assert_array_equal(source[3]["image"], images[3].T)
    assert source.info.classes == ("a", "b", "c", "d")
    with pytest.raises(UserError, match="the label 2 is none of the 2 classes"):
        open_idx(tmp_path, classes=2)


def test_a_copy_for_another_process_holds_no_pixels(tmp_path):
    write_idx(tmp_path)
    source = open_idx(tmp_path, "train[2:]", transpose=True)
    data = pickle.dumps(source)
    assert len(data) < 1000
    copy = pickle.loads(data)
    np.testing.assert_array_equal(copy[1]["image"], source[1]["image"])
    assert copy.info == source.info


def test_damaged_files(tmp_path):
    write_idx(tmp_path, suffix=".gz")
    images, labels = (tmp_path / f"train-{k}-ubyte.gz" for k in ("images-idx3", "labels-idx1"))
    whole = images.read_bytes()
    os.truncate(images, len(whole) // 2)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz is truncated"):
        open_idx(tmp_path)
    images.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    with pytest.raises(UserError, match=r"is truncated: 139 bytes, but its header says \[7, 5, 4\]"):
        open_idx(tmp_path)
    images.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UserError, match="is not an IDX file"):
        open_idx(tmp_path)
    images.write_bytes(whole)
    labels.write_bytes(gzip.compress(encoded(np.zeros(6, np.uint8))))
    with pytest.raises(UserError, match="7 images, but there are 6 labels"):
        open_idx(tmp_path)
    with pytest.raises(UserError, match="want kmnist-train-images-idx3-ubyte and kmnist-train-labels-idx1-ubyte"):
        open_idx(tmp_path, prefix="kmnist")


def test_mnist(shared, tmp_path):
    # The checksum is that of the official file, unpacked.
    images = read_idx(shared("mnist/t10k-images-idx3-ubyte.gz"))
    assert hashlib.md5(encoded(images)).hexdigest() == "2646ac647ad5339dbf082846283269ea"
    source = open_idx(shared("mnist/t10k-images-idx3-ubyte.gz").parent, "test")
    assert (len(source), source.info.num_classes, source.labels[:5].tolist()) == (10_000, 10, [7, 2, 1, 0, 4])
    np.testing.assert_array_equal(source[4]["image"], images[4])


def test_half_a_split_is_told(tmp_path):
    write_idx(tmp_path, suffix=".gz")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz has no counterpart: want t10k-labels-idx1-ubyte"):
        open_idx(tmp_path)


def test_images_and_labels_that_are_swapped_are_told(tmp_path):
    write_idx(tmp_path, suffix="")
    images, labels = (tmp_path / f"train-{k}-ubyte" for k in ("images-idx3", "labels-idx1"))
    images.write_bytes(labels.read_bytes())
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte has 1 axes, want 3"):
        open_idx(tmp_path)


@pytest.mark.parametrize(
    "content", [bytes([0, 0, 8, 0, 1]), bytes([0, 0, 8, 1, 0]), bytes([0, 0, 8, 3, 0, 0, 0, 1, 0])]
)
def test_headers_that_are_not_whole(tmp_path, content):
    write_idx(tmp_path, suffix="")
    for kind in ("images-idx3", "labels-idx1"):
        whole = (tmp_path / f"train-{kind}-ubyte").read_bytes()
        (tmp_path / f"train-{kind}-ubyte").write_bytes(content)
        with pytest.raises(UserError, match=rf"train-{kind}-ubyte is truncated or damaged"):
            open_idx(tmp_path)
        (tmp_path / f"train-{kind}-ubyte").write_bytes(whole)


def test_gzip_that_is_damaged_or_something_else(tmp_path):
    write_idx(tmp_path, suffix=".gz")
    file = tmp_path / "train-images-idx3-ubyte.gz"
    whole = bytearray(file.read_bytes())
    for content, words in [
        (whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:], "is damaged: its content does not match its checksum"),
        (whole[:20] + b"\xff" * 20 + whole[40:], "is damaged"),
        (b"<html>404", r"is not a gzip file: it is a web page \(HTML\)"),
        (gzip.compress(b"<html>404"), r"is not an IDX file of bytes: it is a web page \(HTML\)"),
    ]:
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"train-images-idx3-ubyte\.gz {words}"):
            open_idx(tmp_path)
