"""The records that the controller passes to the table of results: one for each trial, with one for each of its runs."""

from pathlib import Path
from typing import Any, NamedTuple


class RunRecord(NamedTuple):
    """One run: a point of the space with one seed.

    Attributes:
      workdir: Workdir of `jaxvision train`; its folder launch/ belongs to the launcher.
      attempts: Number of submissions.
      state: "complete", "pruned", "failed", "running" or "waiting".
    """

    workdir: Path
    attempts: int
    state: str


class TrialRecord(NamedTuple):
    """One point of the space.

    Attributes:
      number: Number of the trial, from 0, in the order in which the points were chosen.
      params: Value by config key; a key whose condition does not hold is missing.
      state: State, with the same values as that of a run. A trial is complete if all its runs are, and failed if one
        is.
      runs: Run by seed.
    """

    number: int
    params: dict[str, Any]
    state: str
    runs: dict[int, RunRecord]
