"""A run of a study, its workdir, and its row in the results."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import workdir as workdirs
from jaxvision.reading import read_record
from jaxvision.train import divergence

Row = dict[str, Any]
FAILED = "failed.json"  # a file {"error": why} in the workdir of a run that cannot be finished


class Run(NamedTuple):
    """One run of a study.

    Attributes:
      name: Name of the run, a relative path.
      config: Config to train.
      tags: Values by name in which the run differs from the others; columns of the results.
      fill: Function for a run that needs the results of others, `(rows, out) -> overrides` of its config by dotted key.
        It is called after all runs without one, with their rows; `workdir(out, name)` is the workdir of one. It returns
        None if the run is not needed.
      may_fail: True if divergence is a result, too: the row of the run then has "error" in place of results.
      measures: Section `evals` with further evaluations of the finished run.
    """

    name: str
    config: ConfigDict
    tags: dict[str, Any]
    fill: Callable[[list[Row], Path], dict[str, Any]] | None = None
    may_fail: bool = False
    measures: Mapping[str, Any] | None = None


def workdir(out: Path, name: str) -> Path:
    """Returns the workdir of a run; absolute, so that a config can name it.

    Args:
      out: Folder of the study.
      name: Name of the run.
    """
    return out.absolute() / "runs" / name


def started(one: Run, folder: Path) -> bool:
    """Returns whether a run started to train, so that a failure is a result of the run.

    Args:
      one: Run of a study.
      folder: Workdir of the run.
    """
    launched = (folder / "run.json").is_file()
    return launched and not configs.differences(workdirs.saved_config(folder), one.config)


def row_of(one: Run, out: Path) -> Row | None:
    """Returns the row of a run that is finished, or that failed and may fail; None of any other.

    Args:
      one: Run of a study.
      out: Folder of the study.

    Raises:
      UserError: The workdir holds a run of another config.
    """
    folder = workdir(out, one.name)
    failed = folder / FAILED
    if one.may_fail and (record := read_record(failed, error=str)):
        return {"run": one.name, **one.tags, **record}
    finished = workdirs.results(folder)
    if finished is None:
        return None
    workdirs.check(folder, one.config)
    return finished_row(one, folder, finished["results"])


def finished_row(one: Run, folder: Path, results: Mapping[str, float]) -> Row:
    """Returns the row of a finished run, with "error" in place of results if it diverged and may fail.

    Args:
      one: Run of a study.
      folder: Workdir of the run.
      results: Results of the run.
    """
    why = divergence.of_workdir(folder, results) if one.may_fail else ""
    return {"run": one.name, **one.tags, **({"error": f"diverged: {why}"} if why else results)}
