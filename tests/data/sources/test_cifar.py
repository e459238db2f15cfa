import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from jaxvision.data import sources
from jaxvision.errors import UserError

RNG = np.random.default_rng(0)
NAMES = [f"class{i}" for i in range(10)]


def open_cifar(root, split="train", **options):
    return sources.open_source("cifar", split, data_dir=str(root), options=options)


def write_cifar10(root, images, labels, files):
    """Writes the binary version as its page describes it: a label, then red, green and blue rows."""
    for file, here in zip(files, np.array_split(np.arange(len(images)), len(files))):
        records = (bytes([labels[i]]) + images[i].transpose(2, 0, 1).tobytes() for i in here)
        (root / file).write_bytes(b"".join(records))


@pytest.fixture
def cifar10(tmp_path):
    images, labels = RNG.integers(0, 256, (23, 32, 32, 3), np.uint8), RNG.integers(0, 10, 23, np.uint8)
    write_cifar10(tmp_path, images[:15], labels[:15], [f"data_batch_{i}.bin" for i in range(1, 6)])
    write_cifar10(tmp_path, images[15:], labels[15:], ["test_batch.bin"])
    (tmp_path / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return tmp_path, images, labels


def test_cifar10(cifar10):
    root, images, labels = cifar10
    train, test = open_cifar(root), open_cifar(root, "test")
    assert train.info._replace(fields={}) == sources.Info(root.name, "train", 15, tuple(NAMES), 10)
    for source, first in ((train, 0), (test, 15)):
        for i in range(len(source)):
            np.testing.assert_array_equal(source[i]["image"], images[first + i])
            assert source[i]["label"] == source.labels[i] == labels[first + i]
    part = open_cifar(root, "train[4:8]+test[:1]")
    np.testing.assert_array_equal(part.labels, labels[[4, 5, 6, 7, 15]])


def test_a_copy_for_another_process_holds_no_pixels(cifar10):
    source = open_cifar(cifar10[0], "train[4:8]")
    data = pickle.dumps(source)
    assert len(data) < 1000
    copy = pickle.loads(data)
    np.testing.assert_array_equal(copy[1]["image"], source[1]["image"])
    assert copy.info == source.info


def test_cifar100_has_two_kinds_of_labels(tmp_path):
    images, labels = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8), [(i % 20, 10 * i) for i in range(6)]
    records = (bytes(label) + image.transpose(2, 0, 1).tobytes() for image, label in zip(images, labels))
    (tmp_path / "train.bin").write_bytes(b"".join(records))
    for kind, count in {"fine": 100, "coarse": 20}.items():
        (tmp_path / f"{kind}_label_names.txt").write_text("\n".join(f"{kind}_{i}" for i in range(count)))
    fine, coarse = open_cifar(tmp_path), open_cifar(tmp_path, labels="coarse")
    assert (fine.info.num_classes, coarse.info.num_classes, coarse.info.classes[3]) == (100, 20, "coarse_3")
    assert list(zip(coarse.labels, fine.labels)) == labels
    assert (coarse[4]["label"], fine[4]["label"]) == labels[4]
    np.testing.assert_array_equal(fine[4]["image"], images[4])
    with pytest.raises(UserError, match="did you mean 'coarse'"):
        open_cifar(tmp_path, labels="course")


def test_incomplete_sets(cifar10):
    root, _, _ = cifar10
    with pytest.raises(UserError, match="which has train, test"):
        open_cifar(root, "validation")
    (root / "data_batch_2.bin").write_bytes(b"." * 4000)
    with pytest.raises(UserError, match=r"data_batch_2\.bin is truncated: 4000 bytes"):
        open_cifar(root)
    (root / "data_batch_2.bin").unlink()
    with pytest.raises(UserError, match=r"no file .*data_batch_2\.bin"):
        open_cifar(root)
    assert len(open_cifar(root, "test")) == 8


def write_python2(file, **content):
    """Writes a dict as pickles of Python 2 are: protocol 2, its texts as bytes, the array through NumPy's old names."""

    def text(value):
        return b"T" + len(value).to_bytes(4, "little") + value

    def entry(value):
        if isinstance(value, np.ndarray):
            shape = b"".join(b"J" + int(n).to_bytes(4, "little") for n in value.shape)
            make = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
            kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xff"
            kind += b"J\xff\xff\xff\xffK\x00tb"
            return make + b"(K\x01" + shape + b"\x86" + kind + b"\x89" + text(value.tobytes()) + b"tb"
        items = (b"K" + bytes([x]) if isinstance(x, int) else text(x.encode()) for x in value)
        return b"](" + b"".join(items) + b"e"

    body = b"".join(text(key.encode()) + entry(value) for key, value in content.items())
    file.write_bytes(b"\x80\x02}(" + body + b"u.")


@pytest.mark.parametrize("writer", ["python2", "python3"])
def test_python_versions_are_read_like_binary_ones(cifar10, tmp_path_factory, writer):
    root, images, labels = cifar10
    other = tmp_path_factory.mktemp("py")

    def write(name, **content):
        if writer == "python2":
            write_python2(other / name, **content)
        else:
            (other / name).write_bytes(pickle.dumps(content, protocol=4))

    parts = [*np.array_split(np.arange(15), 5), np.arange(15, 23)]
    for name, here in zip([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], parts):
        planes = np.ascontiguousarray(images[here].transpose(0, 3, 1, 2)).reshape(len(here), 3072)
        write(name, data=planes, labels=labels[here].tolist(), filenames=["a.png"] * len(here))
    write("batches.meta", label_names=NAMES)
    for split in ("train", "test"):
        expected, other_source = open_cifar(root, split), open_cifar(other, split)
        assert other_source.info._replace(name="") == expected.info._replace(name="")
        np.testing.assert_array_equal(other_source.labels, expected.labels)
        for i in range(len(other_source)):
            np.testing.assert_array_equal(other_source[i]["image"], expected[i]["image"])


def test_python_version_of_cifar100(tmp_path):
    images = RNG.integers(0, 256, (6, 3072), np.uint8)
    write_python2(tmp_path / "train", data=images, fine_labels=[9, 8, 7, 6, 5, 4], coarse_labels=[1, 2, 3, 1, 2, 3])
    write_python2(
        tmp_path / "meta",
        fine_label_names=[f"f{i}" for i in range(100)],
        coarse_label_names=[f"c{i}" for i in range(20)],
    )
    fine, coarse = open_cifar(tmp_path), open_cifar(tmp_path, labels="coarse")
    assert (fine.labels.tolist(), coarse.labels.tolist()) == ([9, 8, 7, 6, 5, 4], [1, 2, 3, 1, 2, 3])
    assert (fine.info.num_classes, coarse.info.classes[2]) == (100, "c2")
    np.testing.assert_array_equal(fine[3]["image"].transpose(2, 0, 1).ravel(), images[3])


class Runs:
    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"data": Runs()}), r"more than plain data \((posix|nt)\.system\)"),
        (pickle.dumps([1]), "holds no dict"),
        (pickle.dumps({"data": b""}), "has no 'labels'"),
        (pickle.dumps({"data": b"", "labels": [1]}), r"has data of shape \(\) beside 1 labels"),
        (pickle.dumps({"data": np.zeros((1, 3072)), "labels": [1]}), "array of float64, where pixels are uint8"),
        (b"", "damaged"),
        (b"no pickle", "damaged"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [1]})[:-9], "damaged"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [300]}), "label of record 0 is 300; want"),
        (
            pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [3, -1]}),
            "label of record 1 is -1; want a whole",
        ),
        (
            pickle.dumps({"data": np.zeros((1, 3072), np.float32), "labels": [1]}),
            "it holds an array of float32, where pixels are uint8",
        ),
        (b"<!doctype html>", r"a web page \(HTML\)"),
    ],
)
def test_a_pickle_that_is_damaged_or_runs_something_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}").write_bytes(content)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    with pytest.raises(UserError, match=r"data_batch_1.*" + message):
        open_cifar(tmp_path)
    assert not (tmp_path / "hacked").exists()


def test_a_label_that_is_no_class_is_told(cifar10):
    root, images, _ = cifar10
    write_cifar10(root, images[:5], np.full(5, 12, np.uint8), ["test_batch.bin"])
    with pytest.raises(
        UserError, match="record 0 of .*test_batch.bin has a label 12, but the set names only 10 classes"
    ):
        open_cifar(root, "test")


def test_real_cifar10(shared, tmp_path):
    with zipfile.ZipFile(shared("cifar10/data_batch_5.zip")) as archive:
        strip = np.asarray(Image.open(io.BytesIO(archive.read(sorted(archive.namelist())[-1]))).convert("RGB"))
        labels = np.load(io.BytesIO(archive.read("labels.npy")))[-500:]
    images = strip.reshape(-1, 32, 32, 3)
    write_cifar10(tmp_path, images, labels, [f"data_batch_{i}.bin" for i in range(1, 6)])
    (tmp_path / "batches.meta.txt").write_bytes(shared("cifar10/label_names.txt").read_bytes())
    source = open_cifar(tmp_path)
    assert source.info.classes[:3] == ("airplane", "automobile", "bird")
    np.testing.assert_array_equal(source.labels, labels)
    np.testing.assert_array_equal(source[321]["image"], images[321])


def test_what_python_files_hold_is_checked(tmp_path):
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    good = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
    for change, message in [
        ({"labels": [0, 1.7]}, "'labels' of .*data_batch_1: the label of record 1 is 1.7; want"),
        ({"data": np.zeros((2, 32, 32, 3), np.uint8)}, r"data of shape \(2, 32, 32, 3\) beside 2 labels"),
    ]:
        for i in range(1, 6):
            (tmp_path / f"data_batch_{i}").write_bytes(pickle.dumps(good | change))
        with pytest.raises(UserError, match=message):
            open_cifar(tmp_path)


def test_names_and_kinds_of_labels_that_cannot_be(cifar10):
    root, _, _ = cifar10
    with pytest.raises(UserError, match="CIFAR-10 .* has one kind of labels"):
        open_cifar(root, labels="coarse")
    (root / "batches.meta.txt").write_text("a\na\nb\n")
    with pytest.raises(UserError, match="want different names"):
        open_cifar(root)


def test_a_file_that_is_no_part_of_the_set_hides_nothing(tmp_path):
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    for i in range(1, 6):
        content = {"data": np.full((1, 3072), i, np.uint8), "labels": [i]}
        (tmp_path / f"data_batch_{i}").write_bytes(pickle.dumps(content))
    (tmp_path / "model.bin").write_bytes(b"weights")
    assert open_cifar(tmp_path).labels.tolist() == [1, 2, 3, 4, 5]
    (tmp_path / "data_batch_1.bin").write_bytes(b"<html>404")
    with pytest.raises(UserError, match=r"data_batch_1\.bin is truncated: it is a web page"):
        open_cifar(tmp_path)
