import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxvision.errors import UserError
from jaxvision.parallel.mesh import (
    batch_axis_size,
    batch_sharding,
    check_batch,
    chunk_sharding,
    make_mesh,
    replicate,
    replicated,
    shard_batch,
    split_rows,
)


def test_the_rest_goes_to_the_axis_of_minus_one(mesh):
    assert dict(mesh().shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert dict(mesh(fsdp=2, tensor=2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert dict(mesh(data=1, fsdp=-1).shape) == {"data": 1, "fsdp": 8, "tensor": 1}
    assert dict(mesh(devices=1).shape) == {"data": 1, "fsdp": 1, "tensor": 1}
    assert mesh().axis_types == (AxisType.Auto,) * 3


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"data": 3}, "mesh data=3 x fsdp=1 x tensor=1 does not fit 8 devices"),
        ({"fsdp": 3}, "mesh data=-1 x fsdp=3 x tensor=1 does not fit 8 devices"),
        ({"fsdp": 16}, "does not fit 8 devices"),
        ({"data": 4}, "does not fit 8 devices"),
        ({"data": 0}, "must be positive"),
        ({"fsdp": -1}, r"-1 \(the rest\) for one axis"),
    ],
)
def test_sizes_that_do_not_fit(mesh, axes, message):
    with pytest.raises(UserError, match=message):
        mesh(**axes)


def test_the_tensor_axis_stays_within_a_process():
    class Device:
        def __init__(self, process_index):
            self.process_index = process_index

    with pytest.raises(UserError, match="must divide the 2 devices of a process"):
        make_mesh(tensor=4, devices=[Device(i // 2) for i in range(8)])


def test_check_batch(mesh):
    two_by_two = mesh(fsdp=2, tensor=2)
    assert batch_axis_size(two_by_two) == 4
    check_batch(12, two_by_two)
    with pytest.raises(UserError, match=r"batch size 100 does not divide over 8 devices \(data x fsdp\); try 96"):
        check_batch(100, mesh())
    with pytest.raises(UserError, match="try 8"):
        check_batch(1, mesh())


def test_batches_are_split_over_data_and_fsdp(mesh):
    grid = mesh(fsdp=2, tensor=2)
    batch = {"image": np.arange(8 * 3, dtype=np.uint8).reshape(8, 3), "label": np.arange(8)}
    sharded = shard_batch(batch, grid)
    assert sharded["image"].sharding == batch_sharding(grid)
    assert sharded["image"].addressable_shards[0].data.shape == (2, 3)
    jax.tree.map(np.testing.assert_array_equal, sharded, batch)

    chunk = shard_batch({"label": batch["label"][None]}, grid, leading=1)
    assert chunk["label"].sharding == chunk_sharding(grid)
    assert chunk_sharding(grid).spec == PartitionSpec(None, ("data", "fsdp"))
    assert chunk["label"].addressable_shards[0].data.shape == (1, 2)


def test_rows_of_whole_arrays_go_to_their_devices(mesh):
    grid = mesh(fsdp=2, tensor=2)
    arrays = {"x": np.arange(2 * 8 * 3).reshape(2, 8, 3), "label": np.arange(16).reshape(2, 8)}
    split = split_rows(arrays, grid, leading=1)
    assert split["x"].sharding == chunk_sharding(grid)
    jax.tree.map(np.testing.assert_array_equal, split, arrays)
    jax.tree.map(np.testing.assert_array_equal, split_rows(arrays["x"][0], grid), shard_batch(arrays["x"][0], grid))


def test_replicate(mesh):
    grid = mesh()
    whole = replicate({"x": np.arange(5), "n": np.int32(3)}, grid)
    assert whole["x"].sharding == replicated(grid)
    assert [shard.data.shape for shard in whole["x"].addressable_shards] == [(5,)] * 8
    assert int(whole["n"]) == 3
