"""What `jaxvision verify` looks for in metrics.jsonl: each number where the schedule says, once, and in order."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxvision import config as configs
from jaxvision import durations, line_files
from jaxvision import workdir as workdirs
from jaxvision.errors import UserError
from jaxvision.sections import TrainSection
from jaxvision.storage import Path
from jaxvision.train.metrics import Lines

NAMED = 5  # steps that a message names


class Schedule(NamedTuple):
    """Steps between the logs, and between the evaluations by name; 0 means at the end only. `total` ends the run."""

    total: int
    log_every: int
    evals: Mapping[str, int]


def schedule(workdir: Path, meta: Mapping[str, Any]) -> Schedule | None:
    """When a run logs and evaluates; None where that is not known, or was changed on the way by --resume."""
    try:
        if len({launch["config_fingerprint"] for launch in workdirs.launches(workdir)}) > 1:
            return None
        config = workdirs.config_of(meta, workdir)
        train = configs.call(TrainSection, config.train, "train")
        known = {"batch_size": config.data.batch_size, "examples": meta["data"]["examples"]}
        known["total"] = durations.steps(train.total, **known)
        evals = {
            name: durations.steps(section.get("every", 0), **known)
            for name, section in (config.get("evals") or {}).items()
            if section is not None
        }
        return Schedule(known["total"], durations.steps(train.log_every, **known), evals)
    except (UserError, LookupError, TypeError, AttributeError):
        return None


def ended(workdir: Path) -> bool:
    """Whether the run is finished."""
    return (workdir / "results.json").is_file()


def problems(read: Lines, newest: int | None, plan: Schedule | None, finished: bool) -> list[tuple[bool, str]]:
    """What is wrong, in words, and whether something in the file is damaged (or else is missing).

    Args:
      read: the file.
      newest: newest good step; what came before it must be there.
      plan: when there is to be a line; None where that is not known.
      finished: True where the run has ended, and with it the evaluations of the last step.
    """
    found = []
    if read.damaged:
        found.append((True, f"{len(read.damaged)} of its lines are no metrics: line {_some(read.damaged)}"))
    steps = [line["step"] for line in read.lines]
    if falls := [b for a, b in itertools.pairwise(steps) if b < a]:
        found.append((True, f"its steps do not ascend: {_some(falls)} after a later one"))
    seen: set[tuple[int, str]] = set()
    twice = set()
    for line in read.lines:
        for name in line.keys() - {"step"}:
            if (line["step"], name) in seen:
                twice.add(line["step"])
            seen.add((line["step"], name))
    if twice:
        found.append((True, f"it has numbers twice, of the steps {_some(sorted(twice))}"))
    if plan is None or newest is None:
        return found
    last = {plan.total} if finished else set()
    kinds = {"log": (plan.log_every, lambda name: "/" not in name)}
    kinds |= {f"evaluation {n}": (e, lambda name, n=n: name.startswith(f"{n}/")) for n, e in plan.evals.items()}
    for kind, (every, of_kind) in kinds.items():
        due = set(range(every, newest + 1, every)) if every else set()
        due |= last if kind != "log" or newest >= plan.total else set()
        have = {step for step, name in seen if of_kind(name)}
        if missing := sorted(step for step in due - have if step <= plan.total):
            found.append((False, f"{len(missing)} of {len(due)} lines of {kind} are missing: steps {_some(missing)}"))
    return found


def drop_last(path: Path) -> str:
    """Writes the file without its last line, which was cut off."""
    line_files.Lines(path, line_files.read_lines(path)[:-1]).close()
    return "it was dropped"


def _some(numbers: Sequence[int]) -> str:
    """Some numbers in words.

    >>> _some([2, 4]), _some(range(10))
    ('2, 4', '0, 1, 2, 3, 4 and 5 more')
    """
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return ", ".join(map(str, numbers[:NAMED])) + more
