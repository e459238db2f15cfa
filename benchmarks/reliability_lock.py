"""The cost of the lock of a workdir, of lines on the disk and of events, relative to a step of the quickstart's model.

    python benchmarks/reliability_lock.py

Prints one JSON line: microseconds of a log (the lock is checked, a line of metrics.jsonl is synced to the disk, its
events are written), of its parts, of a sign of life and of a file that is written atomically; the seconds of a step;
and the share of the time that logs take at the default of one log in a hundredth of a run.
"""

import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import jax

from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision import locks, storage
from jaxvision.train.metrics import Records

ROOT = pathlib.Path(__file__).parents[1]
VALUES = {f"name{i}": i / 7 for i in range(15)}
LOGS = 300


def seconds(function: Callable[[int], object], count: int) -> float:
    """Returns the median seconds of a call.

    Args:
      function: Function to call, with the number of the call.
      count: Number of calls.
    """
    took = []
    for i in range(count):
        began = time.perf_counter()
        function(i)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def step_seconds() -> tuple[float, int]:
    """Returns the seconds of a step on one device, and the steps of the run."""
    experiment = experiments.build(configs.load(str(ROOT / "configs" / "quickstart.py")))
    feed = experiment.feed()
    run, state = experiment.runner(experiment.step(), feed.fetch), experiment.initial_state(None)
    items = feed.items(0, [1] * 60)

    def step(_):
        nonlocal state
        state, metrics = run(state, feed.constants, next(items))
        jax.block_until_ready(metrics)

    seconds(step, 10)
    return seconds(step, 50), experiment.total


def main() -> None:
    with tempfile.TemporaryDirectory(dir=".") as folder, locks.Lock(pathlib.Path(folder, "run")) as lock:
        records = Records(lock.folder, 0, lock.check)

        def log(i: int) -> None:
            time.sleep(0.05)
            records.write(i, VALUES)

        parts = {
            "log": seconds(log, LOGS) - 0.05,
            "lock.check": seconds(lambda i: lock.check(), LOGS),
            "sync": seconds(lambda i: records._lines.sync(), LOGS),
            "events": seconds(lambda i: records._board.write(i, VALUES), LOGS),
            "sign of life": seconds(lambda i: lock._store.beat(), LOGS),
            "storage.write": seconds(lambda i: storage.write(lock.folder / "a.json", "{}" * 500), LOGS),
        }
        records.close()
    step, total = step_seconds()
    microseconds = {f"{name}, us": round(value * 1e6, 1) for name, value in parts.items()}
    every = max(total // 100, 1)
    print(
        json.dumps(
            {**microseconds, "step, s": round(step, 5), "share of logs": round(parts["log"] / (every * step), 6)}
        )
    )


if __name__ == "__main__":
    main()
