"""Reads the traces of JAX's profiler: the time of each operation of a program, and of each part of a model.

XLA joins operations; a fusion counts as what its name says first. On a CPU, an operation that runs on two threads
counts once, two that run side by side count twice: shares are of the sum.
"""

import collections
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

# A kind, and how the names of its operations in the compiled program begin. The first that fits counts.
NAMES = {
    "communication": r"all-(reduce|gather|to-all)|reduce-scatter|collective-|send|recv",
    "transposes and copies": r"(wrapped_)?(transpose|copy)|copy_bitcast",
    "broadcasts": r"wrapped_broadcast|broadcast(\.\d+)?$",
    "convolutions": r"convolution",
    "matrix products": r"dot",
    "sums and maxima": r"(wrapped_)?reduce",
}
# For fusions of XLA's libraries, whose names say nothing: what JAX calls the operation that they were made of.
SOURCES = {
    "convolutions": r"conv_general_dilated",
    "matrix products": r"dot_general",
    "sums and maxima": r"reduce",
}
LIBRARY = r"(ynn|onednn)_fusion|cublas|cudnn|custom-call|gemm_fusion"
REST = "element-wise"
OUTER = r"(while|cond|conditional|call)\b"  # operations whose time is that of others
NOISE = ("checkpoint", "rematted_computation")  # words that recomputation adds to the name of a part


class Operation(NamedTuple):
    """An operation of a compiled program.

    Attributes:
      name: Its name in the compiled program.
      source: Name that JAX gives to the operation that it was made of, with the modules around it; "" if unknown.
    """

    name: str
    source: str

    @property
    def kind(self) -> str:
        """Kind of the operation, a key of `NAMES`, `REST`, or "library, unknown"."""
        if re.match(LIBRARY, self.name):
            last = self.source.rsplit("/", 1)[-1]
            return next((kind for kind, word in SOURCES.items() if re.match(word, last)), "library, unknown")
        return next((kind for kind, start in NAMES.items() if re.match(start, self.name)), REST)

    @property
    def direction(self) -> str:
        """Pass of the training step: "forward", "backward" or "update"; "" if unknown."""
        if not self.source:
            return ""
        return "backward" if "transpose(" in self.source else "forward" if "jvp(" in self.source else "update"

    @property
    def part(self) -> str:
        """The pass and the part of the model, with the numbers of layers left out."""
        if not self.source:
            return "unknown"
        words = re.sub(r"(block|stage|layer|encoderblock)_?\d+", r"\1", self.source).split("/")
        return f"{self.direction:8} {'/'.join([word for word in words if word not in NOISE][-3:])}"

    @property
    def path(self) -> str:
        """The modules of the model around the operation, and what JAX calls it; "" if unknown."""
        first, *others = self.source.split(":")  # several, if XLA joined operations of one kind
        words = [word for word in first.split("/") if not word.startswith("jit(")]
        bare = [re.sub(r"^\(?(?:\w+\()*([^()]*)\)*$", r"\1", word) for word in words]
        path = "/".join(word for word in bare if word and word not in NOISE)
        return f"{path} and {len(others)} more" if others else path


class Trace(NamedTuple):
    """What a trace says of the devices.

    Attributes:
      seconds: Seconds of each operation, over the whole trace and all devices.
      busy: Seconds in which at least one operation ran, a mean over the devices.
      devices: Number of devices in the trace. Those of a CPU count as one.
    """

    seconds: Mapping[Operation, float]
    busy: float
    devices: int = 1


def read_trace(folder: Path) -> Trace:
    """Reads the newest trace in a folder.

    Args:
      folder: Folder that was given to `jax.profiler.trace`.

    Returns:
      The trace. It is empty if the profiler recorded no operations of a device.

    Raises:
      FileNotFoundError: There is no trace in the folder.
    """
    files = sorted(folder.glob("plugins/profile/*/*.trace.json.gz"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no trace of jax.profiler")
    events = json.loads(gzip.decompress(files[-1].read_bytes()))["traceEvents"]
    sources: Sources = {}
    for plane in files[-1].parent.glob("*.xplane.pb"):
        sources |= operation_sources(plane.read_bytes())
    return read_events(events, sources)


def read_events(events: list[dict[str, Any]], sources: Mapping[tuple[str, str], str]) -> Trace:
    """Adds up the operations among the events of a trace.

    Args:
      events: Events of a trace in Chrome's format.
      sources: Sources of the operations, from `operation_sources`.

    >>> event = {"ph": "X", "pid": 1, "ts": 0, "dur": 2e6, "args": {"hlo_op": "dot.1"}}
    >>> read_events([event, event], {})
    Trace(seconds={Operation(name='dot.1', source=''): 4.0}, busy=2.0, devices=1)
    """
    threads = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event.get("ph") == "M" and event.get("name") == "thread_name" and "tid" in event
    }
    seconds: dict[Operation, float] = collections.defaultdict(float)
    intervals: dict[Any, list[tuple[float, float]]] = collections.defaultdict(list)
    for event in events:
        if event.get("ph") != "X":
            continue
        arguments = event.get("args", {})
        name = arguments.get("hlo_op")
        if name is None and threads.get((event["pid"], event.get("tid"))) == "XLA Ops":  # of a TPU
            name = event.get("name")
        if not name:
            continue
        start, duration = float(event["ts"]) / 1e6, float(event.get("dur", 0)) / 1e6
        intervals[event["pid"]].append((start, start + duration))
        if not re.match(OUTER, name):
            known = sources.get((str(arguments.get("hlo_module")), name))
            source = known or arguments.get("tf_op") or arguments.get("name") or ""
            seconds[Operation(name, source)] += duration
    busy = [_covered(of_device) for of_device in intervals.values()]
    devices = max(len(busy), 1)
    return Trace(dict(seconds), sum(busy) / devices, devices)


def _covered(intervals: list[tuple[float, float]]) -> float:
    """The length of the union of intervals."""
    covered, end = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        covered += max(stop - max(start, end), 0.0)
        end = max(end, stop)
    return covered


def grouped(times: Mapping[Operation, float], by: str) -> dict[str, float]:
    """Adds up the times of operations.

    Args:
      times: Times by operation.
      by: Attribute of an operation, "kind" or "part".
    """
    sums: dict[str, float] = collections.defaultdict(float)
    for operation, time in times.items():
        sums[getattr(operation, by)] += time
    return dict(sums)


# Numbers of fields in xplane.proto and hlo.proto of XLA.
_PLANE, _PLANE_NAME, _EVENT_METADATA, _MAP_VALUE, _METADATA_STATS, _STAT_BYTES = 1, 2, 4, 2, 5, 6
_MODULE, _MODULE_NAME, _COMPUTATION, _INSTRUCTION = 1, 1, 3, 2
_NAME, _OP_METADATA, _OP_NAME, _CALLED, _COMPUTATION_ID = 1, 7, 2, 38, 5

Sources = dict[tuple[str, str], str]


def operation_sources(planes: bytes) -> Sources:
    """Reads from a trace what the operations of its programs were made of.

    The profiler stores the compiled programs beside the events. They are read field by field, since the definitions of
    these messages come with TensorFlow only. A fusion without a source gets that of the last operation in it; XLA makes
    some others without one.

    Args:
      planes: Content of an `.xplane.pb` file.

    Returns:
      Names as JAX gives them, with the modules around, by the names of the program and of the operation in it.
    """
    sources: Sources = {}
    for plane in _all(memoryview(planes), _PLANE):
        if bytes(next(_all(plane, _PLANE_NAME), b"")) != b"/host:metadata":
            continue
        for module in _inside(plane, _EVENT_METADATA, _MAP_VALUE, _METADATA_STATS, _STAT_BYTES, _MODULE):
            program = bytes(next(_all(module, _MODULE_NAME), b"")).decode()
            made_of: dict[int, str] = {}  # by the id of a computation, the source of its last operation
            for computation in _all(module, _COMPUTATION):
                number = _number(computation, _COMPUTATION_ID)
                for instruction in _all(computation, _INSTRUCTION):
                    name = bytes(next(_all(instruction, _NAME), b"")).decode()
                    source = bytes(next(_inside(instruction, _OP_METADATA, _OP_NAME), b"")).decode()
                    called = (made_of.get(_varint(ids, 0)[0], "") for ids in _all(instruction, _CALLED))
                    if source := source or next(called, ""):  # a fusion without a source is what it was made of
                        sources.setdefault((program, name), source)
                        made_of[number] = source
    return sources


def _inside(message: memoryview, *path: int) -> Iterator[memoryview]:
    """The values at a path of fields in a message."""
    if not path:
        yield message
        return
    for value in _all(message, path[0]):
        yield from _inside(value, *path[1:])


def _all(message: memoryview, number: int) -> Iterator[memoryview]:
    """The values of a field of a message that holds bytes."""
    for key, value in _fields(message):
        if key == number and isinstance(value, memoryview):
            yield value


def _number(message: memoryview, number: int) -> int:
    """The value of a field of a message that holds a whole number; 0 if there is none."""
    return next((value for key, value in _fields(message) if key == number and isinstance(value, int)), 0)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        value: memoryview | int
        if key & 7 == 0:
            value, at = _varint(message, at)
        else:
            length, at = (8, at) if key & 7 == 1 else (4, at) if key & 7 == 5 else _varint(message, at)
            value, at = message[at : at + length], at + length
        yield key >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
