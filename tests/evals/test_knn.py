"""The evaluator `knn` against a naive loop over images."""

import io
import zipfile
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.evals import dataset, knn

CLASSES = 7


class Blobs(Source):
    """Images of 12 numbers around the center of their class, and far from those of the others in direction."""

    def __init__(self, n, seed, classes=CLASSES):
        rng = np.random.default_rng(seed)
        centers = np.random.default_rng(0).integers(40, 210, (classes, 12))
        self.true = rng.integers(0, classes, n)
        self.images = np.clip(centers[self.true] + rng.normal(0, 60, (n, 12)), 0, 255).astype(np.uint8)
        self.info = Info("blobs", "test" if seed else "train", n, (), classes)

    def __len__(self):
        return len(self.true)

    def __getitem__(self, i):
        return {"image": self.images[i].reshape(2, 2, 3), "label": int(self.true[i])}


class Pixels(NamedTuple):
    def outputs(self, variables, batch):
        flat = variables * batch["image"].reshape(len(batch["image"]), -1)
        return {"features": flat, "stages": (batch["image"], flat[:, :5])}


def open_set(source, mesh):
    return dataset.EvalSet(source, host="decode", augment="", batch_size=16, mesh=mesh)


def naive(x, labels, query, k, temperature):
    """The votes of the k rows of `x` of largest cosine with `query`, one at a time."""
    cosines = [row @ query / np.linalg.norm(row) / np.linalg.norm(query) for row in x]
    votes = np.zeros(CLASSES)
    for i in sorted(range(len(x)), key=lambda i: -cosines[i])[:k]:
        votes[labels[i]] += np.exp(cosines[i] / temperature)
    return votes


@pytest.mark.parametrize(("devices", "chunk"), [(1, 8192), (1, 7), (8, 8192), (8, 3)])
def test_accuracy_is_that_of_a_naive_vote(mesh, devices, chunk):
    train, test = Blobs(90, 0), Blobs(37, 1)
    metrics = knn.make_knn(
        task=Pixels(),
        data=open_set(test, mesh(devices)),
        train=open_set(train, mesh(devices)),
        k=(1, 5, 90),
        temperature=0.1,
        chunk=chunk,
    )(jnp.float32(2.0))
    for k in (1, 5, 90):
        votes = [naive(train.images / 255, train.true, query, k, 0.1) for query in test.images / 255]
        order = [sorted(range(CLASSES), key=lambda c: -v[c]) for v in votes]
        for top in (1, 5):
            right = [y in row[:top] and v[y] > 0 for y, row, v in zip(test.true, order, votes)]
            assert metrics[f"knn{k}_t0.1/top{top}"] == pytest.approx(np.mean(right)), (k, top)
    assert 0.3 < metrics["knn5_t0.1/top1"] < 1  # a seventh by chance
    assert metrics["examples"] == 37
    assert len(metrics) == 7


@pytest.mark.parametrize("distance", ["l1", "l2"])
@pytest.mark.parametrize(("devices", "chunk"), [(1, 8192), (8, 3)])
def test_accuracy_of_closest_images_is_that_of_a_naive_vote(mesh, distance, devices, chunk):
    train, test = Blobs(90, 0), Blobs(37, 1)
    scale = np.random.default_rng(0).uniform(1, 3, 12).astype(np.float32)  # so that no two distances are equal
    metrics = knn.make_knn(
        task=Pixels(),
        data=open_set(test, mesh(devices)),
        train=open_set(train, mesh(devices)),
        k=(1, 5),
        chunk=chunk,
        distance=distance,
    )(jnp.asarray(scale))
    power = {"l1": 1, "l2": 2}[distance]
    for k in (1, 5):
        right = []
        for query, label in zip(test.images.astype(float), test.true):
            distances = [(np.abs(scale * (row - query)) ** power).sum() for row in train.images]
            votes = np.bincount(train.true[np.argsort(distances, kind="stable")[:k]], minlength=CLASSES)
            right.append(votes.argmax() == label)
        assert metrics[f"knn{k}_{distance}/top1"] == pytest.approx(np.mean(right))
    assert set(metrics) == {f"knn{k}_{distance}/top{n}" for k in (1, 5) for n in (1, 5)} | {"examples"}


def test_distances_of_the_textbook():
    """CS231n's 4x4 example: the absolute differences sum to 456; their Euclidean length is 162.111."""
    test = [[56, 32, 10, 18], [90, 23, 128, 133], [24, 26, 178, 200], [2, 0, 255, 220]]
    train = [[10, 20, 24, 17], [8, 10, 89, 100], [12, 16, 178, 170], [4, 32, 233, 112]]
    a, b = (jnp.asarray(x, jnp.float32).reshape(1, 16) for x in (test, train))
    assert float(knn.similarity(a, b, "l1")[0, 0]) == -456
    np.testing.assert_allclose(knn.similarity(a, b, "l2"), [[-162.111]], rtol=1e-5)


@pytest.mark.parametrize("distance", knn.DISTANCES)
def test_each_training_image_is_its_own_neighbour(mesh, distance):
    sets = dict(data=open_set(Blobs(60, 0), mesh(1)), train=open_set(Blobs(60, 0), mesh(1)))
    metrics = knn.make_knn(task=Pixels(), **sets, k=(1,), distance=distance)(jnp.float32(1.0))
    assert next(iter(metrics.values())) == 1.0


@pytest.mark.slow
def test_raw_pixels_of_cifar10_are_classified_as_in_the_lecture(shared, mesh):
    """About 35 % with the nearest of 40,000 images by L2, chance being 10 %; where the files are."""

    def read(batch):
        with zipfile.ZipFile(shared(f"cifar10/data_batch_{batch}.zip")) as archive:
            names = sorted(name for name in archive.namelist() if name.startswith("strip"))
            strips = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
            return np.concatenate(strips).reshape(-1, 3072), np.load(io.BytesIO(archive.read("labels.npy")))

    images, labels = map(np.concatenate, zip(*map(read, (1, 2, 3, 4))))
    queries, answers = (x[-1000:] for x in read(5))
    spread = knn._spread(images.astype(np.float32) / 255, labels.astype(np.int32), 8000, mesh(1))
    _, votes = knn.nearest(
        jnp.asarray(queries, jnp.float32) / 255, *spread, k=1, chunk=8000, mesh=mesh(1), distance="l2"
    )
    assert np.mean(votes[:, 0] == answers) == pytest.approx(0.35, abs=0.04)


@pytest.mark.parametrize("devices", [1, 8])
def test_neighbours_are_sorted_and_filling_is_never_among_them(mesh, devices):
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(19, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    spread = knn._spread(bank, np.arange(19, dtype=np.int32), 2, mesh(devices))
    similarities, neighbours = knn.nearest(jnp.asarray(queries), *spread, k=19, chunk=2, mesh=mesh(devices))
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        bank / np.linalg.norm(bank, axis=1, keepdims=True)
    ).T
    np.testing.assert_array_equal(neighbours, np.argsort(-cosines, axis=1))
    np.testing.assert_allclose(similarities, -np.sort(-cosines, axis=1), rtol=1e-5, atol=1e-6)


def test_the_scale_of_features_plays_no_part(mesh):
    sets = dict(data=open_set(Blobs(37, 1), mesh(1)), train=open_set(Blobs(90, 0), mesh(1)))
    run = knn.make_knn(task=Pixels(), **sets, k=(5,))
    assert run(jnp.float32(1.0)) == run(jnp.float32(100.0))


@pytest.mark.parametrize(("distance", "name"), [("cosine", "knn5_t0.07"), ("l1", "knn5_l1"), ("l2", "knn5_l2")])
def test_features_that_are_no_numbers_are_never_right(mesh, distance, name):
    sets = dict(data=open_set(Blobs(20, 1), mesh(1)), train=open_set(Blobs(90, 0), mesh(1)))
    metrics = knn.make_knn(task=Pixels(), **sets, k=(5,), distance=distance)(jnp.float32(jnp.nan))
    assert metrics[f"{name}/top1"] == metrics[f"{name}/top5"] == 0


def test_another_layer_is_named(mesh):
    sets = dict(data=open_set(Blobs(20, 1), mesh(1)), train=open_set(Blobs(90, 0), mesh(1)))
    metrics = knn.make_knn(task=Pixels(), **sets, k=(5,), layer="stages/1")(jnp.float32(1.0))
    assert set(metrics) == {"knn5_t0.07_stages.1/top1", "knn5_t0.07_stages.1/top5", "examples"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(k=(1, 91)), "k is 91, but blobs train has 90 images"),
        (dict(k=()), "k must be"),
        (dict(k=(0,)), "k must be"),
        (dict(k=(5,), temperature=0), "temperature must be positive"),
        (dict(k=(5,), chunk=0), "chunk must be"),
        (dict(k=(5,), distance="euclidean"), "unknown distance of knn 'euclidean'. Choices: cosine, l1, l2"),
        (dict(k=(5,), distance="l2", temperature=0.07), "temperature weighs cosines, and with distance='l2'"),
    ],
)
def test_options_that_make_no_sense(mesh, options, message):
    sets = dict(data=open_set(Blobs(37, 1), mesh(1)), train=open_set(Blobs(90, 0), mesh(1)))
    with pytest.raises(UserError, match=message):
        knn.make_knn(task=Pixels(), **sets, **options)


def test_sets_of_different_classes(mesh):
    sets = dict(data=open_set(Blobs(37, 1, classes=3), mesh(1)), train=open_set(Blobs(90, 0), mesh(1)))
    with pytest.raises(UserError, match="blobs train has 7 classes, blobs test has 3"):
        knn.make_knn(task=Pixels(), **sets)
