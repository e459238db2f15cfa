import io
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
    assert train.info == sources.Info(root.name, "train", 15, tuple(NAMES), 10)
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
