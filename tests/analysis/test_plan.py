"""Plans for devices that are not here, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxvision.analysis import plan
from jaxvision.analysis.collectives import Collective
from jaxvision.errors import UserError
from jaxvision.hardware import CHIPS


def test_bytes_of_one_device(mesh):
    eight = mesh(8, fsdp=8, data=1)
    split = NamedSharding(eight, PartitionSpec("fsdp"))
    whole = NamedSharding(eight, PartitionSpec())
    tree = {
        "a": jax.ShapeDtypeStruct((16, 3), jnp.float32, sharding=split),
        "b": jax.ShapeDtypeStruct((5,), jnp.bfloat16, sharding=whole),
    }
    assert plan.device_bytes(tree) == 2 * 3 * 4 + 5 * 2


def test_a_gather_in_one_server_and_in_two():
    """1 GB: in a server of 8, 7/8 of it over NVLink; then half of each eighth over the network."""
    h100 = CHIPS["H100"]
    inside = 1e9 * 7 / 8 / 450e9
    assert plan.gather_seconds(1e9, 8, h100) == pytest.approx(inside)
    assert plan.gather_seconds(1e9, 16, h100) == pytest.approx(inside + 1e9 / 8 / 2 / 50e9)


def test_a_slice_of_a_torus_that_does_not_wrap_around_sends_half():
    v5e = CHIPS["v5e"]
    assert plan.gather_seconds(1e9, 16, v5e) == pytest.approx(1e9 * 15 / 16 / 100e9)
    assert plan.gather_seconds(1e9, 256, v5e) == pytest.approx(1e9 * 255 / 256 / 200e9)


def test_more_devices_than_any_slice_has():
    with pytest.raises(UserError, match="8192 devices are more than a slice of TPU v4"):
        plan.gather_seconds(1e9, 8192, CHIPS["v4"])


def test_a_step_takes_as_long_as_its_products_or_its_sends():
    chip = CHIPS["A100"]
    alone = plan.step_time(312e12, 10**9, 1, chip, "bfloat16")
    assert alone.seconds == pytest.approx((2.0, 1 / 0.3))
    assert alone.sends == 0.0
    many = plan.step_time(312e9, 10**9, 8, chip, "bfloat16")  # a tiny batch of a large model
    assert many.sends == pytest.approx(2 * 2e9 * 7 / 8 / 300e9)
    assert many.seconds == (many.sends, many.sends)


def test_float32_is_slower_and_sends_twice_the_bytes():
    half, full = (plan.step_time(1e15, 10**8, 8, CHIPS["H100"], name) for name in ("bfloat16", "float32"))
    assert full.sends == 2 * half.sends
    assert full.compute[0] / half.compute[0] == pytest.approx(989 / 494)


def test_a_tensor_axis_sends_the_gradients_of_a_part():
    parts = plan.step_time(1e15, 10**8, 8, CHIPS["H100"], "bfloat16", tensor=4)
    assert parts.sends == pytest.approx(2 * plan.gather_seconds(2 * 10**8 / 4, 2, CHIPS["H100"]))
    assert plan.step_time(1e15, 10**8, 8, CHIPS["H100"], "bfloat16", tensor=8).sends == 0.0


def test_a_tensor_axis_that_fills_the_servers_leaves_the_network_to_the_gradients():
    """Two servers, each with all parts of the layers: both parts of 1/8 of the parameters meet over the network."""
    parts = plan.step_time(1e15, 10**9, 16, CHIPS["H100"], "bfloat16", tensor=8)
    assert parts.sends == pytest.approx(2 * (2e9 / 8) / 2 / 50e9)  # 5 ms
    halves = plan.step_time(1e15, 10**9, 16, CHIPS["H100"], "bfloat16", tensor=4)
    assert halves.sends == pytest.approx(2 * ((2e9 / 4) / 2 / 450e9 + (2e9 / 4) / 2 / 2 / 50e9))


def test_a_slice_with_a_tensor_axis_wraps_around_with_all_its_devices():
    v4 = CHIPS["v4"]
    assert plan.gather_seconds(1e9, 16, v4, tensor=4) == pytest.approx(1e9 * 15 / 16 / 300e9)
    with pytest.raises(UserError, match="8192 devices are more than a slice of TPU v4"):
        plan.gather_seconds(1e9, 2048, v4, tensor=4)


def test_an_island_that_is_not_full_is_still_another_island():
    h100 = CHIPS["H100"]
    assert plan.gather_seconds(1e9, 12, h100) == pytest.approx(plan.gather_seconds(1e9, 16, h100))


def test_time_of_listed_collectives():
    one = Collective("all-reduce", (("f32", (1000,)),), 4, ("data",), times=3)
    assert plan.sent_seconds([one, one], CHIPS["H100"]) == pytest.approx(2 * 3 * 2 * 4000 * 3 / 4 / 450e9)
