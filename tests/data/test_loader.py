import threading

import numpy as np
import pytest

from jaxvision.data import loader, order
from jaxvision.errors import UserError

HOST = "decode|random_resized_crop(12)"


def train(source, start=0, stop=6, **kwargs):
    kwargs = {"batch_size": 8, "seed": 1, "threads": 3, **kwargs}
    return list(loader.train_batches(source, HOST, start=start, stop=stop, **kwargs))


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        assert batch.keys() == other.keys()
        for field in batch:
            np.testing.assert_array_equal(batch[field], other[field], strict=True)


def test_train_batches_follow_the_order(pictures):
    batches = train(pictures, fields=("image", "label", "weight"))
    expected = order.indices(1, 23, 0, 48)
    np.testing.assert_array_equal(np.concatenate([b["weight"] for b in batches]) * 2, expected)
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches]), expected % 3)
    for batch in batches:
        assert batch["image"].shape == (8, 12, 12, 3)
        assert [batch[f].dtype for f in ("image", "label", "mask")] == [np.uint8, np.int32, np.bool_]
        assert batch["mask"].all()


def test_threads_change_nothing(pictures):
    assert_equal(train(pictures, threads=1), train(pictures, threads=16))


def test_a_resumed_run_continues_the_stream(pictures):
    assert_equal(train(pictures)[2:], train(pictures, start=2))


def test_seeds_change_order_and_draws(pictures):
    assert (train(pictures)[0]["image"] != train(pictures, seed=2)[0]["image"]).any()


def test_an_example_is_cropped_anew_every_epoch(pictures):
    first, second = (train(pictures, e, e + 1, batch_size=23, fields=("image", "weight"))[0] for e in (0, 1))
    a, b = (batch["image"][np.argsort(batch["weight"])] for batch in (first, second))
    assert (a != b).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("count", [2, 4])
def test_blocks_of_all_processes_are_the_batch_of_one(pictures, count):
    parts = [train(pictures, process_index=i, process_count=count) for i in range(count)]
    joined = [{f: np.concatenate([p[f] for p in step]) for f in step[0]} for step in zip(*parts)]
    assert_equal(joined, train(pictures))


def evaluate(source, **kwargs):
    return list(loader.eval_batches(source, "decode|resize(4)", **{"batch_size": 8, "threads": 3, **kwargs}))


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [8, 16, 64])
def test_evaluation_sees_every_example_once(pictures, count, batch_size):
    fields = ("image", "label", "weight")
    parts = [
        evaluate(pictures, batch_size=batch_size, fields=fields, process_index=i, process_count=count)
        for i in range(count)
    ]
    assert len({len(part) for part in parts}) == 1
    rows = [{f: np.concatenate([p[f] for p in step]) for f in step[0]} for step in zip(*parts)]
    assert all(len(row["mask"]) == batch_size for row in rows)
    whole = {f: np.concatenate([row[f] for row in rows]) for f in rows[0]}
    assert whole["mask"].tolist() == [True] * 23 + [False] * (len(whole["mask"]) - 23)
    np.testing.assert_array_equal(whole["weight"][:23] * 2, np.arange(23))
    assert not whole["image"][23:].any()


def test_evaluation_masks_what_cannot_be_decoded(pictures):
    pictures.images[5] = b"broken"
    mask = np.concatenate([b["mask"] for b in evaluate(pictures)])
    assert np.flatnonzero(~mask).tolist() == [5, 23]


def test_errors_keep_their_kind(pictures, encode, photo):
    with pytest.raises(UserError, match="cannot be divided among 3"):
        train(pictures, process_count=3)
    with pytest.raises(UserError, match="did you mean 'image'"):
        train(pictures, fields=("imag",))
    pictures.images[3] = encode(photo(3, 20, 20))
    with pytest.raises(UserError, match="resize"):
        list(loader.train_batches(pictures, "decode", batch_size=23, seed=0, start=0, stop=1))


def test_close_ends_the_threads(pictures):
    before = set(threading.enumerate())
    batches = loader.train_batches(pictures, HOST, batch_size=4, seed=0, start=0, stop=10**6)
    next(batches)
    batches.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive()
