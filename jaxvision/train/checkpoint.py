"""Checkpoints: the whole state of a run and what a reader needs later. The only file that knows Orbax.

WORKDIR/checkpoints/STEP/state        every leaf of the TrainState, by path
WORKDIR/checkpoints/STEP/meta         JSON: config, preprocessing, class names, library versions
WORKDIR/checkpoints/STEP/statistics   arrays that the preprocessing needs, where it does
"""

from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import LatestN

from jaxvision import storage
from jaxvision.errors import UserError, listed
from jaxvision.storage import Path
from jaxvision.train.state import TrainState

PyTree = Any
_VARIABLES = ("params", "model_state")


def folder(workdir: Path) -> Path:
    """Where the checkpoints of a run lie."""
    return storage.absolute(workdir) / "checkpoints"


def saved_steps(workdir: Path) -> list[int]:
    """The steps of a run that can be restored, ascending; what is being written is none. Nothing is changed."""
    return sorted(ocp.utils.checkpoint_steps(folder(workdir))) if folder(workdir).is_dir() else []


class Checkpoints:
    """The checkpoints of one workdir. Saving is asynchronous; use as a context or call `close`.

    Args:
      workdir: holds the folder `checkpoints`.
      keep: how many of the latest to keep.
    """

    def __init__(self, workdir: Path, keep: int = 1):
        options = ocp.CheckpointManagerOptions(preservation_policy=LatestN(keep), cleanup_tmp_directories=True)
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "meta": ocp.JsonCheckpointHandler(),
            "statistics": ocp.StandardCheckpointHandler(),
        }
        self.folder = folder(workdir)
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for what is being saved. An error of a save that ran in the background surfaces here."""
        self._manager.wait_until_finished()
        self._manager.close()

    def wait(self) -> None:
        """Returns when what was saved is durable; every process must call it. An error of that save surfaces here."""
        self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """The steps that can be restored, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, meta: dict[str, Any]) -> None:
        """Starts saving; the state may be donated to the next step as soon as this returns.

        Args:
          state: of the run.
          meta: JSON, but for NumPy arrays by name under "statistics".
        """
        step = int(state.step)
        if step in self.steps():
            return
        words = {key: value for key, value in meta.items() if key != "statistics"}
        items = {"state": ocp.args.StandardSave(_by_name(state)), "meta": ocp.args.JsonSave(words)}
        if meta.get("statistics"):
            items["statistics"] = ocp.args.StandardSave(meta["statistics"])
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def meta(self, step: int | None = None) -> dict[str, Any]:
        """What was saved beside the state: `meta` of `save`."""
        step, items = self._choose(step), {"meta": ocp.args.JsonRestore()}
        if (self.folder / str(step) / "statistics").is_dir():
            items["statistics"] = ocp.args.StandardRestore()
        found = self._manager.restore(step, args=ocp.args.Composite(**items))
        return found["meta"] | ({"statistics": found["statistics"]} if "statistics" in items else {})

    def restore(self, target: TrainState, step: int | None = None) -> TrainState:
        """The state saved at `step` (default: the latest), laid out as `target` says.

        Args:
          target: `ShapeDtypeStruct`s with shardings, from `state.abstract`.

        Raises:
          UserError: no such step, or leaves missing, surplus or of another shape; all are named.
        """
        step = self._choose(step)
        wanted = _by_name(target)
        saved = self._manager.item_metadata(step)["state"].tree
        _check_leaves(wanted, saved, f"{self.folder / str(step)}")
        args = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
        tree = self._manager.restore(step, args=args)["state"]
        leaves = [_get(tree, path) for path, _ in jax.tree_util.tree_leaves_with_path(target)]
        return jax.tree.unflatten(jax.tree.structure(target), leaves)

    def variables(self, step: int | None = None) -> dict[str, np.ndarray]:
        """The variables alone, by path (`params/head/kernel`), whole on every process.

        The averaged ones where the run keeps an average. Nothing else is read, so the moments of the optimizer
        cost nothing.
        """
        step = self._choose(step)
        saved = self._manager.item_metadata(step)["state"].tree
        wanted = {"ema": saved["ema"]} if "ema" in saved else {k: saved[k] for k in _VARIABLES if k in saved}
        is_leaf = lambda x: hasattr(x, "shape")
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), wanted, is_leaf=is_leaf)
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        args = ocp.args.PyTreeRestore(shapes, restore_args=as_numpy, partial_restore=True)
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            tree = reader.restore(self.folder / str(step) / "state", args=args)
        tree = tree["ema"] if "ema" in tree else {"params": tree["params"], **tree.get("model_state", {})}
        return {"/".join(_names(path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

    def _choose(self, step: int | None) -> int:
        steps = self.steps()
        if not steps:
            raise UserError(f"no checkpoint in {self.folder}")
        if step is not None and step not in steps:
            raise UserError(f"no checkpoint of step {step} in {self.folder}. Steps: {listed(step, steps)}")
        return steps[-1] if step is None else step


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
