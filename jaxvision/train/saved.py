"""Reads the checkpoints of a run, at any time, also during training, without changing anything."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxvision import path_names, storage
from jaxvision.errors import UserError, listed
from jaxvision.parallel.distributed import is_main, text_of_process_0
from jaxvision.reading import parse_json, reading
from jaxvision.storage import Path
from jaxvision.train import digests, entries, stored
from jaxvision.train.state import TrainState
from jaxvision.train.watch import Preempted

_VARIABLES = ("params", "model_state")
_MAX_NAMED = 3  # number of damaged files that a message names

_log = logging.getLogger(__name__)


class Gone(Exception):
    """The step was deleted meanwhile: a run keeps only its latest checkpoints."""


class Saved:
    """Reads the checkpoints of a workdir. It writes and deletes nothing, so a run may train meanwhile.

    A step is verified by its digests before it is read. If no step is asked for, the newest good one is read, with a
    warning for each damaged one after it. Process 0 verifies and tells the others, so that all read the same step.
    Every process must call each method, except `steps` and `config`.

    Args:
      workdir: Folder of the run, with the folder `checkpoints`.

    Attributes:
      damaged: Descriptions of the damage of the damaged steps, by step.
    """

    def __init__(self, workdir: Path):
        self.folder = entries.folder(workdir)
        self.damaged: dict[int, str] = {}
        self._workdir = workdir
        self._newest: int | None = None
        self._looked = False
        self._metas: dict[int, dict[str, Any]] = {}  # metadata of the steps that were verified

    def steps(self) -> list[int]:
        """Returns the steps whose save was finished, ascending. They are not verified."""
        return list(entries.listing(self.folder).finished)

    def newest(self) -> int | None:
        """Returns the newest good step, or None if there are no checkpoints.

        Raises:
          UserError: There are checkpoints, but all of them are damaged.
        """
        if not self._looked:
            self._newest, self._looked = self._agree(None), True
        return self._newest

    def config(self) -> tuple[int, dict[str, Any]] | None:
        """Returns the newest step whose metadata is undamaged, and its config; None if there is none."""
        for step in reversed(self.steps()):
            place = self.folder / str(step)
            try:
                meta, name = stored.words(place), stored.META
                if (place / digests.NAME).exists():
                    written_step, written = digests.read(place)
                    file = storage.files(place)[name]
                    if written_step != step or digests.difference(place, name, file, written[name]):
                        continue
            except (UserError, OSError, KeyError):
                continue
            if isinstance(meta.get("config"), dict):
                return step, meta["config"]
        return None

    def meta(self, step: int | None = None) -> dict[str, Any]:
        """Reads the metadata of a step: `meta` of `Checkpoints.save`.

        Args:
          step: Step; None for the newest good one.

        Raises:
          UserError: There is no such step, or it is damaged.
        """

        def read(place: Path) -> dict[str, Any]:
            meta = self._metas[int(place.name)]
            if not (place / "statistics").exists():
                return meta
            return meta | {"statistics": stored.arrays(place / "statistics")}

        return self._read(step, read)

    def restore(self, target: TrainState, step: int | None = None) -> TrainState:
        """Reads the state of a step into the shardings of `target`.

        Args:
          target: State of `ShapeDtypeStruct`s with shardings, from `state.abstract`.
          step: Step; None for the newest good one.

        Raises:
          UserError: There is no such step, it is damaged, or leaves are missing, surplus or of another shape; the
            message names all of them.
        """
        return self._read(step, lambda place: stored.restore(place, target))

    def variables(self, step: int | None = None) -> dict[str, np.ndarray]:
        """Reads the variables of a step: the averaged ones if the run keeps an average, else the trained ones.

        Nothing else is read, so the moments of the optimizer cost no time and memory.

        Args:
          step: Step; None for the newest good one.

        Returns:
          Arrays of any shape by path (`params/head/kernel`), complete in every process.

        Raises:
          UserError: There is no such step, or it is damaged.
        """
        choose = lambda saved: (
            {"ema": saved["ema"]} if "ema" in saved else {k: saved[k] for k in _VARIABLES if k in saved}
        )
        tree = self._read(step, lambda place: stored.arrays(place / "state", choose))
        tree = tree["ema"] if "ema" in tree else {"params": tree["params"], **tree.get("model_state", {})}
        return {"/".join(stored.names(path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

    def problem(self, step: int) -> str | None:
        """Checks the number, files and digests of a step.

        Args:
          step: Step.

        Returns:
          What is wrong, in a line; None if the step is good.

        Raises:
          Gone: The step was deleted meanwhile.
        """
        place = self.folder / str(step)
        try:
            if not (place / digests.NAME).exists():
                return self._structure(place, step)
            problems = digests.problems(place, step)
        except OSError as error:
            problems = [f"{getattr(error, 'filename', None) or place}: {error.strerror or error}"]
        if problems and not self._is_there(step):
            raise Gone
        more = f" and {len(problems) - _MAX_NAMED} more" if len(problems) > _MAX_NAMED else ""
        return ", ".join(problems[:_MAX_NAMED]) + more or None

    def without_digests(self, step: int) -> str:
        """Says why a step has no manifest of digests.

        Args:
          step: Step.

        Returns:
          The reason in words; empty if the step has a manifest.
        """
        place = self.folder / str(step)
        if (place / digests.NAME).exists():
            return ""
        try:
            had = parse_json((place / "_CHECKPOINT_METADATA").read_bytes(), place)["custom_metadata"] == digests.KIND
        except (UserError, OSError, KeyError):
            had = False
        return "it was deleted" if had else "it is of an older version of jaxvision"

    def _agree(self, step: int | None) -> int | None:
        """Returns the step that process 0 finds good, in every process."""
        answer: dict[str, Any] = {}
        if is_main():
            try:
                with reading(self.folder, only=OSError):
                    chosen = self._look(step)
                answer = {"step": chosen, "meta": None if chosen is None else self._metas.get(chosen)}
            except UserError as error:
                answer = {"error": str(error)}
            answer["damaged"] = {str(step): words for step, words in self.damaged.items()}
        answer = json.loads(text_of_process_0(json.dumps(answer)))
        self.damaged = {int(step): words for step, words in answer["damaged"].items()}
        if "error" in answer:
            raise UserError(answer["error"])
        if answer["step"] is not None:
            self._metas[answer["step"]] = answer["meta"]
        return answer["step"]

    def _look(self, step: int | None) -> int | None:
        """Verifies and returns the step that is asked for, or the newest good one; None if there are no steps."""
        listing = entries.listing(self.folder)
        if line := entries.strangers(listing):
            _log.warning("%s: %s", self.folder, line)
        if step is not None:
            if step not in self._candidates(listing):
                raise UserError(
                    f"no checkpoint of step {step} in {self.folder}. Steps: {listed(step, listing.finished)}"
                )
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
        if self.damaged or aside:  # a run that had checkpoints must not start from step 0 without a word
            raise UserError(self._all_damaged(aside))
        return None

    def _candidates(self, listing: entries.Listing) -> list[int]:
        """Returns what may be a step of a run. On a disk, only a finished save gives a folder the name of a step."""
        of_a_run = not path_names.is_remote(self.folder) and (self._workdir / "run.json").exists()
        return sorted(listing.finished + (listing.unfinished if of_a_run else ()))

    def _verify(self, step: int) -> bool:
        """Returns whether a step is good; adds its problem to `damaged`, or its metadata to `_metas`."""
        words = self.problem(step)
        if words is None:
            try:
                self._metas[step] = stored.words(self.folder / str(step))
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
        """Checks a step without a manifest, as far as possible; returns what is wrong."""
        try:
            if not (place / entries.COMMITTED).exists():
                if not self._is_there(step):
                    raise Gone
                empty = not storage.files(place)
                return (
                    "it is an empty folder" if empty else f"{entries.COMMITTED} is missing: its save was not finished"
                )
            stored.words(place)
            saved_step = stored.arrays(place / "state", lambda saved: {"step": saved["step"]})["step"]
        except (Gone, Preempted):
            raise
        except Exception as error:  # Orbax and TensorStore raise errors of any type
            if not self._is_there(step):
                raise Gone from error
            return stored.first_line(error)
        return None if int(saved_step) == step else f"it holds step {int(saved_step)}: is it a copy?"

    def _read(self, step: int | None, read: Callable[[Path], Any]) -> Any:
        """Applies `read` to the folder of a good step; to the next newest if that is deleted meanwhile."""
        while True:
            chosen = self.newest() if step is None else step if step in self._metas else self._agree(step)
            if chosen is None:
                raise UserError(self._none())
            place = self.folder / str(chosen)
            try:
                content = read(place)
                if not self._is_there(chosen):  # TensorStore returns zeros for files that are missing
                    raise Gone
                return content
            except (UserError, Preempted):
                raise
            except Exception as error:  # Orbax and TensorStore raise errors of any type
                alone = step is None and jax.process_count() == 1
                if not self._is_there(chosen):
                    if not alone:
                        raise UserError(self._deleted(chosen)) from error
                elif (place / digests.NAME).exists():  # its digests were right, so something else is wrong
                    raise UserError(f"cannot read the checkpoint {place}: {stored.first_line(error)}") from error
                else:
                    self.damaged[chosen] = stored.first_line(error)
                    if not alone:
                        raise UserError(f"the checkpoint {place} is damaged: {self.damaged[chosen]}") from error
                self._looked = False
                self._metas.pop(chosen, None)

    def _is_there(self, step: int) -> bool:
        place = self.folder / str(step)
        return (place / entries.COMMITTED).exists() if path_names.is_remote(place) else place.exists()

    def _deleted(self, step: int) -> str:
        left = ", ".join(map(str, self.steps())) or "none"
        return (
            f"the checkpoint of step {step} in {self.folder} was deleted while it was read: a run keeps the latest "
            f"`train.keep`. Steps that are left: {left}"
        )

    def _none(self) -> str:
        listing = entries.listing(self.folder)
        others = [*map(str, listing.unfinished), *listing.aside, *listing.foreign]
        return f"no checkpoint in {self.folder}" + (f", only {listed('', others)}" if others else "")

    def _all_damaged(self, aside: Sequence[str]) -> str:
        lines = [f"step {step}: {words}" for step, words in sorted(self.damaged.items(), reverse=True)]
        lines += [f"{name}: set aside before" for name in aside]
        return (
            f"no good checkpoint is left in {self.folder}:\n  "
            + "\n  ".join(lines)
            + "\nPut back the files from a copy, or add --fresh to move this run aside and start again from step 0."
        )
