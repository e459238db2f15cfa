"""The collective operations of a compiled program: what the devices send each other, and how many bytes.

XLA decides where a sharded program communicates, so the only true list is that of the compiled program. It depends on
the backend: the CPU compiler, unlike those of GPUs and TPUs, never makes a reduce-scatter (an all-reduce and a slice
stand for it), and does not add up several sums over devices before it communicates (XLA's `gpu_compiler.cc`, passes
`ReduceScatterCreator` and `AllReduceReassociate`).
"""

import re
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+)(?: \(.*\))?(?: -> .*)? \{\s*$")
_OPERATION = re.compile(rf"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ({'|'.join(KINDS)})(-start|-done)?\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_CALL = re.compile(r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_LISTED = re.compile(r"replica_groups=\{(\{[\d,{} ]*\})?\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\((?:\[([\d,]+)\](?:T\(([\d,]+)\))?|([\d,]+))\))? \{([^}]*)\}"
)
_PAIRS = re.compile(r"source_target_pairs=\{([\d,{} ]*)\}")


class Collective(NamedTuple):
    """One collective operation of a program, which may combine several arrays.

    Attributes:
      kind: Kind of the operation, one of `KINDS`.
      arrays: Dtype and shape of each array of the result on one device, such as ("f32", (64, 256)).
      group: Number of devices that take part together; for a collective-permute, the devices of all pairs.
      axes: Names of the mesh axes over which the devices of a group are spread; empty without a mesh.
      times: Number of times that a step runs the operation: more than one in a loop whose length XLA knows.
      source: Name of the JAX operation that it belongs to, such as "jit(step)/jvp(ViT)/head/dot_general".
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    group: int
    axes: tuple[str, ...] = ()
    times: int = 1
    source: str = ""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each array while it is whole: the gathered one of an all-gather, the summed one of the others."""
        parts = self.group if self.kind == "reduce-scatter" else 1
        return tuple(int(parts * _width(dtype) * prod(shape)) for dtype, shape in self.arrays)

    @property
    def bytes(self) -> int:
        """Bytes of all arrays, whole, each time the operation runs."""
        return sum(self.sizes)

    @property
    def sent(self) -> float:
        """Bytes that one device sends in a step, if the devices form a ring.

        An all-reduce of b bytes over g devices sends 2 b (g - 1) / g, an all-gather, reduce-scatter or all-to-all half
        of that, and a permutation b. No algorithm sends less (Chan et al. 2007, "Collective communication", table 1).
        """
        share = (self.group - 1) / self.group
        factor = {"all-reduce": 2 * share, "collective-permute": 1.0, "collective-broadcast": 1.0}.get(self.kind, share)
        return self.times * factor * self.bytes


class Total(NamedTuple):
    """The collectives of one kind over the same axes.

    Attributes:
      operations: Number of operations in a step, counted as often as they run.
      bytes: Bytes of their arrays, whole.
      sent: Bytes that one device sends; see `Collective.sent`.
    """

    operations: int
    bytes: int
    sent: float


def collectives(program: jax.stages.Compiled | str, mesh: jax.sharding.Mesh | None = None) -> list[Collective]:
    """Lists the collective operations of a compiled program, as one device runs them.

    An operation in a loop counts as often as the loop runs; once if XLA does not know its length. All branches of a
    condition are listed.

    Args:
      program: Compiled program, or its text in XLA's HLO format.
      mesh: Mesh that the program was compiled for, to name the axes; None to leave them out.

    Returns:
      The operations, in the order of the text. Groups of one device are left out, since they send nothing.

    >>> text = "%sum = f32[4,8]{1,0} all-reduce(%x), replica_groups={{0,1},{2,3}}, to_apply=%add"
    >>> [one] = collectives(text)
    >>> one.kind, one.group, one.bytes, one.sent
    ('all-reduce', 2, 128, 128.0)
    """
    text = program if isinstance(program, str) else program.as_text() or ""
    lines = text.splitlines()
    devices = _device_count(lines[0] if lines else "", mesh)
    times = _times(lines)
    results: dict[str, str] = {}  # name of a start -> shape of its end
    for line in lines:
        if (match := _OPERATION.match(line)) and match[4] == "-done":
            operand = re.search(r"%([\w.\-]+)\s*[,)]", match[5])
            if operand:
                results[operand[1]] = match[2]
    listed, computation = [], ""
    for line in lines:
        if header := _HEADER.match(line):
            computation = header[2]
        match = _OPERATION.match(line)
        if match is None or match[4] == "-done":
            continue
        name, shape, kind = match[1], match[2], match[3]
        groups = _groups(line, devices)
        if len(groups[0]) < 2:
            continue
        source = _OP_NAME.search(line)
        arrays = tuple(
            (dtype, tuple(int(n) for n in dims.split(",") if n))
            for dtype, dims in _ARRAY.findall(results.get(name, shape))
        )
        listed.append(
            Collective(
                kind,
                arrays,
                len(groups[0]),
                () if mesh is None else _axes(groups[0], mesh),
                times.get(computation, 1),
                source[1] if source else "",
            )
        )
    return listed


def totals(operations: Iterable[Collective]) -> dict[tuple[str, tuple[str, ...]], Total]:
    """Adds up collectives by kind and mesh axes.

    Args:
      operations: Collectives of a program.

    Returns:
      Totals by (kind, axes), in the order in which these first occur.
    """
    added: dict[tuple[str, tuple[str, ...]], Total] = {}
    for one in operations:
        before = added.get((one.kind, one.axes), Total(0, 0, 0.0))
        added[one.kind, one.axes] = Total(
            before.operations + one.times, before.bytes + one.times * one.bytes, before.sent + one.sent
        )
    return added


def table(operations: Iterable[Collective]) -> str:
    """Formats the totals of collectives as a Markdown table.

    Args:
      operations: Collectives of a program.
    """
    rows = ["| collective | over | operations | MB, whole | MB that a device sends |", "|---|---|---:|---:|---:|"]
    for (kind, axes), total in totals(operations).items():
        sizes = f"{total.bytes / 1e6:,.3f} | {total.sent / 1e6:,.3f}"
        rows.append(f"| {kind} | {', '.join(axes) or '-'} | {total.operations:,} | {sizes} |")
    return "\n".join(rows)


def _width(dtype: str) -> float:
    """Returns the bytes of a number of one of XLA's types, such as "f32" or "bf16"."""
    bits = re.search(r"\d+", dtype)
    return int(bits[0]) / 8 if bits else 1  # pred


def _device_count(header: str, mesh: jax.sharding.Mesh | None) -> int:
    if mesh is not None:
        return mesh.devices.size
    counts = [int(n) for n in re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", header)]
    return prod(counts)


def _times(lines: Sequence[str]) -> dict[str, int]:
    """Returns how often each computation runs when the program runs once."""
    calls: dict[str, list[tuple[str, int]]] = {}
    computation, entry = "", ""
    for line in lines:
        if header := _HEADER.match(line):
            computation = header[2]
            entry = computation if header[1] else entry
        trips = _TRIPS.search(line)
        for role, name in _CALL.findall(line):
            count = int(trips[1]) if trips and role == "body" else 1
            calls.setdefault(name, []).append((computation, count))
        for branches in _BRANCHES.findall(line):
            for name in branches.split(","):
                calls.setdefault(name.strip().lstrip("%"), []).append((computation, 1))

    runs: dict[str, int] = {entry: 1}

    def of(name: str) -> int:
        if name not in runs:
            runs[name] = sum(count * of(caller) for caller, count in calls.get(name, [(entry, 1)]))
        return runs[name]

    return {name: of(name) for name in calls} | {entry: 1}


def _groups(line: str, devices: int) -> list[list[int]]:
    """Returns the groups of devices of an operation, in each of the formats that XLA writes."""
    if pairs := _PAIRS.search(line):
        return [sorted({int(n) for n in re.findall(r"\d+", pairs[1])})]
    if match := _LISTED.search(line):
        listed = [[int(n) for n in group.split(",")] for group in re.findall(r"\{([\d, ]+)\}", match[1] or "")]
        return listed or [list(range(devices))]
    if match := _IOTA.search(line):
        ids = _iota(match[2], match[3])
        return ids.reshape(_numbers(match[1])).tolist()
    if match := _MESH.search(line):
        return _mesh_groups(*match.groups())
    return [list(range(devices))]


def _mesh_groups(mesh: str, dims: str | None, order: str | None, listed: str | None, grouped: str) -> list[list[int]]:
    """Returns the groups of `mesh['x'=2,'y'=4], device_ids=([4,2]T(1,0)) {'x'}`: devices that differ in x only."""
    sizes = {name: int(size) for name, size in re.findall(r"'?([\w.\-]+)'?=(\d+)", mesh)}
    total = prod(sizes.values())
    ids: Any = np.array(_numbers(listed)) if listed else _iota(dims, order) if dims else np.arange(total)
    # A part of an axis, 'x':(2)4, has size 4 behind a part of size 2.
    shape: list[int] = []
    inside: list[int] = []
    wanted = {name: (pre, size) for name, pre, size in re.findall(r"'?([\w.\-]+)'?(?::\((\d+)\)(\d+))?", grouped)}
    for name, size in sizes.items():
        if name not in wanted:
            shape.append(size)
            continue
        pre, part = wanted[name]
        before, middle = (int(pre), int(part)) if part else (1, size)
        inside.append(len(shape) + 1)
        shape += [before, middle, size // (before * middle)]
    array = ids.reshape(shape)
    outside = [axis for axis in range(array.ndim) if axis not in inside]
    return array.transpose(outside + inside).reshape(-1, prod(shape[axis] for axis in inside)).tolist()


def _iota(dims: str, order: str | None) -> np.ndarray:
    shape = _numbers(dims)
    ids = np.arange(prod(shape)).reshape(shape)
    return (ids.transpose(_numbers(order)) if order else ids).reshape(-1)


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]


def _axes(group: Sequence[int], mesh: jax.sharding.Mesh) -> tuple[str, ...]:
    """Returns the axes along which the devices of a group differ."""
    places = np.unravel_index(np.array(group), mesh.devices.shape)
    return tuple(name for name, along in zip(mesh.axis_names, places) if len(set(along.tolist())) > 1)
