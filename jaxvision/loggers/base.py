"""What a logger gets: the run when it is made, and then one event after the other."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxvision import path_names
from jaxvision.storage import Path


class Run(NamedTuple):
    """The run that a logger is made for.

    Attributes:
      name: Name of the run: `run_name` of the config, or that of its workdir.
      id: Text of 32 hex digits that stays the same when the run is resumed; `--fresh` gives a new one.
      workdir: Folder of the run, which may be in a bucket. It may not exist yet when the logger is made.
      config: Sections of the resolved config as plain dicts.
      say: Function that prints a line among those of the run, such as the address of its page.
    """

    name: str
    id: str
    workdir: Path
    config: Mapping[str, Any]
    say: Callable[[str], None] = print


class Event(NamedTuple):
    """Something that happened in a run.

    Attributes:
      kind: "start" of a launch, "log" for a log line, "evaluation", "checkpoint" for a state that begins to be saved,
        or "end" of a launch.
      step: Number of steps taken. At the start of a resumed run this is the step of its checkpoint; steps after it may
        have been logged before, and come again with the same numbers.
      metrics: Numbers by name: those of a log line, the results `NAME/metric` of an evaluation, at the end of a
        finished run its results; else none.
      state: Function that returns the state after `step` steps, a `TrainState` of NumPy arrays of its own. It may be
        called while the event is handled, not later.
      status: End of a launch: "finished", "stopped" (by a signal or `--stop_after`) or "failed"; empty for the other
        kinds.
    """

    kind: str
    step: int
    metrics: Mapping[str, float]
    state: Callable[[], Any]
    status: str = ""


def name_of(workdir: Path) -> str:
    """Returns the name of a run: the path of its workdir in the working directory, without a leading `runs/`.

    Args:
      workdir: Folder of the run.

    >>> name_of(pathlib.Path("runs/study/seed0")), name_of(pathlib.Path("/data/me/study/seed0"))
    ('study/seed0', 'study/seed0')
    """
    if path_names.is_remote(workdir):
        return workdir.name
    path, here = pathlib.Path(workdir), pathlib.Path.cwd()
    if path.is_absolute() and path.is_relative_to(here):
        path = path.relative_to(here)
    parts = [part for part in path.parts if part not in (".", "..")]
    if path.is_absolute():
        parts = parts[-2:]
    return "/".join(parts[1:] if parts[0] == "runs" and len(parts) > 1 else parts) if parts else here.name


def local_folder(run: Run, name: str) -> str | None:
    """Returns the folder in the workdir where a tool keeps its files, or None if the workdir is in a bucket.

    Args:
      run: Run.
      name: Name of the folder.
    """
    return None if path_names.is_remote(run.workdir) else str(run.workdir / name)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of a config by dotted key.

    Args:
      config: Sections of a config.
      prefix: Text before each key.

    >>> flat({"seed": 0, "model": {"name": "vit"}})
    {'seed': 0, 'model.name': 'vit'}
    """
    values: dict[str, Any] = {}
    for key, value in config.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return values
