"""The checkpoints of a run as they are read: at any moment, beside a training, and changing nothing."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxvision import storage
from jaxvision.errors import UserError, listed
from jaxvision.parallel.distributed import is_main, text_of_process_0
from jaxvision.reading import parse_json, reading
from jaxvision.storage import Path
from jaxvision.train import digests, entries, stored
from jaxvision.train.state import TrainState
from jaxvision.train.watch import Preempted

_VARIABLES = ("params", "model_state")
_MAX_NAMED = 3  # damaged files that a message names

_log = logging.getLogger(__name__)


class Gone(Exception):
    """The step was deleted meanwhile, as the one who writes does with all but the newest."""


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
        self.folder = entries.folder(workdir)
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
                found, name = stored.words(place), stored.META
                if (place / digests.NAME).exists():
                    said, known = digests.read(place)
                    if said != step or digests.difference(place, name, storage.files(place)[name], known[name]):
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
            return found | (
                {"statistics": stored.arrays(place / "statistics")} if (place / "statistics").exists() else {}
            )

        return self._read(step, read)

    def restore(self, target: TrainState, step: int | None = None) -> TrainState:
        """The state saved at `step` (default: the newest good one), laid out as `target` says.

        Args:
          target: `ShapeDtypeStruct`s with shardings, from `state.abstract`.

        Raises:
          UserError: no such step, a damaged one, or leaves missing, surplus or of another shape; all are named.
        """
        return self._read(step, lambda place: stored.restore(place, target))

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
        tree = self._read(step, lambda place: stored.arrays(place / "state", choose))
        tree = tree["ema"] if "ema" in tree else {"params": tree["params"], **tree.get("model_state", {})}
        return {"/".join(stored.names(path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

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
            had = parse_json((place / "_CHECKPOINT_METADATA").read_bytes(), place)["custom_metadata"] == digests.KIND
        except (UserError, OSError, KeyError):
            had = False
        return "it was deleted" if had else "it is of an older version of jaxvision"

    def _agree(self, step: int | None) -> int | None:
        """The step that process 0 finds good."""
        answer: dict[str, Any] = {}
        if is_main():
            try:
                with reading(self.folder, only=OSError):
                    chosen = self._look(step)
                answer = {"step": chosen, "meta": None if chosen is None else self._known.get(chosen)}
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
        aside = entries.listing(self.folder).aside
        if self.damaged or aside:  # a run that had checkpoints does not begin anew in silence
            raise UserError(self._all_damaged(aside))
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
                self._known[step] = stored.words(self.folder / str(step))
            except OSError as error:
                if not self._is_there(step):
                    raise Gone from error
                words = f"{stored.META}: {error.strerror or error}"
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
            stored.words(place)
            found = stored.arrays(place / "state", lambda saved: {"step": saved["step"]})["step"]
        except (Gone, Preempted):
            raise
        except Exception as error:  # Orbax and TensorStore raise what comes
            if not self._is_there(step):
                raise Gone from error
            return stored.first_line(error)
        return None if int(found) == step else f"it holds step {int(found)}: is it a copy?"

    def _read(self, step: int | None, read: Callable[[Path], Any]) -> Any:
        """What `read` makes of the folder of a good step; of the next newest, where that is deleted meanwhile."""
        while True:
            chosen = self.newest() if step is None else step if step in self._known else self._agree(step)
            if chosen is None:
                raise UserError(self._none())
            place = self.folder / str(chosen)
            try:
                found = read(place)
                if not self._is_there(chosen):  # TensorStore takes zeros for what is missing in a folder
                    raise Gone
                return found
            except (UserError, Preempted):
                raise
            except Exception as error:  # Orbax and TensorStore raise what comes
                alone = step is None and jax.process_count() == 1
                if not self._is_there(chosen):
                    if not alone:
                        raise UserError(self._deleted(chosen)) from error
                elif (place / digests.NAME).exists():  # it is what was written, so something else is wrong
                    raise UserError(f"cannot read the checkpoint {place}: {stored.first_line(error)}") from error
                else:
                    self.damaged[chosen] = stored.first_line(error)
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

    def _all_damaged(self, aside: Sequence[str]) -> str:
        lines = [f"step {step}: {words}" for step, words in sorted(self.damaged.items(), reverse=True)]
        lines += [f"{name}: set aside before" for name in aside]
        return (
            f"no good checkpoint is left in {self.folder}:\n  "
            + "\n  ".join(lines)
            + "\nPut back the files from a copy, or train anew: --fresh moves this run aside."
        )
