"""Feeds: the batch of a step is the same however it comes."""

import numpy as np
import pytest

from jaxvision.data import loader, order
from jaxvision.data.bad import BadRecords
from jaxvision.train import feed as feeds


def shuffled(start, stop):
    return order.indices(3, 37, start, stop)


def batches(feed, start, lengths):
    """The batches that the steps would see."""
    batches_seen = []
    for item, length in zip(feed.items(start, lengths), lengths):
        for i in range(length):
            one = {k: v[i] for k, v in item.items()} if isinstance(item, dict) else item[i]
            batches_seen.append({k: np.asarray(v) for k, v in feed.fetch(feed.constants, one).items()})
    return batches_seen


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("chunk", [1, 4])
def test_memory_feed_follows_the_order(images, mesh, devices, chunk):
    arrays = {**images, "label": np.arange(37, dtype=np.int32)}
    feed = feeds.from_arrays(arrays, shuffled, mesh(devices), batch_size=16, max_steps=chunk)
    fed = batches(feed, 2, [chunk] * (8 // chunk))
    want = order.indices(3, 37, 2 * 16, 10 * 16).reshape(8, 16)
    np.testing.assert_array_equal([b["label"] for b in fed], want)
    np.testing.assert_array_equal([b["image"] for b in fed], images["image"][want])
    assert all(b["mask"].all() for b in fed)


def test_stream_equals_memory(images, mesh):
    from jaxvision.data.sources import Info, Source

    class Numbered(Source):
        info = Info("numbered", "train", 37, (), 37)

        def __len__(self):
            return 37

        def __getitem__(self, i):
            return {"image": images["image"][i], "label": i}

    def stream(start, stop):
        return loader.train_batches(Numbered(), "decode", batch_size=16, seed=3, start=start, stop=stop)

    arrays = {**images, "label": np.arange(37, dtype=np.int32)}
    memory = feeds.from_arrays(arrays, shuffled, mesh(8), batch_size=16, max_steps=1)
    for a, b in zip(batches(feeds.from_stream(stream, mesh(8)), 1, [1] * 5), batches(memory, 1, [1] * 5), strict=True):
        assert a.keys() == b.keys()
        for field in a:
            np.testing.assert_array_equal(a[field], b[field])


def test_a_stream_that_is_left_is_closed(mesh):
    closed = []

    def stream(start, stop):
        try:
            for step in range(start, stop):
                yield {"x": np.full(8, step)}
        finally:
            closed.append(True)

    items = feeds.from_stream(stream, mesh(1)).items(0, [1] * 10)
    assert next(items)["x"][0, 0] == 0
    items.close()
    assert closed == [True]


def test_rows_that_could_not_be_read_into_memory_are_counted_as_a_stream_counts_them(images, mesh):
    """Rows 3 and 4 are bad: who asks for 3 meets both, who asks for 4 meets one."""
    mask = np.ones(37, bool)
    mask[[3, 4]] = False
    bad = BadRecords(
        type("Rows", (), {"__len__": lambda self: 37, "describe": lambda self, i: str(i)})(), 0.5, warn=False
    )
    feed = feeds.from_arrays({**images, "mask": mask}, shuffled, mesh(1), batch_size=16, max_steps=2, bad=bad)
    for length in batches(feed, 0, [2, 1, 1]):
        assert length["mask"].all()
    stream = [set(order.indices(3, 37, 16 * step, 16 * step + 16).tolist()) for step in range(4)]
    for step in range(5):
        bad.advance(step)
        seen = set().union(*stream[:step]) & {3, 4}
        assert set(bad.state()["indices"]) == (seen | {4} if 3 in seen else seen)
