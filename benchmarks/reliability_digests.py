"""The cost of the digests of a checkpoint: their share of a save and of a restore, for a state as large as ViT-S/16's.

    python benchmarks/reliability_digests.py [FOLDER]

FOLDER is the place of the checkpoints (a temporary folder by default): it should be on the disk to measure.
Saves with and without digests take turns. A training waits for neither: it waits only while the state is copied.
"""

import hashlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import models
from jaxvision.train import digests
from jaxvision.train.checkpoint import Checkpoints, Saved
from jaxvision.train.state import TrainState

ROUNDS = 5


def state() -> TrainState:
    """Makes parameters of ViT-S/16 and two moments of each, with random values (zeros would be stored as nothing)."""
    module = models.build("vit", num_classes=1000, variant="S/16")
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))["params"]
    rng = np.random.default_rng(0)
    draw = lambda: jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape, np.float32)), shapes)
    return TrainState(jnp.int32(0), draw(), {}, (draw(), draw()), None)


def timed(function: Callable, *arguments) -> float:
    """Returns the seconds of one call.

    Args:
      function: Function to call.
      *arguments: Its arguments.
    """
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def save(folder: Path, mine: TrainState, step: int, with_digests: bool) -> tuple[float, float, float]:
    """Saves a state.

    Args:
      folder: Folder of the checkpoints.
      mine: State to save.
      step: Number of the step.
      with_digests: True to write digests.

    Returns:
      The seconds that the training waits, that the whole save takes, and that the digests take.
    """
    spent = []

    def measured(function: Callable) -> Callable:
        return lambda *arguments: spent.append(timed(function, *arguments)) if with_digests else None

    with (
        mock.patch.object(digests, "write", measured(digests.write)),
        mock.patch.object(digests, "complete", measured(digests.complete)),
        Checkpoints(folder, keep=2) as checkpoints,
    ):
        began = time.perf_counter()
        checkpoints.save(mine._replace(step=jnp.int32(step)), {})
        waited = time.perf_counter() - began
        checkpoints.wait()
        return waited, time.perf_counter() - began, sum(spent)


def hashed(place: Path, name: str) -> None:
    """Hashes all files of a folder.

    Args:
      place: Folder.
      name: Name of the hash, as in `hashlib`.
    """
    for file in sorted(p for p in place.rglob("*") if p.is_file()):
        with file.open("rb") as opened:
            hashlib.file_digest(opened, name)


def main(folder: Path) -> None:
    """Prints the costs.

    Args:
      folder: Folder of the checkpoints.
    """
    mine = state()
    size = sum(x.nbytes for x in jax.tree.leaves(mine))
    print(f"{size / 1e6:,.0f} MB, {ROUNDS} rounds, medians")
    save(folder, mine, 0, True)  # warms up
    rows = {kind: [] for kind in (False, True)}
    for turn in range(ROUNDS):
        for kind in (False, True):
            rows[kind].append(save(folder / str(kind), mine, turn + 1, kind))
    for kind, words in ((False, "without digests"), (True, "with digests")):
        waited, whole, _ = (statistics.median(column) for column in zip(*rows[kind], strict=True))
        print(f"save {words:16s} {whole:7.3f} s, of which the training waits {waited:.3f} s")
    share = [spent / whole for _, whole, spent in rows[True]]
    print(f"digests: {statistics.median(share):.1%} of a save ({min(share):.1%} to {max(share):.1%})")
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), mine)
    step, place = ROUNDS, folder / "True" / "checkpoints" / str(ROUNDS)
    restores, checks = zip(
        *(
            (timed(Saved(folder / "True").restore, target), timed(Saved(folder / "True").problem, step))
            for _ in range(ROUNDS)
        ),
        strict=True,
    )
    print(f"restore {statistics.median(restores):.3f} s, of which digests {statistics.median(checks):.3f} s")
    for name in ("sha256", "blake2b", "md5"):
        print(f"for comparison, {name}: {timed(hashed, place, name):.3f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
