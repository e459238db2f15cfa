"""Records a trace of some steps of a run with JAX's profiler. It changes no number of the run, and no failure of the
profiler ends the run: it is a warning.
"""

import contextlib
import logging
import re
import shutil
import tempfile
from pathlib import Path as LocalPath
from typing import Any, NamedTuple

import jax

from jaxvision import path_names, storage
from jaxvision.errors import UserError
from jaxvision.storage import Path
from jaxvision.train.goodput import Goodput

FOLDER = "profile"

_log = logging.getLogger(__name__)


class Steps(NamedTuple):
    """The steps to record.

    Attributes:
      first: Number of steps that are taken before; None to start as soon as the program is compiled.
      number: Number of steps.
    """

    first: int | None
    number: int


def parse_steps(text: str) -> Steps:
    """Reads the value of --profile.

    Args:
      text: Number of steps after the compilation, "5", or two numbers of steps between which to record, "10:15".

    Raises:
      UserError: It is neither.

    >>> parse_steps("5"), parse_steps("10:15")
    (Steps(first=None, number=5), Steps(first=10, number=5))
    """
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", text.strip())
    first, last = (match[1], int(match[2])) if match else (None, 0)
    count = last - int(first or 0)
    if count < 1:
        raise UserError(
            f"--profile must be a number of steps, such as 5, or two steps between which to record, such as 10:15, "
            f"not {text!r}"
        )
    return Steps(None if first is None else int(first), count)


class Recorded(NamedTuple):
    """What was recorded.

    Attributes:
      folder: Folder of the trace on this machine.
      steps: Steps between which it was recorded.
      wall: Seconds.
      seconds: Seconds by kind of time, see `goodput.KINDS`.
    """

    folder: LocalPath
    steps: tuple[int, int]
    wall: float
    seconds: dict[str, float]


class Profiler:
    """Records the steps of one process; enter it around the training.

    Args:
      steps: Steps to record. Dispatches of several steps are recorded whole.
      workdir: Folder of the run; the trace goes to `WORKDIR/profile`.
      goodput: Meter of the loop, for the time spent waiting for data.

    Attributes:
      recorded: Trace, and where its time went; None until the last of the steps.
    """

    def __init__(self, steps: Steps, workdir: Path, goodput: Goodput):
        self._wanted, self._workdir, self._goodput = steps, workdir, goodput
        self._remote = path_names.is_remote(workdir)
        self._began: tuple[int, float, dict[str, float]] | None = None
        self._folder: LocalPath | None = None
        self._now, self._failed = 0, False
        self.recorded: Recorded | None = None

    def before(self, step: int, length: int, state: Any) -> None:
        """Starts to record, if it is time. Call it before the wait for the data of a dispatch.

        Args:
          step: Number of steps taken.
          length: Number of steps in the dispatch.
          state: State after these steps.
        """
        self._now = step
        if self._began or self.recorded or self._failed:
            return
        first, count = self._wanted
        due = not self._goodput.compiles(length) if first is None else first - length < step < first + count
        if not due:
            return
        jax.block_until_ready(state)  # so that earlier steps are not part of it
        try:
            folder = tempfile.mkdtemp(prefix="jaxvision-profile-") if self._remote else self._workdir / FOLDER
            self._folder = LocalPath(str(folder))
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # the calls of Python are many, and slow the program
            jax.profiler.start_trace(str(self._folder), profiler_options=options)
        except Exception as error:
            self._fail("cannot be started", error)
            return
        now = self._goodput.turn(self._goodput.kind)
        self._began = (step, now, dict(self._goodput.seconds))

    def annotated(self, step: int) -> contextlib.AbstractContextManager:
        """Returns a context for a dispatch, which a trace then shows as a step.

        Args:
          step: Number of steps taken before.
        """
        if self._began:
            return jax.profiler.StepTraceAnnotation("train", step_num=step)
        return contextlib.nullcontext()

    def after(self, step: int, state: Any) -> float:
        """Stops to record, after the last of the steps.

        Args:
          step: Number of steps taken.
          state: State after these steps, which may not be computed yet.

        Returns:
          Seconds that it took to store the trace; 0 if there was none to store.
        """
        self._now = step
        if self._began is None:
            return 0.0
        first = self._began[0] if self._wanted.first is None else self._wanted.first
        if step >= first + self._wanted.number:
            jax.block_until_ready(state)
            return self._stop()
        return 0.0

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *error: object) -> None:
        if self._began:
            self._stop()

    def _stop(self) -> float:
        assert self._began is not None
        assert self._folder is not None
        first, began, before = self._began
        now = self._goodput.turn(self._goodput.kind)
        seconds = {kind: spent - before[kind] for kind, spent in self._goodput.seconds.items()}
        self._began = None
        with self._goodput.spent("other") as storing:
            try:
                jax.profiler.stop_trace()
                if self._remote:
                    for file in self._folder.rglob("*.*"):
                        place = self._workdir / FOLDER / str(file.relative_to(self._folder))
                        storage.write(place, file.read_bytes())
                self.recorded = Recorded(self._folder, (first, self._now), now - began, seconds)
            except Exception as error:
                self._fail("cannot be stored", error)
        return storing.seconds

    def _fail(self, what: str, error: Exception) -> None:
        self._failed = True
        _log.warning("the profile %s (%s: %s); training continues without it", what, type(error).__name__, error)

    def clean(self) -> None:
        """Removes the copy on this machine of a trace that is in a bucket."""
        if self._remote and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def missing(self, total: int) -> str:
        """Describes which of the steps were not recorded, because the launch did not take them.

        Args:
          total: Number of steps of the run.

        Returns:
          A line; "" if all were recorded, or if the profiler failed, which has been said.
        """
        if self._failed:
            return ""
        first, count = self._wanted
        asked = f"{count} steps" if first is None else f"the steps {first} to {first + count}"
        if self.recorded is None:
            return f"no profile: {asked} were asked for, and this launch ended at step {self._now} of {total}"
        taken = self.recorded.steps[1] - self.recorded.steps[0]
        if taken < count:
            return f"the profile has {taken} of {asked}: this launch ended at step {self._now} of {total}"
        return ""
