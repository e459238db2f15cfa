"""What `inspect --devices` adds: memory and time on devices that are not here, what they send, and the hosts' work."""

import contextlib
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
from rich.table import Table

from jaxvision import hardware, paths
from jaxvision.analysis import accounting, plan
from jaxvision.analysis.collectives import Collective, collectives, totals
from jaxvision.data.reader import Reader
from jaxvision.data.sources.base import BadExample
from jaxvision.errors import UserError
from jaxvision.experiment import Experiment
from jaxvision.hardware import Chip
from jaxvision.parallel.mesh import BATCH_AXES, batch_axis_size, batch_sharding
from jaxvision.train.progress import console, duration
from jaxvision.train.state import TrainState

# Devices that are shown if none is named.
SHOWN = ("A100", "H100", "H200", "v4", "v5e", "v5p", "v6e")
# Most devices for which the step is compiled.
MOST_COMPILED = 64
_TRIED = 48  # images that are decoded to measure the rate


class Compiled(NamedTuple):
    """What the compiled step tells.

    Attributes:
      temporaries: Bytes of one device for gradients, activations and other temporary arrays.
      collectives: Collective operations of a step.
    """

    temporaries: int
    collectives: Sequence[Collective]


def chips_of(kind: str | None) -> dict[str, Chip]:
    """Returns the devices to plan for, by name.

    Args:
      kind: Value of --device_kind; None for several.

    Raises:
      UserError: There is no such device; the message lists the names.
    """
    if kind is None:
        return {name: hardware.CHIPS[name] for name in SHOWN}
    return {kind: hardware.find(kind)}


def check(experiment: Experiment, chips: dict[str, Chip]) -> None:
    """Checks that the mesh can be laid out on the hosts of the devices.

    Args:
      experiment: Experiment on simulated devices.
      chips: Devices by name.

    Raises:
      UserError: The devices do not fill their hosts, the tensor axis would cross hosts, or the batch does not divide
        over the hosts.
    """
    devices, tensor = experiment.mesh.size, _tensor(experiment)
    for name, chip in chips.items():
        hosts = -(-devices // chip.host)
        if devices > chip.host and devices % chip.host:
            raise UserError(f"{devices} devices do not fill hosts of {chip.host} {name}: try {hosts * chip.host}")
        if min(devices, chip.host) % tensor:
            raise UserError(
                f"mesh.tensor={tensor} would cross hosts, each of {chip.host} {name}: it must divide "
                f"{min(devices, chip.host)}"
            )
        if experiment.data.batch_size % hosts:
            raise UserError(
                f"batch size {experiment.data.batch_size} does not divide over {hosts} hosts of {chip.host} {name}"
            )


def _fitting(experiment: Experiment, chips: dict[str, Chip]) -> dict[str, Chip]:
    """Returns those of the devices on whose hosts the mesh can be laid out, and prints why the others are left out.

    Raises:
      UserError: There are none; the message is that of the first.
    """
    refused: dict[str, UserError] = {}
    for name, chip in chips.items():
        try:
            check(experiment, {name: chip})
        except UserError as error:
            refused[name] = error
    if len(refused) == len(chips):
        raise next(iter(refused.values()))
    for name, why in refused.items():
        console().print(f"{name} is left out: {why}")
    return {name: chip for name, chip in chips.items() if name not in refused}


def compile_step(experiment: Experiment, step: jax.stages.Wrapped, state: TrainState) -> jax.stages.Compiled:
    """Compiles a step for the devices of the mesh.

    Args:
      experiment: Experiment.
      step: Function from `Experiment.step`.
      state: Shapes and shardings of the state.
    """
    shape = lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype, sharding=batch_sharding(experiment.mesh, leading=1))
    items = jax.tree.map(shape, experiment.batch)
    return experiment.runner(step, lambda _, item: item).lower(state, {}, items).compile()


def print_plan(
    experiment: Experiment, traced: jax.stages.Traced, step: jax.stages.Wrapped, kind: str | None, compile_step: bool
) -> None:
    """Prints what a run needs on the devices of its mesh, as if they were of another kind.

    Args:
      experiment: Experiment on simulated devices.
      traced: Trace of its step.
      step: Function from `Experiment.step`, traced.
      kind: Name of the devices; None for several.
      compile_step: True to compile the step, for the memory of activations and the collectives.

    Raises:
      UserError: The mesh does not fit the hosts of the devices, or of any kind if none is named; see `check`.
    """
    chips = _fitting(experiment, chips_of(kind))
    _print_shardings(experiment)
    compiled = _compiled(experiment, step, compile_step)
    needs = _print_memory(experiment, compiled)
    if compiled is not None:
        _print_collectives(compiled.collectives)
    times = _times(experiment, traced, chips, compiled)
    _print_times(experiment, times, needs, compiled)
    _print_hosts(experiment, times)


def _print_shardings(experiment: Experiment) -> None:
    """Prints the parameters by path, with the numbers of blocks left out, and how they are split."""
    groups: dict[tuple[str, str], list] = {}
    for path, leaf in paths.flatten(experiment.abstract_state().params).items():
        where = str(leaf.sharding.spec).removeprefix("PartitionSpec")
        groups.setdefault((re.sub(r"\d+", "*", path), where), []).append(leaf)
    table = Table("parameters", "arrays", "numbers", "split over the axes", "MiB a device")
    for (path, where), leaves in groups.items():
        numbers, size = sum(leaf.size for leaf in leaves), plan.device_bytes(leaves)
        table.add_row(path, str(len(leaves)), f"{numbers:,}", where, f"{size / 2**20:,.2f}")
    console().print(table)


def _compiled(experiment: Experiment, step: jax.stages.Wrapped, wanted: bool) -> Compiled | None:
    out, devices = console(), experiment.mesh.size
    if not wanted:
        out.print("left out without compilation: memory of activations, list of collectives")
        return None
    if devices > MOST_COMPILED:
        out.print(
            f"left out for more than {MOST_COMPILED} devices, for which nothing is compiled: memory of activations, "
            f"list of collectives. A mesh of {MOST_COMPILED} devices with a batch smaller in proportion shows them"
        )
        return None
    out.print(f"compiling for {devices} simulated devices, minutes for large models; --nocompile leaves it out")
    began = time.perf_counter()
    program = compile_step(experiment, step, experiment.abstract_state())
    out.print(f"compiled in {duration(time.perf_counter() - began)}")
    memory = program.memory_analysis()
    if memory is None:
        return None
    held = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Compiled(held, collectives(program, experiment.mesh))


class _Needs(NamedTuple):
    """The least and the most bytes that a device needs; equal unless the plan of the CPU is known to be too large."""

    least: float
    most: float


def _print_memory(experiment: Experiment, compiled: Compiled | None) -> _Needs:
    """Prints the bytes of one device by what they hold; returns their sum, without activations if not compiled."""
    state, parts = experiment.abstract_state(), {}
    parts["parameters"] = plan.device_bytes(state.params)
    parts["optimizer state"] = plan.device_bytes(state.opt_state)
    parts["model state"] = plan.device_bytes(state.model_state)
    parts["averaged variables"] = plan.device_bytes(state.ema)
    share = batch_sharding(experiment.mesh)
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=share)
    parts["batch"] = plan.device_bytes(jax.tree.map(place, experiment.batch))
    gradients = plan.device_bytes(state.params)
    halved = compiled is not None and experiment.train.precision == "bfloat16"
    if compiled is None:
        parts["gradients"] = gradients
    else:
        parts[f"temporaries, with {gradients / 2**20:,.0f} MiB of gradients"] = compiled.temporaries
    table = Table("memory of a device", "MiB")
    for name, size in parts.items():
        if size:
            table.add_row(name, f"{size / 2**20:,.1f}")
    total = sum(parts.values())
    table.add_row("sum" if compiled else "sum, without activations", f"{total / 2**20:,.1f}")
    out = console()
    out.print(table)
    if compiled:
        less = ", and keeps in float32 what they keep in bfloat16: theirs may be half as large" if halved else ""
        out.print(f"temporaries are those of XLA's plan for a CPU, which fuses less than those of GPUs and TPUs{less}")
    return _Needs(total - (compiled.temporaries / 2 if compiled and halved else 0), total)


def _print_collectives(operations: Sequence[Collective]) -> None:
    out = console()
    if not operations:
        out.print("collectives: none")
        return
    table = Table("collective", "over", "a step", "MB, whole", "MB that a device sends")
    for (kind, axes), total in totals(operations).items():
        whole, sent = f"{total.bytes / 1e6:,.1f}", f"{total.sent / 1e6:,.1f}"
        table.add_row(kind, ", ".join(axes), f"{total.operations:,}", whole, sent)
    out.print(table)
    out.print(
        "the CPU's compiler sends bfloat16 as float32, and an all-reduce in place of a reduce-scatter (docs/scaling.md)"
    )


class _Times(NamedTuple):
    """The time of a step on each kind of device, and what is assumed for it."""

    by_chip: dict[str, plan.StepTime]
    mfu: tuple[float, float]


def _times(
    experiment: Experiment, traced: jax.stages.Traced, chips: dict[str, Chip], compiled: Compiled | None
) -> _Times:
    """Works out the time of a step on each kind of device that can have so many devices."""
    jaxpr, mesh = traced.jaxpr.jaxpr, experiment.mesh
    convolutions = accounting.traced_macs(jaxpr, ["conv_general_dilated"])
    products = accounting.traced_macs(jaxpr, ["dot_general"])
    mfu = plan.utilisation(products, convolutions)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(experiment.params))
    found = {}
    for name, chip in chips.items():
        with contextlib.suppress(UserError):
            step = plan.step_time(
                2.0 * (products + convolutions),
                parameters,
                mesh.size,
                chip,
                experiment.train.precision,
                mfu=mfu,
                tensor=_tensor(experiment),
            )
            inner = [one for one in compiled.collectives if set(one.axes) - set(BATCH_AXES)] if compiled else []
            found[name] = step._replace(sends=step.sends + plan.sent_seconds(inner, chip))
    return _Times(found, mfu)


def _print_times(experiment: Experiment, times: _Times, needs: _Needs, compiled: Compiled | None) -> None:
    """Prints a row for each kind of device: whether the run fits, the time of a step and of the run."""
    devices, total, batch_size = experiment.mesh.size, experiment.total, experiment.data.batch_size
    table = Table("devices", "memory, GiB", "fits", "step, ms", "sends, ms", "images/s", "whole run, hours")
    for name, step in times.by_chip.items():
        chip, (best, worst) = hardware.find(name), step.seconds
        fits = list(dict.fromkeys(plan.fits(needed, chip) for needed in needs))
        table.add_row(
            f"{devices} {name}",
            f"{_range(needs.least / 2**30, needs.most / 2**30)} of {chip.memory / 2**30:,.0f}",
            "perhaps" if len(fits) > 1 else fits[0] if compiled or fits[0] == "no" else "not known",
            _range(1e3 * best, 1e3 * worst),
            f"{1e3 * step.sends:,.1f}",
            _range(batch_size / worst, batch_size / best),
            _range(total * best / 3600, total * worst / 3600),
        )
    out = console()
    out.print(table)
    kind = "matrix products" if times.mfu == plan.MFU_PRODUCTS else "convolutions"
    left_out = "" if compiled or _tensor(experiment) == 1 else "; the sums over the tensor axis are left out"
    out.print(
        f"assumed: {100 * times.mfu[0]:.0f} to {100 * times.mfu[1]:.0f} % of the peak in {experiment.train.precision}, "
        f"as models of {kind} reach, or the time of what the devices send, if it is longer{left_out}; not counted: "
        "compilation, evaluations, checkpoints, waiting for data"
    )


def _tensor(experiment: Experiment) -> int:
    """Number of devices that split single layers: those of the mesh that get the same part of the batch."""
    return experiment.mesh.size // batch_axis_size(experiment.mesh)


def _range(low: float, high: float) -> str:
    """Formats two numbers.

    >>> _range(3.04, 5.1), _range(1200.0, 2000.0), _range(7.0, 7.0)
    ('3.0 to 5.1', '1,200 to 2,000', '7.0')
    """
    digits = 1 if low < 100 else 0
    ends = list(dict.fromkeys(f"{number:,.{digits}f}" for number in (low, high)))
    return " to ".join(ends)


def _print_hosts(experiment: Experiment, times: _Times) -> None:
    """Prints what the hosts read and decode at the speed of the devices."""
    out = console()
    if experiment.source is not None and experiment.in_memory():
        out.print("hosts: the set is held in memory; nothing is read or decoded during training")
        return
    rate, size, where = _decoding(experiment)
    per_second = f"{rate:,.0f} images a second and core, {size / 1e3:,.0f} kB an image ({where})"
    out.print(f"hosts: {per_second}. 1,000 images/s need {size / 1e3:,.0f} MB/s and {1000 / rate:.1f} cores")
    for name, step in times.by_chip.items():
        hosts = -(-experiment.mesh.size // hardware.find(name).host)
        speeds = [experiment.data.batch_size / seconds / hosts for seconds in step.seconds[::-1]]
        each = f"each of {hosts} hosts" if hosts > 1 else "the host"
        reads, cores = _range(*(s * size / 1e6 for s in speeds)), _range(*(s / rate for s in speeds))
        out.print(f"{experiment.mesh.size} {name}: {each} reads {reads} MB/s and needs {cores} cores to decode")


def _decoding(experiment: Experiment) -> tuple[float, float, str]:
    """Images that a core decodes a second, bytes of an image, and where both are from."""
    source, data = experiment.source, experiment.data
    if source is None:
        fast = "decode(fast=True)" in data.host.replace(" ", "")
        return plan.DECODED_FAST if fast else plan.DECODED, plan.IMAGE_BYTES, "assumed, as for ImageNet at 224 pixels"
    count = min(_TRIED, len(source))
    reader = Reader(source, data.host, data.fields)
    reader.read(0, 0, 0)  # loads the decoder
    began = time.thread_time()
    for index in range(count):
        reader.read(index, 0, index)
    rate = count / max(time.thread_time() - began, 1e-9)
    sizes = []
    for index in range(count):
        with contextlib.suppress(BadExample, OSError):
            stored = source[index].values()
            sizes.append(sum(len(x) if isinstance(x, bytes) else getattr(x, "nbytes", 0) for x in stored))
    return rate, sum(sizes) / max(len(sizes), 1), f"measured here on {count}"
