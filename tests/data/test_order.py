import numpy as np

from jaxvision.data import order


def test_every_epoch_holds_each_example_once_in_another_order():
    epochs = order.indices(3, 10, 0, 40).reshape(4, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_any_part_of_the_stream_can_be_asked_for_alone():
    whole = order.indices(3, 10, 0, 60)
    for start, stop in [(0, 0), (0, 7), (9, 11), (10, 20), (15, 58), (33, 34)]:
        np.testing.assert_array_equal(order.indices(3, 10, start, stop), whole[start:stop])


def test_seeds_differ():
    assert (order.indices(0, 100, 0, 100) != order.indices(1, 100, 0, 100)).any()


def test_a_set_of_one_example():
    assert order.indices(0, 1, 2, 5).tolist() == [0, 0, 0]
