"""Checkpoints: the whole state of a run and what a reader needs later. The only file that knows Orbax.

WORKDIR/checkpoints/STEP/state         every leaf of the TrainState, by path
WORKDIR/checkpoints/STEP/meta          JSON: config, preprocessing, class names, library versions
WORKDIR/checkpoints/STEP/statistics    arrays that the preprocessing needs, where it does
WORKDIR/checkpoints/STEP/digests.json  sizes and digests of all of these (`digests.py`)

`Saved` reads them, at any moment and beside a training; it changes nothing. `Checkpoints` writes them, and is for the
one training that owns the workdir. Which folders are steps says `entries.py`.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from jaxvision import storage
from jaxvision.errors import UserError, listed
from jaxvision.parallel.distributed import is_main, text_of_process_0, together
from jaxvision.reading import parse_json, reading
from jaxvision.storage import Path
from jaxvision.train import digests, entries
from jaxvision.train.state import TrainState
from jaxvision.train.watch import Preempted

PyTree = Any
_VARIABLES = ("params", "model_state")
_MANIFEST = {"digests": "crc32c crc32"}  # tells a checkpoint that had a manifest from one of an older version
_MAX_NAMED = 3  # damaged files that a message names

_log = logging.getLogger(__name__)


class Gone(Exception):
    """The step was deleted meanwhile, as the one who writes does with all but the newest."""


def folder(workdir: Path) -> Path:
    """Where the checkpoints of a run lie."""
    return storage.absolute(workdir) / "checkpoints"


class Saved:
    """The checkpoints of one workdir, to be read. Nothing is written, made or deleted, so a training may go on beside.

    A step is verified by its digests before it is read. Where none is asked for, the newest that is good is taken, and
    the damaged ones before it are told in a warning each. Process 0 verifies and tells the others, so that all read the
    same step: each method but `steps` and `config` must be called by every process.

    Args:
      workdir: holds the folder `checkpoints`.

    Attributes:
      damaged: what is wrong with the steps that were found damaged, by step.
    """

    def __init__(self, workdir: Path):
        self.folder = folder(workdir)
        self.damaged: dict[int, str] = {}
        self._workdir = workdir
        self._newest: int | None = None
        self._looked = False
        self._known: dict[int, dict[str, Any]] = {}  # by step that was found good: its JSON

    def steps(self) -> list[int]:
        """The steps whose save was finished, ascending. They are not verified."""
        return list(entries.listing(self.folder).finished)

    def newest(self) -> int | None:
        """The newest good step; None where there are no checkpoints.

        Raises:
          UserError: there are some, but all of them are damaged.
        """
        if not self._looked:
            self._newest, self._looked = self._agree(None), True
        return self._newest

    def config(self) -> tuple[int, dict[str, Any]] | None:
        """The newest step whose metadata is undamaged, and the config that it was saved with; None where none is."""
        for step in reversed(self.steps()):
            place = self.folder / str(step)
            try:
                found, name = _words(place), "meta/metadata"
                known = digests.read(place)[1][name] if (place / digests.NAME).exists() else None
                if known and digests.difference(place, name, storage.files(place)[name], known):
                    continue
            except (UserError, OSError, KeyError):
                continue
            if isinstance(found.get("config"), dict):
                return step, found["config"]
        return None

    def meta(self, step: int | None = None) -> dict[str, Any]:
        """What was saved beside the state: `meta` of `Checkpoints.save`.

        Raises:
          UserError: no such step, or a damaged one.
        """

        def read(place: Path) -> dict[str, Any]:
            found = self._known[int(place.name)]
            return found | ({"statistics": _arrays(place / "statistics")} if (place / "statistics").exists() else {})

        return self._read(step, read)

    def restore(self, target: TrainState, step: int | None = None) -> TrainState:
        """The state saved at `step` (default: the newest good one), laid out as `target` says.

        Args:
          target: `ShapeDtypeStruct`s with shardings, from `state.abstract`.

        Raises:
          UserError: no such step, a damaged one, or leaves missing, surplus or of another shape; all are named.
        """
        wanted = _by_name(target)

        def read(place: Path) -> PyTree:
            handler = ocp.StandardCheckpointHandler()
            _check_leaves(wanted, handler.metadata(place / "state").tree, f"{place}")
            return handler.restore(place / "state", args=ocp.args.StandardRestore(wanted))

        tree = self._read(step, read)
        leaves = [_get(tree, path) for path, _ in jax.tree_util.tree_leaves_with_path(target)]
        return jax.tree.unflatten(jax.tree.structure(target), leaves)

    def variables(self, step: int | None = None) -> dict[str, np.ndarray]:
        """The variables alone, by path (`params/head/kernel`), whole on every process.

        The averaged ones where the run keeps an average. Nothing else is read, so the moments of the optimizer
        cost nothing.

        Raises:
          UserError: no such step, or a damaged one.
        """
        choose = lambda saved: (
            {"ema": saved["ema"]} if "ema" in saved else {k: saved[k] for k in _VARIABLES if k in saved}
        )
        tree = self._read(step, lambda place: _arrays(place / "state", choose))
        tree = tree["ema"] if "ema" in tree else {"params": tree["params"], **tree.get("model_state", {})}
        return {"/".join(_names(path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

    def problem(self, step: int) -> str | None:
        """What is wrong with a step, in a line; None where it is good. Its step, files and digests are looked at."""
        place = self.folder / str(step)
        try:
            if not (place / digests.NAME).exists():
                return self._structure(place, step)
            found = digests.problems(place, step)
        except OSError as error:
            found = [f"{getattr(error, 'filename', None) or place}: {error.strerror or error}"]
        if found and not self._is_there(step):
            raise Gone
        more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
        return ", ".join(found[:_MAX_NAMED]) + more or None

    def without_digests(self, step: int) -> str:
        """Why a step can have no manifest, in words; empty where it has one."""
        place = self.folder / str(step)
        if (place / digests.NAME).exists():
            return ""
        try:
            had = parse_json((place / "_CHECKPOINT_METADATA").read_bytes(), place)["custom_metadata"] == _MANIFEST
        except (UserError, OSError, KeyError):
            had = False
        return "it was deleted" if had else "it is of an older version of jaxvision"

    def _agree(self, step: int | None) -> int | None:
        """The step that process 0 finds good."""
        answer: dict[str, Any] = {}
        if is_main():
            try:
                with reading(self.folder):
                    chosen = self._look(step)
                answer = {"step": chosen, "meta": self._known.get(chosen)}
            except UserError as error:
                answer = {"error": str(error)}
            answer["damaged"] = {str(step): words for step, words in self.damaged.items()}
        answer = json.loads(text_of_process_0(json.dumps(answer)))
        self.damaged = {int(step): words for step, words in answer["damaged"].items()}
        if "error" in answer:
            raise UserError(answer["error"])
        if answer["step"] is not None:
            self._known[answer["step"]] = answer["meta"]
        return answer["step"]

    def _look(self, step: int | None) -> int | None:
        """The step that is asked for, or the newest good one, verified; None where there is none at all."""
        found = entries.listing(self.folder)
        if line := entries.strangers(found):
            _log.warning("%s: %s", self.folder, line)
        if step is not None:
            if step not in self._candidates(found):
                raise UserError(f"no checkpoint of step {step} in {self.folder}. Steps: {listed(step, found.finished)}")
            try:
                self._verify(step)
            except Gone:
                raise UserError(self._deleted(step)) from None
            if step in self.damaged:
                raise UserError(
                    f"the checkpoint of step {step} in {self.folder} is damaged: {self.damaged[step]}. Without a step "
                    "the newest good one is taken"
                )
            return step
        tried: set[int] = set(self.damaged)
        while left := [s for s in self._candidates(entries.listing(self.folder)) if s not in tried]:
            tried.add(left[-1])
            try:
                good = self._verify(left[-1])
            except Gone:
                continue
            if good:
                for damaged, words in self.damaged.items():
                    _log.warning(
                        "checkpoint %s is damaged: %s; step %s is used", self.folder / str(damaged), words, left[-1]
                    )
                return left[-1]
        if self.damaged:
            raise UserError(self._all_damaged())
        return None

    def _candidates(self, found: entries.Listing) -> list[int]:
        """What may be a step of a run. On a disk a folder has the name of a step only once its save was finished."""
        of_a_run = not storage.is_remote(self.folder) and (self._workdir / "run.json").exists()
        return sorted(found.finished + (found.unfinished if of_a_run else ()))

    def _verify(self, step: int) -> bool:
        """Whether a step is good; what is wrong is added to `damaged`, and what is known of a good one to `_known`."""
        words = self.problem(step)
        if words is None:
            try:
                self._known[step] = _words(self.folder / str(step))
            except OSError as error:
                if not self._is_there(step):
                    raise Gone from error
                words = f"meta/metadata: {error.strerror or error}"
        if words is not None:
            self.damaged[step] = words
            return False
        if why := self.without_digests(step):
            name = self.folder / str(step) / digests.NAME
            _log.warning("%s is missing (%s): flipped bits of step %s would go unnoticed", name, why, step)
        return True

    def _structure(self, place: Path, step: int) -> str | None:
        """What is wrong with a step without a manifest, as far as can be told."""
        try:
            if not (place / entries.COMMITTED).exists():
                if not self._is_there(step):
                    raise Gone
                empty = not storage.files(place)
                return (
                    "it is an empty folder" if empty else f"{entries.COMMITTED} is missing: its save was not finished"
                )
            _words(place)
            found = _arrays(place / "state", lambda saved: {"step": saved["step"]})["step"]
        except (Gone, Preempted):
            raise
        except Exception as error:  # Orbax and TensorStore raise what comes
            if not self._is_there(step):
                raise Gone from error
            return _first_line(error)
        return None if int(found) == step else f"it holds step {int(found)}: is it a copy?"

    def _read(self, step: int | None, read: Callable[[Path], Any]) -> Any:
        """What `read` makes of the folder of a good step; of the next newest, where that is deleted meanwhile."""
        while True:
            chosen = self.newest() if step is None else step if step in self._known else self._agree(step)
            if chosen is None:
                raise UserError(self._none())
            place = self.folder / str(chosen)
            try:
                return read(place)
            except (UserError, Preempted):
                raise
            except Exception as error:  # Orbax and TensorStore raise what comes
                alone = step is None and jax.process_count() == 1
                if not self._is_there(chosen):
                    if not alone:
                        raise UserError(self._deleted(chosen)) from error
                elif (place / digests.NAME).exists():  # it is what was written, so something else is wrong
                    raise UserError(f"cannot read the checkpoint {place}: {_first_line(error)}") from error
                else:
                    self.damaged[chosen] = _first_line(error)
                    if not alone:
                        raise UserError(f"the checkpoint {place} is damaged: {self.damaged[chosen]}") from error
                self._looked = False
                self._known.pop(chosen, None)

    def _is_there(self, step: int) -> bool:
        place = self.folder / str(step)
        return (place / entries.COMMITTED).exists() if storage.is_remote(place) else place.exists()

    def _deleted(self, step: int) -> str:
        left = ", ".join(map(str, self.steps())) or "none"
        return (
            f"the checkpoint of step {step} in {self.folder} was deleted while it was read: a run keeps the latest "
            f"`train.keep`. Steps that are left: {left}"
        )

    def _none(self) -> str:
        found = entries.listing(self.folder)
        beside = [*map(str, found.unfinished), *found.aside, *found.foreign]
        return f"no checkpoint in {self.folder}" + (f", only {listed('', beside)}" if beside else "")

    def _all_damaged(self) -> str:
        lines = [f"step {step}: {words}" for step, words in sorted(self.damaged.items(), reverse=True)]
        return (
            f"no good checkpoint is left in {self.folder}:\n  "
            + "\n  ".join(lines)
            + "\nPut back the files from a copy, or train anew: --fresh moves this run aside."
        )


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
        self.folder = folder(workdir)
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
        options = ocp.options.AsyncOptions(post_finalization_callback=self._before_commit)
        self._checkpointer = ocp.AsyncCheckpointer(handler, async_options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except Exception as second:  # the first one is what is told
            _log.warning("%s", _first_line(second))

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
        items = {"state": ocp.args.StandardSave(_by_name(state)), "meta": ocp.args.JsonSave(words)}
        if meta.get("statistics"):
            items["statistics"] = ocp.args.StandardSave(meta["statistics"])
        self._saving, place = step, self.folder / str(step)
        with self._writing():
            if is_main() and place.exists():
                _log.warning(
                    "%s is no checkpoint of this run: it is now %s", place, entries.set_aside(self.folder, step)
                )
            args = ocp.args.Composite(**items)
            self._checkpointer.save(place, args=args, custom_metadata=_MANIFEST)
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
            raise UserError(f"cannot write the checkpoint {place}: {_first_line(error)}{intact}") from error


def _words(place: Path) -> dict[str, Any]:
    """The JSON of a checkpoint."""
    path = place / "meta" / "metadata"
    return parse_json(path.read_bytes(), path)


def _arrays(place: Path, choose: Callable[[dict], dict] = lambda saved: saved) -> dict:
    """Some of the arrays of an item of a checkpoint, as NumPy arrays."""
    handler = ocp.PyTreeCheckpointHandler()
    is_leaf = lambda x: hasattr(x, "shape")
    wanted = choose(handler.metadata(place).tree)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), wanted, is_leaf=is_leaf)
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    return handler.restore(place, args=ocp.args.PyTreeRestore(shapes, restore_args=as_numpy, partial_restore=True))


def _first_line(error: Exception) -> str:
    """The first line of what an exception says, for a message of one line."""
    words = str(getattr(error, "strerror", None) or error).strip().partition("\n")[0]
    return f"{words[:300]}" if words else type(error).__name__


def _names(path: tuple) -> list[str]:
    return [jax.tree_util.keystr((key,), simple=True) for key in path]


def _by_name(tree: PyTree) -> dict:
    """Nested dicts keyed by field name, key or index: a layout that any reader can open without this code."""
    nested: dict = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        *parents, last = _names(path)
        place = nested
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = leaf
    return nested


def _get(nested: dict, path: tuple) -> Any:
    for name in _names(path):
        nested = nested[name]
    return nested


def _check_leaves(wanted: dict, saved: dict, where: str) -> None:
    shapes = lambda tree: {
        "/".join(_names(path)): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    }
    want, have = shapes(wanted), shapes(saved)
    problems = [f"missing {name} {want[name]}" for name in want if name not in have]
    problems += [f"surplus {name} {have[name]}" for name in have if name not in want]
    problems += [
        f"{name} is {have[name]}, the config's is {want[name]}"
        for name in want
        if name in have and have[name] != want[name]
    ]
    if problems:
        raise UserError(f"the checkpoint {where} does not fit the config:\n  " + "\n  ".join(problems))
