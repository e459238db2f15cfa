"""Features are computed once for the same variables, images and layer, and again where any of these differs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.evals import dataset, features
from jaxvision.evals import store as stores
from jaxvision.evals.store import Store, digest
from jaxvision.parallel.mesh import make_mesh, replicate, split_rows

VARIABLES = {"params": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}}


class Noise(Source):
    def __init__(self, n=20):
        self.images = np.random.default_rng(n).integers(0, 256, (n, 2, 2, 3)).astype(np.uint8)
        self.info = Info("noise", "train", n, (), 5)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": self.images[i], "label": i % 5}


class Counting(NamedTuple):
    """A task that counts how many images went through it."""

    seen: list

    def outputs(self, variables, batch):
        jax.debug.callback(lambda x: self.seen.append(len(x)), batch["image"])
        x = batch["image"].mean(axis=(1, 2)) @ variables["params"]["kernel"] + variables["params"]["bias"]
        return {"features": x, "stages": (batch["image"], x)}


def open_set(mesh, store, augment="", identity=None, n=20):
    identity = identity or {"split": "train"}
    return dataset.EvalSet(
        Noise(n), host="decode", augment=augment, batch_size=n, mesh=mesh, store=store, identity=identity
    )


def passes(task, data, variables=VARIABLES, layers=("features",)):
    """How often the split went through the model, and what came out."""
    before = len(task.seen)
    computed = features.make_layer_features(task=task, data=data, layers=layers)(variables)
    jax.effects_barrier()
    return len(task.seen) - before, computed


def test_evaluators_of_one_step_share_features(mesh):
    task, data = Counting([]), open_set(mesh(1), Store())
    first, computed = passes(task, data, layers=("features", "stages/0"))
    assert first == 1  # several layers, one pass
    for layers in (("features",), ("stages/0", "features")):
        again, by_layer = passes(task, data, layers=layers)
        assert again == 0
        for layer in layers:
            for a, b in zip(by_layer[layer], computed[layer], strict=True):
                np.testing.assert_array_equal(a, b)
    more, by_layer = passes(task, data, layers=("features", "stages/1"))
    assert more == 1  # for the one that is missing
    np.testing.assert_array_equal(by_layer["stages/1"].values, by_layer["features"].values)


def test_whatever_changes_features_makes_them_new(mesh):
    store, task = Store(), Counting([])
    assert passes(task, open_set(mesh(1), store))[0] == 1
    assert passes(task, open_set(mesh(1), store))[0] == 0
    assert passes(task, open_set(mesh(1), store, augment="flip_lr(1.0)"))[0] == 1
    assert passes(task, open_set(mesh(1), store, identity={"split": "test"}))[0] == 1
    part = open_set(mesh(1), store).take(np.arange(7))
    other = open_set(mesh(1), store).take(np.arange(7) + 1)
    assert [passes(task, part)[0], passes(task, other)[0], passes(task, part)[0]] == [1, 1, 0]
    changed = jax.tree.map(lambda x: x + 1e-7, VARIABLES)
    assert passes(task, open_set(mesh(1), store), changed)[0] == 1
    assert passes(task, open_set(mesh(1), store), VARIABLES)[0] == 1  # those of the latest variables only are kept


def test_files_serve_other_processes_and_another_model_does_not_read_them(mesh, tmp_path):
    folder, task = tmp_path / "features", Counting([])
    first, computed = passes(task, open_set(mesh(1), Store({"model": "a"}, folder)))
    again, by_layer = passes(task, open_set(mesh(1), Store({"model": "a"}, folder)))
    assert (first, again) == (1, 0)
    for a, b in zip(by_layer["features"], computed["features"], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert passes(task, open_set(mesh(1), Store({"model": "b"}, folder)))[0] == 1
    (one, other) = sorted(folder.iterdir())
    assert {one.suffix, other.suffix} == {".npz"}
    with np.load(one) as arrays:
        assert '"layer": "features"' in str(arrays["key"])
        assert set(arrays) == {"values", "labels", "rows", "key"}


def test_within_a_process_nothing_is_hashed_and_only_the_same_arrays_are_recognised(mesh, monkeypatch):
    task, data = Counting([]), open_set(mesh(1), Store())
    monkeypatch.setattr(stores, "digest", None)  # not callable
    assert [passes(task, data)[0] for _ in range(2)] == [1, 0]
    assert passes(task, data, {"params": dict(VARIABLES["params"])})[0] == 0  # other dicts, the same arrays
    assert passes(task, data, jax.tree.map(jnp.copy, VARIABLES))[0] == 1
    swapped = {"params": dict(zip(("bias", "kernel"), VARIABLES["params"].values(), strict=True))}
    assert not stores.Identity(VARIABLES).recognises(swapped)
    assert not stores.Identity(VARIABLES).recognises({**VARIABLES, "batch_stats": jnp.zeros(2)})


def test_arrays_that_can_change_in_place_are_not_recognised(mesh):
    task, data = Counting([]), open_set(mesh(1), Store())
    variables = jax.tree.map(np.array, VARIABLES)
    first = passes(task, data, variables)[1]["features"].values
    variables["params"]["bias"] += 1
    again, by_layer = passes(task, data, variables)
    assert again == 1
    np.testing.assert_allclose(by_layer["features"].values, first + 1, rtol=1e-6)


def test_features_end_with_their_variables(mesh):
    store = Store()
    variables = jax.tree.map(jnp.copy, VARIABLES)
    data = open_set(mesh(1), store)
    passes(Counting([]), data, variables)
    assert store.find(variables, data.identity, "features") is not None
    stepped = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    variables = stepped(variables)  # as in training: the arrays before the step are gone
    assert not store._kept
    assert store.find(variables, data.identity, "features") is None


def test_a_file_is_found_by_the_values_of_the_variables(mesh, tmp_path, monkeypatch):
    task, store, hashed = Counting([]), Store({}, tmp_path), []
    monkeypatch.setattr(stores, "digest", lambda tree: (hashed.append(1), digest(tree))[1])
    assert passes(task, open_set(mesh(1), store), layers=("features", "stages/1"))[0] == 1
    assert len(hashed) == 1  # once for all layers and evaluators
    again, _ = passes(task, open_set(mesh(1), store), jax.tree.map(jnp.copy, VARIABLES))
    assert (again, len(hashed)) == (0, 2)
    changed = jax.tree.map(lambda x: x + 1e-7, VARIABLES)
    assert passes(task, open_set(mesh(1), Store({}, tmp_path)), changed)[0] == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_memory_is_bounded(mesh, monkeypatch):
    monkeypatch.setattr(stores, "MEMORY_BYTES", 20 * 2 * 4)
    task, store = Counting([]), Store()
    data = open_set(mesh(1), store)
    for layer, computed in (("features", 1), ("features", 0), ("stages/0", 1), ("stages/0", 1), ("features", 0)):
        assert passes(task, data, layers=(layer,))[0] == computed


def test_without_a_store_nothing_is_kept(mesh):
    task, data = Counting([]), open_set(mesh(1), None)
    assert [passes(task, data)[0], passes(task, data)[0]] == [1, 1]


def test_a_digest_is_of_values_and_names_not_of_where_they_lie():
    x = np.arange(16, dtype=np.float32).reshape(8, 2)
    mesh = make_mesh()
    same = [{"a": x}, {"a": jnp.asarray(x)}, {"a": split_rows(x, mesh)}, {"a": replicate(x, mesh)}]
    assert len({digest(tree) for tree in same}) == 1
    nudged = x.copy()
    nudged[3, 1] = np.nextafter(nudged[3, 1], np.float32(9))
    others = [{"b": x}, {"a": x.T}, {"a": x.astype(np.float64)}, {"a": nudged}, {"a": x.ravel()}]
    assert len({digest(tree) for tree in (*same[:1], *others)}) == 6


@pytest.mark.parametrize("layers", [("feature",), ("features", "stages/7")])
def test_layers_are_checked_without_a_pass(mesh, layers):
    task, data = Counting([]), open_set(mesh(1), None)
    with pytest.raises(UserError, match="unknown layer"):
        features.check_layers(task, data, VARIABLES, layers)
    assert not task.seen
