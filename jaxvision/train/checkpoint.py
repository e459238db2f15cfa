"""Checkpoints: the whole state of a run, and what is needed to read it later.

WORKDIR/checkpoints/STEP/state         every leaf of the TrainState, by path
WORKDIR/checkpoints/STEP/meta          JSON: config, preprocessing, class names, library versions
WORKDIR/checkpoints/STEP/statistics    arrays that the preprocessing needs, if any
WORKDIR/checkpoints/STEP/digests.json  sizes and digests of all of these (`digests.py`)

`Checkpoints` writes them; only the process that owns the workdir uses it. `Saved` (`saved.py`) reads them at any time,
also during training, and changes nothing. `entries.py` decides which folders are steps. Only this module and
`stored.py` import Orbax.
"""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
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

_SLICE = 2**20  # bytes; the replicas of an array share its writing if each gets at least so many of them


def _state_handler() -> ocp.PyTreeCheckpointHandler:
    """The handler of the state, of which one replica writes the small arrays.

    By default Orbax slices every replicated array over its replicas. Each shape on each device has a program of its own
    for that: the first checkpoint of a small network on eight devices waits for a hundred compilations.
    """
    arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=_SLICE)
    registry = ocp.type_handlers.create_type_handler_registry((jax.Array, arrays))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


class Checkpoints:
    """Writes the checkpoints of a workdir, for the run that owns it. Use it as a context, or call `close`.

    Saving is asynchronous. When it is opened, by all processes, it deletes what a killed save has left, and renames
    damaged steps to `damaged-STEP-N`.

    Args:
      workdir: Folder of the run, with the folder `checkpoints`.
      keep: Number of the latest checkpoints to keep. With 1, a damaged checkpoint leaves none to resume from.
      damaged: Steps that are damaged, from `Saved.damaged`.

    Raises:
      UserError: The folder cannot be written.
    """

    def __init__(self, workdir: Path, keep: int = 2, damaged: Mapping[int, str] | None = None):
        self.folder = entries.folder(workdir)
        self._keep = keep
        self._steps = self._open(damaged or {})
        self._saving = 0  # step that is being saved
        self._held: int | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        handler = ocp.CompositeCheckpointHandler(
            state=_state_handler(),
            meta=ocp.JsonCheckpointHandler(),
            statistics=ocp.StandardCheckpointHandler(),
        )
        echoes.silence()
        options = ocp.options.AsyncOptions(post_finalization_callback=self._before_commit)
        self._checkpointer = ocp.AsyncCheckpointer(handler, async_options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is None or isinstance(error, Preempted):  # a stop reports the state as saved: wait until it is
            self.close()
            return
        try:
            self.close()
        except Exception as second:  # the first error is raised; a full disk is often the reason of both
            if stored.first_line(error) not in str(second):
                _log.warning("%s", stored.first_line(second))

    def close(self) -> None:
        """Waits for what this process is saving, and raises the error of a save in the background."""
        try:
            self._finish()
        finally:
            self._checkpointer.close()

    def wait(self) -> None:
        """Waits until the checkpoint and its digests would survive a loss of power. All processes must call it.

        Raises:
          UserError: It could not be written; every process raises it.
        """
        with together("saving a checkpoint"):
            self._finish()

    def steps(self) -> list[int]:
        """Returns the saved steps, ascending, including the one that is being saved."""
        return sorted(self._steps)

    def hold(self, step: int | None) -> None:
        """Keeps a step whatever its age, in place of the one that was held before.

        The latter may be deleted after the next save. So if a process is killed during that save, both are there.

        Args:
          step: Step that is saved, or that is going to be saved next; None for none.
        """
        self._held = step

    def save(self, state: TrainState, meta: dict[str, Any]) -> None:
        """Starts saving. The state may be donated to the next step as soon as this returns.

        Args:
          state: State of the run.
          meta: Metadata as JSON, except for NumPy arrays by name under "statistics".

        Raises:
          UserError: This checkpoint, or the one before it, cannot be written.
        """
        step = int(state.step)
        self.wait()
        if step in self._steps:
            return
        words = {key: value for key, value in meta.items() if key != "statistics"}
        items = {"state": ocp.args.PyTreeSave(stored.by_name(state)), "meta": ocp.args.JsonSave(words)}
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
        self._thread = threading.Thread(target=self._after_commit, args=(self._held,), name="checkpoint", daemon=True)
        self._thread.start()

    def _open(self, damaged: Mapping[int, str]) -> list[int]:
        """Prepares the folder for writing, in process 0; returns the steps in it."""
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
        """Writes the digests after all files and before the folder gets its name; a thread of Orbax in process 0."""
        place = self._checkpointer.get_temporary_path(epath.Path(self.folder / str(self._saving))).get()
        digests.write(self.folder / place.name, self._saving)

    def _after_commit(self, held: int | None) -> None:
        """Waits, in a thread, for the end of the save, and then deletes old checkpoints except the one that is held."""
        try:
            self._checkpointer.wait_until_finished()
            old = [step for step in sorted(self._steps)[: -self._keep] if step != held]
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
        """Turns what is raised inside into a UserError of one line."""
        try:
            yield
        except (UserError, Preempted):
            raise
        except Exception as error:  # Orbax and TensorStore raise errors of any type
            older = [step for step in self._steps if step != self._saving]
            intact = f"; the one of step {max(older)} is intact" if older else ""
            place = self.folder / str(self._saving)
            what = f"cannot write the checkpoint {place}: {stored.first_line(error)}{intact}"
            raise UserError(what, EXIT_FAILED) from error
