"""The check of metrics.jsonl by `jaxvision verify`: numbers are there at all scheduled steps, once, and in order."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxvision import config as configs
from jaxvision import durations, line_files
from jaxvision import workdir as workdirs
from jaxvision.errors import UserError, some
from jaxvision.sections import TrainSection
from jaxvision.storage import Path
from jaxvision.train.metrics import Lines


class Schedule(NamedTuple):
    """The steps at which a run writes lines to metrics.jsonl.

    Attributes:
      total: Number of steps of the run.
      log_every: Steps between two logs.
      evals: Steps between two evaluations, by name; 0 for the end only.
    """

    total: int
    log_every: int
    evals: Mapping[str, int]


def schedule(workdir: Path, meta: Mapping[str, Any]) -> Schedule | None:
    """Returns when a run logs and evaluates, or None if that is not known or a --resume changed it.

    Args:
      workdir: Folder of the run.
      meta: Metadata of its newest checkpoint.
    """
    try:
        if len({launch["config_fingerprint"] for launch in workdirs.launches(workdir)}) > 1:
            return None
        config = workdirs.config_of(meta, workdir)
        train = configs.call(TrainSection, config.train, "train")
        sizes = {"batch_size": config.data.batch_size, "examples": meta["data"]["examples"]}
        sizes["total"] = durations.steps(train.total, **sizes)
        evals = {
            name: durations.steps(section.get("every", 0), **sizes)
            for name, section in (config.get("evals") or {}).items()
            if section is not None
        }
        done = workdirs.results(workdir)  # a run that ended early took fewer steps
        total = sizes["total"] if done is None else min(sizes["total"], done["steps"])
        return Schedule(total, durations.steps(train.log_every, **sizes), evals)
    except (UserError, LookupError, TypeError, AttributeError):
        return None


def ended(workdir: Path) -> bool:
    """Returns whether a run is finished.

    Args:
      workdir: Folder of the run.
    """
    return (workdir / "results.json").is_file()


def problems(read: Lines, newest: int | None, plan: Schedule | None, finished: bool) -> list[tuple[bool, str]]:
    """Returns what is wrong with metrics.jsonl.

    Args:
      read: Lines of the file.
      newest: Newest good step, up to which lines must be complete.
      plan: Schedule of the lines; None if it is not known.
      finished: True if the run has ended, and has run the evaluations of the last step.

    Returns:
      Problems, each as True if the file is damaged or False if lines are missing, and a description.
    """
    faults = []
    if read.damaged:
        faults.append((True, f"{len(read.damaged)} of its lines are not metrics: line {some(read.damaged)}"))
    steps = [line["step"] for line in read.lines]
    if falls := [b for a, b in itertools.pairwise(steps) if b < a]:
        faults.append((True, f"its steps are not in order: {some(falls)} after a later one"))
    seen: set[tuple[int, str]] = set()
    twice = set()
    for line in read.lines:
        for name in line.keys() - {"step"}:
            if (line["step"], name) in seen:
                twice.add(line["step"])
            seen.add((line["step"], name))
    if twice:
        faults.append((True, f"it has some numbers twice, for the steps {some(sorted(twice))}"))
    if plan is None or newest is None:
        return faults
    last = {plan.total} if finished else set()
    kinds = {"log": (plan.log_every, "")} | {f"evaluation {n}": (e, f"{n}/") for n, e in plan.evals.items()}
    for kind, (every, prefix) in kinds.items():
        due = set(range(every, newest + 1, every)) if every else set()
        due |= last if kind != "log" or newest >= plan.total else set()
        have = {step for step, name in seen if (name.startswith(prefix) if prefix else "/" not in name)}
        if missing := sorted(step for step in due - have if step <= plan.total):
            faults.append((False, f"{len(missing)} of {len(due)} lines of {kind} are missing: steps {some(missing)}"))
    return faults


def drop_last(path: Path) -> str:
    """Writes a file without its last line, which was cut off.

    Args:
      path: Path of the file.

    Returns:
      What was done, in words.
    """
    line_files.Lines(path, line_files.read_lines(path)[:-1]).close()
    return "removed"
