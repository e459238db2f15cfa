"""Which curves of runs are drawn, and in which panels."""

from collections.abc import Iterable, Sequence

import numpy as np

from jaxvision.analysis import run_plots
from jaxvision.analysis.run_plots import Curve, Panel
from jaxvision.commands.run_groups import Group
from jaxvision.commands.run_records import MEMBER, Record, split_name
from jaxvision.train.progress import is_share

TRAINING = "training"  # name of the curve of a metric of the training batches
STEPS, EXAMPLES = "steps", "examples"
AXES = (STEPS, EXAMPLES)
_MACHINE = ("examples_per_second", "data_wait", "mfu")
_SHARES = ("data_wait", "mfu")
_OPTIMIZER = ("learning_rate", "grad_norm", "param_norm", "update_norm")  # ends of names
_COUNTS = {"step", "skipped_steps", "loss_spikes", "bad_records", "first_loss"}  # told in words


def of_learning(groups: Sequence[Group], axis: str = STEPS) -> list[Panel]:
    """Returns the panels of losses and metrics: in training and in each evaluation.

    For a single run, a panel holds one metric with a curve for the training batches and one for each evaluation. For
    several, a panel holds one metric of one of these, with a curve for each group.

    Args:
      groups: Runs.
      axis: "steps", or "examples" if runs differ in batch size.
    """
    names = [name for name in _names(groups) if not _is_process(name)]
    names.sort(key=lambda name: ("/" in name, name.rsplit("/", 1)[-1] != "loss"))
    if len(groups) > 1 or len(groups[0].records) > 1:
        title = lambda name: name if "/" in name else f"{name} ({TRAINING})"
        return _kept(Panel(title(name), _by_group(name, groups, axis), is_share(name)) for name in names)
    record = groups[0].records[0]
    by_metric: dict[str, list[Curve]] = {}
    for name in names:
        evaluation, metric = split_name(name, record.evaluators) if "/" in name else (TRAINING, name)
        by_metric.setdefault(metric, []).append(Curve(evaluation, (_series(record, name, axis),)))
    marks = _marks(record, axis)
    return _kept(Panel(metric, tuple(curves), is_share(metric), marks=marks) for metric, curves in by_metric.items())


def of_process(groups: Sequence[Group], axis: str = STEPS) -> list[Panel]:
    """Returns the panels of the optimizer and of the machine: learning rate, norms, examples per second.

    Args:
      groups: Runs.
      axis: "steps" or "examples".
    """
    names = sorted(filter(_is_process, _names(groups)), key=lambda name: name in _MACHINE)
    single = len(groups) == 1 and len(groups[0].records) == 1
    panels = []
    for name in names:
        panel_curves = _by_group(name, groups, axis)
        if single:
            panel_curves = tuple(curve._replace(name=TRAINING) for curve in panel_curves)
        panels.append(Panel(name.replace("_", " "), panel_curves, name in _SHARES, name.endswith("learning_rate")))
    return _kept(panels)


def _kept(panels: Iterable[Panel]) -> list[Panel]:
    return [panel for panel in panels if run_plots.drawable(panel)]


def _names(groups: Sequence[Group]) -> list[str]:
    """Names of all metrics, in the order in which they appear."""
    lines = (line for group in groups for record in group.records for line in record.lines)
    names = dict.fromkeys(name for line in lines for name in line)
    return [
        name
        for name in names
        if name not in _COUNTS and MEMBER not in name and not name.endswith("/examples") and name != "stopped"
    ]


def _is_process(name: str) -> bool:
    return name in _MACHINE or ("/" not in name and name.endswith(_OPTIMIZER))


def _series(record: Record, name: str, axis: str) -> tuple[np.ndarray, np.ndarray]:
    scale = record.config.get("data.batch_size", 1) if axis == EXAMPLES else 1
    points = {line["step"] * scale: line[name] for line in record.lines if isinstance(line.get(name), int | float)}
    steps = np.array(sorted(points), float)
    return steps, np.array([points[step] for step in steps.tolist()], float)


def _by_group(name: str, groups: Sequence[Group], axis: str) -> tuple[Curve, ...]:
    curves = []
    for group in groups:
        seeds = tuple(series for one in group.records if len((series := _series(one, name, axis))[0]))
        if seeds:
            curves.append(Curve(group.name, seeds))
    return tuple(curves)


def _marks(record: Record, axis: str) -> dict[str, list[float]]:
    """Steps at which something happened to a run, by the names of `run_plots.MARKS`."""
    scale = record.config.get("data.batch_size", 1) if axis == EXAMPLES else 1
    at = lambda name: [line["step"] * scale for line in record.lines if line.get(name)]
    marks = {"skipped steps": at("skipped_steps"), "loss spikes": at("loss_spikes")}
    marks["restarts"] = [one["start_step"] * scale for one in record.launches[1:]]
    return {name: steps for name, steps in marks.items() if steps}
