"""A run of a study, where it lies, and the row that it leaves."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import workdir as workdirs
from jaxvision.reading import read_record
from jaxvision.train import divergence

Row = dict[str, Any]
FAILED = "failed.json"  # in the workdir of a run that cannot be finished: {"error": why}


class Run(NamedTuple):
    """One run of a study.

    Attributes:
      name: a relative path.
      config: what it trains.
      tags: what tells it from the others.
      fill: of a run that needs the results of others: `(rows, out) -> overrides` of its config by dotted key, asked
        when all runs without one are done; None where they show that it is not needed. `rows` are theirs;
        `workdir(out, name)` is where one of them lies.
      may_fail: a run that diverges is a result, too: its row then has "error" in place of results.
      measures: section `evals` of what is evaluated when the run is finished, beside its own evaluations.
    """

    name: str
    config: ConfigDict
    tags: dict[str, Any]
    fill: Callable[[list[Row], Path], dict[str, Any]] | None = None
    may_fail: bool = False
    measures: Mapping[str, Any] | None = None


def workdir(out: Path, name: str) -> Path:
    """Where the run of that name lies; absolute, so that it can stand in a config."""
    return out.absolute() / "runs" / name


def started(one: Run, folder: Path) -> bool:
    """Whether the run got as far as its first step, so that its failure is its own."""
    launched = (folder / "run.json").is_file()
    return launched and not configs.differences(workdirs.saved_config(folder), one.config)


def row_of(one: Run, out: Path) -> Row | None:
    """The row of a run that is finished, or that failed and may; None of any other.

    Raises:
      UserError: another run lies there.
    """
    folder = workdir(out, one.name)
    failed = folder / FAILED
    if one.may_fail and (told := read_record(failed, error=str)):
        return {"run": one.name, **one.tags, **told}
    finished = workdirs.results(folder)
    if finished is None:
        return None
    workdirs.check(folder, one.config)
    return finished_row(one, folder, finished["results"])


def finished_row(one: Run, folder: Path, results: Mapping[str, float]) -> Row:
    """The row of a finished run; of one that diverged and may, it holds "error" in place of results."""
    why = divergence.of_workdir(folder, results) if one.may_fail else ""
    return {"run": one.name, **one.tags, **({"error": f"diverged: {why}"} if why else results)}
