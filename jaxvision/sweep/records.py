"""What the controller hands to the table of results: one record a trial, one in it a run."""

from pathlib import Path
from typing import Any, NamedTuple


class RunRecord(NamedTuple):
    """One run: a point of the space under one seed.

    Attributes:
      workdir: of `jaxvision train`; its folder launch/ is the launcher's.
      attempts: how often it was submitted.
      state: "complete", "pruned", "failed", "running" or "waiting".
    """

    workdir: Path
    attempts: int
    state: str


class TrialRecord(NamedTuple):
    """One point of the space.

    Attributes:
      number: from 0, in the order in which the points were chosen.
      params: value by config key; a key whose condition does not hold is missing.
      state: as that of a run; a trial is complete when all its runs are, failed when one of them is.
      runs: by seed.
    """

    number: int
    params: dict[str, Any]
    state: str
    runs: dict[int, RunRecord]
