"""How the time of each launch of a run was spent, in its run.json. It is written at checkpoints, so it survives a kill.

    launches[i].goodput   seconds of one launch by kind; `lost` are those that the next one had to repeat after a kill
    goodput               sums over all launches

Time between the launches is not counted: no process of the run measured it.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from jaxvision import path_names
from jaxvision.errors import UserError
from jaxvision.storage import Path
from jaxvision.train import goodput as goodputs
from jaxvision.train.goodput import Goodput
from jaxvision.train.watch import Preempted
from jaxvision.workdir import launches, write_json

_log = logging.getLogger(__name__)


class Account:
    """The account of a launch's time in run.json; nothing is written before `begin`.

    Args:
      workdir: Folder of the run.
      goodput: Clock of the launch; it publishes its times here at checkpoints.
      check: Function that raises if this process may no longer write to the workdir; called before each write.

    Attributes:
      launch: Account of this launch, as it was last written.
      all: Sum of the accounts of all launches, as it was last written.
    """

    def __init__(self, workdir: Path, goodput: Goodput, check: Callable[[], None] = lambda: None):
        self._workdir, self._goodput, self._check = workdir, goodput, check
        self._launches: list[dict[str, Any]] = []

    def begin(self, start: int) -> None:
        """Opens the account of the last launch in run.json, which `workdir.record_launch` has added.

        Args:
          start: Step from which the launch continues.
        """
        self._launches = launches(self._workdir)
        for one in self._launches:
            if "goodput" in one and not goodputs.is_record(one["goodput"]):
                del one["goodput"]
                _log.warning("%s: the times of a launch are damaged and ignored", self._workdir / "run.json")
        for before in self._launches[-2:-1]:
            if "goodput" in before:
                seen = _last_line(self._workdir) if before["goodput"]["end"] == "running" else 0.0
                before["goodput"] = _ended(before["goodput"], start, seen)
        self._goodput.step, self._goodput.publish = start, self._publish
        self._publish(self._goodput.record())

    def end(self, how: str) -> None:
        """Writes how the launch ended, if it has begun.

        Args:
          how: "finished", "stopped" or "failed".
        """
        if not self._launches:
            return
        with contextlib.suppress(OSError, UserError) if how == "failed" else contextlib.nullcontext():
            self._publish(self._goodput.record(how))

    def _publish(self, record: dict[str, Any]) -> None:
        self._check()
        self.launch = self._launches[-1]["goodput"] = {**record, "updated": round(time.time(), 3)}
        self.all = goodputs.total([one["goodput"] for one in self._launches if "goodput" in one])
        write_json(self._workdir / "run.json", {"launches": self._launches, "goodput": self.all})


@contextlib.contextmanager
def account(workdir: Path, goodput: Goodput, check: Callable[[], None] = lambda: None) -> Iterator[Account]:
    """Returns a context that writes at its end how a launch ended.

    Args:
      workdir: Folder of the run.
      goodput: Clock of the launch.
      check: Function that raises if this process may no longer write to the workdir.

    Returns:
      A context with the `Account`.
    """
    opened, how = Account(workdir, goodput, check), "failed"
    try:
        yield opened
        how = "finished"
    except Preempted:
        how = "stopped"
        raise
    finally:
        opened.end(how)


def _ended(record: dict[str, Any], start: int, seen: float) -> dict[str, Any]:
    """The account of a launch that ended before the one that continues from `start`.

    Args:
      record: Account of the launch.
      start: Step.
      seen: Time of its last sign of life in seconds since 1970, which may be after its account was written.
    """
    record = goodputs.lose(record, start)
    if record["end"] == "running":
        silent = round(max(seen - record["updated"], 0.0), 3)  # after its last checkpoint
        seconds = {**record["seconds"], "lost": round(record["seconds"]["lost"] + silent, 3)}
        record |= {"end": "killed", "wall": round(record["wall"] + silent, 3), "seconds": seconds}
    return record


def _last_line(workdir: Path) -> float:
    path = workdir / "metrics.jsonl"
    return 0.0 if path_names.is_remote(workdir) or not path.exists() else path.stat().st_mtime
