"""Reading collectives from programs: texts of each backend's form, and a program of eight devices."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxvision.analysis.collectives import Collective, _groups, collectives, table, totals

# As GPU and TPU compilers write them: in two halves, in a loop of a known length, and wrapped in a computation.
ASYNCHRONOUS = """HloModule jit_step, is_scheduled=true, num_partitions=8

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%wrapped (p: f32[64,16]) -> f32[8,16] {
  ROOT %rs = f32[8,16]{1,0} reduce-scatter(%p), replica_groups=[1,8]<=[8], dimensions={0}, to_apply=%add
}

%body (state: (s32[], f32[4])) -> (s32[], f32[4]) {
  %cp = f32[4]{0:T(256)} collective-permute(%x), source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
}

ENTRY %main (a: bf16[4,16]) -> f32[8] {
  %ag-start = (bf16[4,16], bf16[16,16]{1,0:T(8,128)(2,1)}) all-gather-start(%a), replica_groups={{0,1,2,3},{4,5,6,7}}
  %ag-done = bf16[16,16]{1,0} all-gather-done(%ag-start), metadata={op_name="not here"}
  %ar-start = (f32[4]{0}, f32[]) all-reduce-start(%b, %c), replica_groups={}, to_apply=%add, metadata={op_name="loss"}
  %ar-done = (f32[4]{0}, f32[]) all-reduce-done(%ar-start)
  %async = ((f32[64,16]), f32[8,16], u32[]) async-start(%d), calls=%wrapped
  %loop = (s32[], f32[4]) while(%t), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %alone = f32[9]{0} all-reduce(%e), replica_groups={{0},{1}}, to_apply=%add
}
"""


def test_asynchronous_forms_loops_and_calls():
    found = {one.kind: one for one in collectives(ASYNCHRONOUS)}
    assert found == {
        "reduce-scatter": Collective("reduce-scatter", (("f32", (8, 16)),), 8),
        "collective-permute": Collective("collective-permute", (("f32", (4,)),), 4, times=3),
        "all-gather": Collective("all-gather", (("bf16", (16, 16)),), 4),
        "all-reduce": Collective("all-reduce", (("f32", (4,)), ("f32", ())), 8, source="loss"),
    }
    assert {kind: one.bytes for kind, one in found.items()} == {
        "reduce-scatter": 64 * 16 * 4,  # before it is scattered
        "collective-permute": 16,
        "all-gather": 16 * 16 * 2,
        "all-reduce": 20,
    }
    assert {kind: one.sent for kind, one in found.items()} == {
        "reduce-scatter": 64 * 16 * 4 * 7 / 8,
        "collective-permute": 3 * 16,
        "all-gather": 16 * 16 * 2 * 3 / 4,
        "all-reduce": 2 * 20 * 7 / 8,
    }


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}", [[0, 2], [1, 3]]),
        ("replica_groups={}", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("replica_groups=[2,4]<=[8]", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("replica_groups=mesh['a'=2,'b'=4] {'a'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("replica_groups=mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'a'}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=(0,2,1,3) {'b'}", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=8] {'a':(2)4}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("replica_groups=mesh['a'=8] {'a':(1)2}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ],
)
def test_forms_of_groups(text, groups):
    assert sorted(_groups(text + ", to_apply=%add", 8)) == groups


def test_a_program_of_eight_devices(mesh):
    """A product that is split over fsdp needs the whole matrix; its sum over the batch needs an all-reduce."""
    devices = mesh(fsdp=4)
    place = lambda *axes: NamedSharding(devices, P(*axes))
    x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=place(("data", "fsdp")))
    w = jax.ShapeDtypeStruct((32, 8), jnp.float32, sharding=place("fsdp"))
    compiled = jax.jit(lambda x, w: (x @ w).sum(0), out_shardings=place()).lower(x, w).compile()
    added = totals(collectives(compiled, devices))
    assert added["all-gather", ("fsdp",)] == (1, 32 * 8 * 4, 32 * 8 * 4 * 3 / 4)
    assert added["all-reduce", ("data", "fsdp")] == (1, 8 * 4, 2 * 8 * 4 * 7 / 8)
    assert "| all-gather | fsdp | 1 | 0.001 | 0.001 |" in table(collectives(compiled, devices))
    assert [one.axes for one in collectives(compiled)] == [(), ()]
