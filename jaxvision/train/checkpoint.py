"""Checkpoints: the whole state of a run and what a reader needs later.

WORKDIR/checkpoints/STEP/state         every leaf of the TrainState, by path
WORKDIR/checkpoints/STEP/meta          JSON: config, preprocessing, class names, library versions
WORKDIR/checkpoints/STEP/statistics    arrays that the preprocessing needs, where it does
WORKDIR/checkpoints/STEP/digests.json  sizes and digests of all of these (`digests.py`)

`Checkpoints` writes them, and is for the one training that owns the workdir. `Saved` (`saved.py`) reads them, at any
moment and beside a training; it changes nothing. Which folders are steps says `entries.py`. Orbax is known here and in
`stored.py` alone.
"""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.exits import EXIT_FAILED
from jaxvision.parallel.distributed import is_main, text_of_process_0, together
from jaxvision.storage import Path
from jaxvision.train import digests, echoes, entries, stored
from jaxvision.train.saved import Saved
from jaxvision.train.state import TrainState
from jaxvision.train.watch import Preempted

__all__ = ["Checkpoints", "Saved"]

_log = logging.getLogger(__name__)


class Checkpoints:
    """Writes the checkpoints of one workdir, for the one training that owns it. Use as a context or call `close`.

    Saving is asynchronous. Where it opens, it deletes what a killed save has left and sets damaged steps aside, under
    the names `damaged-STEP-N`; all processes must open it.

    Args:
      workdir: holds the folder `checkpoints`.
      keep: how many of the latest to keep; with 1 there is nothing to go back to if that one is damaged.
      damaged: steps that were found damaged, from `Saved.damaged`.

    Raises:
      UserError: the folder cannot be written.
    """

    def __init__(self, workdir: Path, keep: int = 2, damaged: Mapping[int, str] | None = None):
        self.folder = entries.folder(workdir)
        self._keep = keep
        self._steps = self._open(damaged or {})
        self._saving = 0  # the step
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        handler = ocp.CompositeCheckpointHandler(
            state=ocp.StandardCheckpointHandler(),
            meta=ocp.JsonCheckpointHandler(),
            statistics=ocp.StandardCheckpointHandler(),
        )
        echoes.silence()
        options = ocp.options.AsyncOptions(post_finalization_callback=self._before_commit)
        self._checkpointer = ocp.AsyncCheckpointer(handler, async_options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is None or isinstance(error, Preempted):  # who says that the state is saved waits until it is
            self.close()
            return
        try:
            self.close()
        except Exception as second:  # the first one is what is told; a full disk is often the reason of both
            if stored.first_line(error) not in str(second):
                _log.warning("%s", stored.first_line(second))

    def close(self) -> None:
        """Waits for what this process is saving. An error of a save that ran in the background surfaces here."""
        try:
            self._finish()
        finally:
            self._checkpointer.close()

    def wait(self) -> None:
        """Returns once what was saved would survive a loss of power, its digests too. All processes must call it.

        Raises:
          UserError: it could not be written; in every process.
        """
        with together("saving a checkpoint"):
            self._finish()

    def steps(self) -> list[int]:
        """The steps that were saved, ascending, with the one that is being saved."""
        return sorted(self._steps)

    def save(self, state: TrainState, meta: dict[str, Any]) -> None:
        """Starts saving; the state may be donated to the next step as soon as this returns.

        Args:
          state: of the run.
          meta: JSON, but for NumPy arrays by name under "statistics".

        Raises:
          UserError: this checkpoint, or the one before it, cannot be written.
        """
        step = int(state.step)
        self.wait()
        if step in self._steps:
            return
        words = {key: value for key, value in meta.items() if key != "statistics"}
        items = {"state": ocp.args.StandardSave(stored.by_name(state)), "meta": ocp.args.JsonSave(words)}
        if meta.get("statistics"):
            items["statistics"] = ocp.args.StandardSave(meta["statistics"])
        self._saving, place = step, self.folder / str(step)
        with self._writing():
            if is_main() and place.exists():
                _log.warning(
                    "%s is no checkpoint of this run: it is now %s", place, entries.set_aside(self.folder, step)
                )
            args = ocp.args.Composite(**items)
            self._checkpointer.save(place, args=args, custom_metadata=digests.KIND)
        self._steps.append(step)
        self._thread = threading.Thread(target=self._after_commit, name="checkpoint", daemon=True)
        self._thread.start()

    def _open(self, damaged: Mapping[int, str]) -> list[int]:
        """Makes the folder fit to be written, in process 0; returns the steps in it."""
        answer: dict[str, Any] = {}
        if is_main():
            try:
                with storage.reaching(self.folder, "write to"):
                    storage.make_folder(self.folder)
                    for step in damaged:
                        if (self.folder / str(step)).exists():
                            name = entries.set_aside(self.folder, step)
                            _log.warning("the damaged checkpoint %s is now %s", self.folder / str(step), name)
                    entries.clean(self.folder)
                    answer = {"steps": entries.listing(self.folder).finished}
            except UserError as error:
                answer = {"error": str(error)}
        answer = json.loads(text_of_process_0(json.dumps(answer)))
        if "error" in answer:
            raise UserError(answer["error"])
        return answer["steps"]

    def _before_commit(self) -> None:
        """In process 0, in a thread of Orbax: all processes have written their files, the folder has no name yet."""
        place = self._checkpointer.get_temporary_path(epath.Path(self.folder / str(self._saving))).get()
        digests.write(self.folder / place.name, self._saving)

    def _after_commit(self) -> None:
        """In a thread of its own: waits for the end of the save, and then deletes what is not kept."""
        try:
            self._checkpointer.wait_until_finished()
            old = sorted(self._steps)[: -self._keep]
            if is_main():
                storage.sync(self.folder)
                digests.complete(self.folder / str(self._saving), self._saving)
                self._delete(old)
            self._steps = [step for step in self._steps if step not in old]
        except Exception as error:
            self._error = error

    def _delete(self, old: list[int]) -> None:
        for step in old:
            try:
                entries.delete(self.folder, step)
            except OSError as error:
                _log.warning(
                    "cannot delete the old checkpoint %s: %s", self.folder / str(step), error.strerror or error
                )

    def _finish(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            self._steps.remove(self._saving)
            with self._writing():
                raise error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What is raised inside becomes one line."""
        try:
            yield
        except (UserError, Preempted):
            raise
        except Exception as error:  # Orbax and TensorStore raise what comes
            older = [step for step in self._steps if step != self._saving]
            intact = f"; the one of step {max(older)} is intact" if older else ""
            place = self.folder / str(self._saving)
            what = f"cannot write the checkpoint {place}: {stored.first_line(error)}{intact}"
            raise UserError(what, EXIT_FAILED) from error
