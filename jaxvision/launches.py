"""The launches of a run in its run.json: what each was started with, and how its time was spent.

    launches[i]           id of the run, command, config, versions, devices, git commit of one launch
    launches[i].goodput   seconds of one launch by kind; `lost` are those that the next one had to repeat after a kill
    goodput               sums over all launches

The seconds are written at checkpoints, so they survive a kill. Time between the launches is not counted: no process of
the run measured it.
"""

import contextlib
import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import path_names
from jaxvision.errors import UserError
from jaxvision.storage import Path
from jaxvision.train import goodput as goodputs
from jaxvision.train.goodput import Goodput
from jaxvision.train.watch import Preempted
from jaxvision.workdir import git_commit, launches, versions, write_json

_log = logging.getLogger(__name__)


def run_id(workdir: Path) -> str:
    """Returns the id of a run: the one in its run.json, else a new one.

    Args:
      workdir: Folder of the run.
    """
    known = [one["id"] for one in launches(workdir) if isinstance(one.get("id"), str)]
    return known[-1] if known else uuid.uuid4().hex


def record_launch(
    workdir: Path,
    config: ConfigDict,
    start: int,
    notes: Sequence[str] = (),
    *,
    resume: bool = False,
    run: str | None = None,
) -> None:
    """Adds this launch to run.json.

    Args:
      workdir: Folder of the run.
      config: Config of the launch.
      start: Step from which it continues.
      notes: Lines about the weights that it starts from.
      resume: True if it was started with --resume.
      run: Id of the run, from `run_id`; None for that of the folder.
    """
    launch = {
        "id": run or run_id(workdir),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "start_step": start,
        "resume": resume,
        "init": list(notes),
        "config_fingerprint": configs.fingerprint(config),
        "versions": versions(),
        "devices": [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()],
        "processes": jax.process_count(),
        "git": git_commit(),
    }
    write_json(workdir / "run.json", {"launches": [*launches(workdir), launch]})


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
        """Opens the account of the last launch in run.json, which `record_launch` has added.

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
