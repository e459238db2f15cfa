import itertools
import multiprocessing
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.data import loader, order
from jaxvision.data.bad import BadRecords
from jaxvision.data.sources import Info, Source, open_source
from jaxvision.errors import UserError

HOST = "decode|random_resized_crop(12)"


def train(source, start=0, stop=6, **kwargs):
    kwargs = {"batch_size": 8, "seed": 1, "threads": 3, **kwargs}
    return list(loader.train_batches(source, HOST, start=start, stop=stop, **kwargs))


def evaluate(source, **kwargs):
    return list(loader.eval_batches(source, "decode|resize(4)", **{"batch_size": 8, "threads": 3, **kwargs}))


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


@pytest.mark.parametrize("threads", [0, 1, 16])
def test_threads_change_nothing(pictures, threads):
    assert_equal(train(pictures, threads=threads), train(pictures))
    assert_equal(evaluate(pictures, threads=threads), evaluate(pictures))


@pytest.fixture
def files(tmp_path, encode, photo):
    """A source that pickles: a folder of 23 images, of which number 5 is broken."""
    for i in range(23):
        folder = tmp_path / "train" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:02}.png").write_bytes(encode(photo(i)))
    (tmp_path / "train" / "a" / "10.png").write_bytes(b"broken")
    return open_source("folder", "train", data_dir=str(tmp_path))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_worker_processes_change_nothing(files, processes):
    assert_equal(train(files, processes=processes), train(files))
    if processes == 2:
        assert_equal(evaluate(files, processes=processes), evaluate(files))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [dict(threads=0), dict(threads=8), dict(processes=2)], ids=str)
def test_bad_examples_are_counted_at_their_step_whoever_reads_ahead(files, workers):
    """Against the order of the stream; example 5 comes once in 23 positions, and then again."""
    bad = BadRecords(files, 0.1)
    batches = loader.train_batches(files, HOST, batch_size=4, seed=0, start=0, stop=12, bad=bad, **workers)
    where = [step for step in range(12) if 5 in files.order(0, 4 * step, 4 * step + 4)]
    assert len(where) == 2
    for step, _ in enumerate(batches):
        bad.advance(step)  # as a loop that has not yet taken this step
        assert len(bad) == (step > where[0])
    assert bad.advance(12) is False
    assert bad.state()["named"][0]["step"] == where[0] + 1


def test_the_account_of_a_resumed_stream_is_that_of_the_whole(files):
    def account(state, start, stop):
        bad = BadRecords(files, 0.1)
        bad.load(state)
        for _ in loader.train_batches(files, HOST, batch_size=4, seed=0, start=start, stop=stop, bad=bad):
            pass
        bad.advance(stop)
        return bad.state()

    empty = BadRecords(files, 0.1).state()
    for stop in range(12):
        assert account(account(empty, 0, stop), stop, 12) == account(empty, 0, 12)


def test_errors_of_worker_processes_keep_their_kind(files):
    with pytest.raises(UserError, match="1 examples of .* more than the 0 that max_bad_fraction allows"):
        train(files, stop=9, processes=1, max_bad_fraction=0)
    assert not multiprocessing.active_children()


class Numbers(Source):
    """Tiny images that hold their index."""

    def __init__(self, n):
        self.info = Info("numbers", "train", n, (), None)

    def __len__(self):
        return self.info.num_examples

    def __getitem__(self, index):
        return {"image": np.full((2, 3, 3), index, np.uint8)}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_run_may_stop_at_any_batch_and_go_on_elsewhere(data):
    """... with another number of threads and hosts, wherever epochs begin."""
    n, seed, hosts = (data.draw(st.integers(low, high)) for low, high in [(1, 40), (0, 2**32), (1, 4)])
    batch_size = hosts * data.draw(st.integers(1, 20))
    stop = data.draw(st.integers(1, 8))
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, stop), max_size=3))), stop]
    host = "random_crop(2, padding=1)"
    options = dict(batch_size=batch_size, seed=seed, fields=("image",))
    whole = list(loader.train_batches(Numbers(n), host, start=0, stop=stop, threads=0, **options))
    resumed = []
    for start, end in itertools.pairwise(cuts):
        threads, count = data.draw(st.sampled_from([0, 1, 3])), data.draw(st.sampled_from([1, hosts]))
        parts = [
            loader.train_batches(
                Numbers(n),
                host,
                start=start,
                stop=end,
                threads=threads,
                process_index=i,
                process_count=count,
                **options,
            )
            for i in range(count)
        ]
        resumed += [{f: np.concatenate([p[f] for p in step]) for f in step[0]} for step in zip(*parts)]
    assert_equal(whole, resumed)


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_every_epoch_holds_each_example_once(batch_size):
    batches = loader.train_batches(
        Numbers(14), "", batch_size=batch_size, seed=0, start=0, stop=28, fields=("image",), threads=2
    )
    seen = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches])
    for epoch in seen[: len(seen) // 14 * 14].reshape(-1, 14):
        assert sorted(epoch) == list(range(14))


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


def test_worker_processes_have_no_need_of_jax():
    code = "import sys, jaxvision.data.loader; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_close_ends_the_threads(pictures):
    before = set(threading.enumerate())
    batches = loader.train_batches(pictures, HOST, batch_size=4, seed=0, start=0, stop=10**6)
    next(batches)
    batches.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive()
