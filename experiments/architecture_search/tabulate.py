"""Trains every architecture of the study with every seed, and writes the table that the searches go through.

Run:  python experiments/architecture_search/tabulate.py table.csv

All share one compiled step. The table is written after each seed; a table that exists is continued.
"""

import itertools
import sys
import time
from pathlib import Path
from typing import Any

import jax
import pyarrow as pa
from pyarrow import csv

from jaxvision.commands.study import sibling
from jaxvision.sweep import space as spaces

net = sibling(__file__, "supernet")
SEEDS, STEPS = (0, 1, 2, 3, 4), 250
POINTS = list(spaces.points(net.space()))


def row(number: int, seed: int, sets: list[Any], steps: int = STEPS) -> dict[str, Any]:
    """Trains one architecture from scratch and evaluates it: its line of the table.

    Args:
      number: Number of the architecture in `POINTS`.
      seed: Seed of the initialisation and of the batches.
      sets: Training, validation and test images, see `supernet.load`.
      steps: Number of steps.
    """
    point = POINTS[number]
    train, *held_out = sets
    ops, arrays = net.chosen(point), net.init(jax.random.key(seed))
    state = net.ADAM.init(arrays)
    for batch in itertools.islice(net.batches(train, seed), steps):
        arrays, state = net.step(arrays, state, ops, *batch)
    tags = {key.removeprefix("model."): op for key, op in point.items()}
    results = {f"{name}/top1": float(net.accuracy(arrays, ops, *one)) for name, one in zip(("val", "test"), held_out)}
    return {"run": f"seed{seed}/{number:02d}", "seed": seed, "number": number, **tags, **results}


def main(path: Path) -> None:
    """Writes the table.

    Args:
      path: CSV file to write, or to continue.
    """
    rows = csv.read_csv(path).to_pylist() if path.exists() else []
    done = {row["seed"] for row in rows}
    sets, began = net.load(), time.perf_counter()
    for seed in SEEDS:
        if seed in done:
            continue
        rows += [row(number, seed, sets) for number in range(len(POINTS))]
        csv.write_csv(pa.Table.from_pylist(rows), path)
        print(f"seed {seed}: {len(rows)} networks, {time.perf_counter() - began:.0f} seconds", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
