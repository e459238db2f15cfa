"""`jaxvision inspect`: build everything that a config names and show it, without training."""

from collections import defaultdict
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.table import Table

from jaxvision import checks, paths, storage
from jaxvision import experiment as experiments
from jaxvision.commands import plans
from jaxvision.experiment import Experiment
from jaxvision.parallel.mesh import batch_sharding
from jaxvision.step_costs import flops_of
from jaxvision.train.progress import console
from jaxvision.train.state import TrainState


def run_inspect(
    config: ConfigDict,
    *,
    pages: str | None = None,
    compile_step: bool = True,
    planned: bool = False,
    device_kind: str | None = None,
) -> None:
    """Prints parameters by module, cost and memory of the step, lengths, mesh and shardings.

    It refuses what `train` would refuse: it opens the evaluations and the weights to start from, and traces the step.
    It works without the data set if the config has `data.classes` and `data.examples`; it then prints what it could
    not check.

    Args:
      config: Config from `get_config`.
      pages: Folder for pictures of the data (see `pages.write_pages`), which need the data set; None for no pictures.
      compile_step: True to compile the step, which gives its memory and takes long for large models.
      planned: True to show also what the run needs on the devices of this process (see `simulated.simulate`) as if they
        were others: memory, time, what they send, and the work of the hosts; see `plans.print_plan`.
      device_kind: Kind of these devices, a name of `hardware.CHIPS`; None for several.

    Raises:
      UserError: The config has a mistake, the folder cannot be written, or the kind of devices is unknown.
    """
    folder = storage.path(pages, "--pages") if pages else None
    experiment = experiments.build(config, training_data="optional")
    out = console()
    state, step = experiment.abstract_state(), experiment.step()
    traced = experiment.trace(step)
    flops = flops_of(traced)
    unchecked, cautions = checks.check_run(experiment)
    _print_parameters(experiment, state.params)
    _print_data(experiment)
    for line in unchecked:
        out.print(f"not checked: {line}", markup=False)
    for line in cautions:
        out.print(line, markup=False)
    _print_sharding(experiment, state)
    if flops:
        per_example = flops / experiment.data.batch_size
        out.print(
            f"step: {flops / 1e9:,.1f} GFLOPs, {per_example / 1e9:,.3f} per example (XLA counts a multiply-add as two)"
        )
    if folder:
        from jaxvision.commands.pages import write_pages  # loads matplotlib

        out.print(f"pages: {', '.join(map(str, write_pages(experiment, folder)))}")
    if planned:
        plans.print_plan(experiment, traced, step, device_kind, compile_step)
    elif compile_step:
        _print_memory(experiment, step, state)


def parameter_counts(params: Any, depth: int = 2) -> dict[str, int]:
    """Counts the parameters of each module.

    Args:
      params: PyTree of arrays, or of their shapes.
      depth: Number of parts of a path that name a module.

    Returns:
      The counts by the first `depth` parts of the paths.

    >>> parameter_counts({"head": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}}, depth=1)
    {'head': 8}
    """
    counts: dict[str, int] = defaultdict(int)
    for path, leaf in paths.flatten(params).items():
        counts["/".join(path.split("/")[:-1][:depth]) or path] += int(np.prod(leaf.shape))
    return dict(counts)


def _print_parameters(experiment: Experiment, params) -> None:
    table = Table("module", "parameters")
    for module, count in parameter_counts(params).items():
        table.add_row(module, f"{count:,}")
    total = sum(x.size for x in jax.tree.leaves(params))
    out = console()
    out.print(table)
    out.print(f"parameters: {total:,}")
    frozen = jax.tree.leaves(experiment.optimizer.frozen)
    free = sum(x.size for x, f in zip(jax.tree.leaves(params), frozen) if not f)
    out.print(f"trainable: {free:,}")


def _print_data(experiment: Experiment) -> None:
    info, size, total = experiment.info, experiment.data.batch_size, experiment.total
    absent = f"; the set is not here, so sizes are from the config ({experiment.absent})" if experiment.absent else ""
    out = console()
    out.print(
        f"data: {info.name} {info.split}, {info.num_examples:,} examples, {info.num_classes or 'no'} classes{absent}"
    )
    epochs = total * size / info.num_examples
    out.print(f"length: {total:,} steps of {size:,} = {epochs:,.2f} epochs = {total * size:,} examples")
    host, augment = experiment.deployment()
    out.print(f"batch: {_shapes(experiment.batch)}")
    out.print(f"evaluation: host {host!r}, augment {augment!r}")


def _shapes(tree) -> str:
    return ", ".join(f"{name} {leaf.dtype}{list(leaf.shape)}" for name, leaf in paths.flatten(tree).items())


def _print_sharding(experiment: Experiment, state) -> None:
    out = console()
    axes = " x ".join(f"{name}={size}" for name, size in experiment.mesh.shape.items())
    out.print(f"mesh: {axes}; a batch is laid out as {batch_sharding(experiment.mesh).spec}")
    groups: dict[str, list[int]] = defaultdict(list)
    for leaf in jax.tree.leaves(state.params):
        groups[str(leaf.sharding.spec)].append(leaf.size)
    for spec, sizes in groups.items():
        out.print(f"  {spec}: {len(sizes)} arrays, {sum(sizes):,} parameters")


def _print_memory(experiment: Experiment, step: jax.stages.Wrapped, state: TrainState) -> None:
    memory = plans.compile_step(experiment, step, state).memory_analysis()
    if memory is None:
        console().print("memory: not known on this backend")
        return
    sizes = {"state and batch": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes}
    text = ", ".join(f"{name} {size / 2**20:,.0f} MiB" for name, size in sizes.items())
    console().print(f"memory of the compiled step per device: {text}")
