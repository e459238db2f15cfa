"""Traces of the profiler: a real one, and made-up events of devices that are not here."""

import jax
import jax.numpy as jnp
import pytest

from jaxvision.analysis import traces
from jaxvision.analysis.traces import Operation


def test_a_trace_names_the_modules_of_its_operations(tmp_path):
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(64, name="last")(nn.relu(nn.Dense(64, name="first")(x)))

    net, x = Net(), jnp.ones((64, 64))
    variables = net.init(jax.random.key(0), x)
    step = jax.jit(jax.grad(lambda v: net.apply(v, x).sum()))
    jax.block_until_ready(step(variables))
    with jax.profiler.trace(str(tmp_path)):
        jax.block_until_ready(step(variables))
    trace = traces.read_trace(tmp_path)
    found = {(operation.kind, operation.direction, operation.path) for operation in trace.seconds}
    assert ("matrix products", "forward", "Net/first/dot_general") in found
    assert ("matrix products", "backward", "Net/last/dot_general") in found
    assert 0 < trace.busy <= sum(trace.seconds.values()) * 2


def test_what_the_devices_send_is_a_kind():
    assert {Operation(f"{name}.3", "").kind for name in ("all-reduce", "all-gather-start", "reduce-scatter")} == {
        "communication"
    }
    assert Operation("reduce.3", "").kind == "sums and maxima"


def test_no_trace_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no trace"):
        traces.read_trace(tmp_path)


def test_the_operations_of_a_tpu_are_those_of_its_thread():
    name = {"ph": "M", "name": "thread_name", "pid": 3, "tid": 7, "args": {"name": "XLA Ops"}}
    event = {"ph": "X", "pid": 3, "tid": 7, "ts": 0.0, "dur": 2e6, "name": "fusion.3"}
    other = {"ph": "X", "pid": 3, "tid": 8, "ts": 0.0, "dur": 9e6, "name": "a whole step"}
    args = {"tf_op": "jit(run)/jvp(ViT)/block_0/add"}
    trace = traces.read_events([name, event | {"args": args}, other], {})
    assert trace.seconds == {Operation("fusion.3", args["tf_op"]): 2.0}
    assert trace.busy == 2.0


def test_busy_counts_operations_side_by_side_once_and_is_a_mean_over_devices():
    event = lambda pid, start, stop: {
        "ph": "X", "pid": pid, "ts": start * 1e6, "dur": (stop - start) * 1e6, "args": {"hlo_op": "add"}
    }  # fmt: skip
    assert traces.read_events([event(1, 0, 2), event(1, 1, 3), event(1, 5, 6)], {}).busy == 4.0
    two = traces.read_events([event(1, 0, 2), event(2, 0, 1)], {})
    assert (two.busy, two.devices, two.seconds) == (1.5, 2, {Operation("add", ""): 3.0})


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("jit(run)/jit(main)/transpose(jvp(ResNet))/stage1_block0/conv1/conv_general_dilated",
         "ResNet/stage1_block0/conv1/conv_general_dilated"),
        ("jit(run)/jvp(ViT)/checkpoint/rematted_computation/mlp/dot_general", "ViT/mlp/dot_general"),
        ("jit(run)/add", "add"),
        ("jit(run)/(transpose(jvp(R))/conv1/reduce_sum:jvp()/reduce_sum:jvp()/add", "R/conv1/reduce_sum and 2 more"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_path_of_an_operation(source, path):
    assert Operation("fusion", source).path == path


def test_what_the_profiler_stores_beside_the_events_is_read_field_by_field():
    def field(number, value):
        varint = lambda n: bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7])
        if isinstance(value, int):
            return varint(number << 3) + varint(value)
        return varint(number << 3 | 2) + varint(len(value)) + value

    source = lambda text: field(7, field(2, text))
    inside = field(5, 9) + field(2, field(1, b"max.1") + source(b"f/R/relu/max"))  # the computation of the fusion
    fusion = field(1, b"fusion.1") + field(38, bytes([9]))
    convolution = field(1, b"fusion.2") + source(b"f/R/conv1/conv_general_dilated") + field(38, bytes([9]))
    without = field(1, b"convolution.3")  # made by XLA
    entry = field(5, 10) + b"".join(field(2, one) for one in (fusion, convolution, without))
    program = field(1, field(1, b"jit_f") + field(3, inside) + field(3, entry))
    stats = field(5, field(1, 1) + field(6, program))
    metadata = field(2, b"/host:metadata") + field(4, field(1, 1) + field(2, stats))
    planes = field(1, field(2, b"/host:CPU")) + field(1, metadata)
    assert traces.operation_sources(planes) == {
        ("jit_f", "max.1"): "f/R/relu/max",
        ("jit_f", "fusion.1"): "f/R/relu/max",
        ("jit_f", "fusion.2"): "f/R/conv1/conv_general_dilated",
    }
    assert traces.operation_sources(b"") == {}
