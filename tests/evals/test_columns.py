"""Columns give the same rows wherever they lie, on any number of devices."""

import jax
import numpy as np
import pytest

from jaxvision.evals import columns, knn
from jaxvision.evals.columns import Column, blocks, choose, computed, place
from jaxvision.parallel.mesh import batch_sharding, replicated, shard_batch

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)


def grown(mesh, limit, monkeypatch, rows=range(21)):
    monkeypatch.setattr(columns, "DEVICE_BYTES", limit)
    column = Column(21, mesh)
    for start in range(0, 24, 8):
        column.add(shard_batch(X[start : start + 8], mesh))
    return column.take(np.asarray(rows))


@pytest.mark.parametrize("devices", [1, 8])
def test_a_column_stays_on_the_devices_if_it_is_small(mesh, devices, monkeypatch):
    for rows in (np.arange(21), np.arange(24), np.delete(np.arange(24), 7)):
        small = grown(mesh(devices), 24 * 3 * 4, monkeypatch, rows)
        large = grown(mesh(devices), 24 * 3 * 4 - 1, monkeypatch, rows)
        assert isinstance(small, jax.Array)
        assert small.is_fully_replicated
        assert isinstance(large, np.ndarray)
        np.testing.assert_array_equal(small, X[rows])
        np.testing.assert_array_equal(large, X[rows])


@pytest.mark.parametrize("devices", [1, 8])
def test_rows_are_placed_as_from_the_host(mesh, devices, monkeypatch):
    here = mesh(devices)
    on_device, on_host = (grown(here, limit, monkeypatch) for limit in (2**20, 0))
    for sharding, start, count in ((batch_sharding(here), 0, 24), (replicated(here), 16, 8), (replicated(here), 0, 21)):
        ends = [place(array, start, count, sharding) for array in (on_device, on_host)]
        np.testing.assert_array_equal(*ends)
        assert all(end.sharding.is_equivalent_to(sharding, 2) for end in ends)
    for split in (True, False):
        of_device, of_host = (list(blocks((array,), 16, here, split=split)) for array in (on_device, on_host))
        np.testing.assert_array_equal(of_device, of_host)
        assert not np.any(of_host[1][0][5:])  # filled up with zeros
    rows = np.array([3, 3, 20, 0, 1, 9, 8, 7])
    np.testing.assert_array_equal(choose(on_device, rows, here), X[rows])
    np.testing.assert_array_equal(choose(on_host, rows, here), X[rows])


def test_results_come_in_order_and_few_are_computed_at_once():
    begun = []
    results = computed((begun.append(i), i)[1] for i in range(6))
    assert next(results) == 0
    assert begun == [0, 1, 2]
    assert list(results) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("devices", [1, 8])
def test_a_bank_of_neighbours_is_the_same(mesh, devices, monkeypatch):
    here, labels = mesh(devices), np.arange(21, dtype=np.int32) % 5
    banks = [knn._spread(grown(here, limit, monkeypatch), labels, 2, here) for limit in (2**20, 0)]
    for one, other in zip(*banks, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.sum(np.asarray(banks[0][1]) >= 0) == 21
