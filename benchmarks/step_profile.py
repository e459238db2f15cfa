"""Where the time of a training step goes on a CPU: a profile by kind of operation and by part of the model.

    python benchmarks/step_profile.py vit_s16 resnet50
    python benchmarks/step_profile.py vit_s16 --parts=20

The times are those of XLA's operations. A product or a convolution that runs on two threads counts once, two
element-wise operations that run side by side count twice: so the sum may be above the time of the step, and the shares
are of the sum. XLA joins operations; a fusion counts as what its name says first.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from step_models import NETWORKS, TINY, batch_of, training_of

from jaxvision.analysis.traces import Operation, grouped, read_trace

STEPS = 3


def profile(model: str) -> tuple[dict[Operation, float], float]:
    """Profiles a training step.

    Args:
      model: Name of the network, a key of `NETWORKS` or `TINY`.

    Returns:
      The milliseconds of each operation in a step, and the milliseconds of a step without the profiler, a mean of
        three.
    """
    from jaxvision import memory

    memory.keep_freed()
    import jax

    network = {**NETWORKS, **TINY}[model]
    batch = batch_of(network, network.batch)
    training = training_of(network, batch)
    state: Any = jax.jit(training.init)()
    step = jax.jit(training.step, donate_argnums=0).lower(state, batch).compile()

    def run(steps: int) -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(steps):
            state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        return 1e3 * (time.perf_counter() - start) / steps

    run(2)
    without_profiler = run(STEPS)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run(STEPS)
        seconds = read_trace(Path(folder)).seconds
    return {operation: 1e3 * spent / STEPS for operation, spent in seconds.items()}, without_profiler


def print_table(times: Mapping[str, float], most: int | None = None) -> None:
    """Prints times and their shares of the sum, the largest first.

    Args:
      times: Milliseconds by name.
      most: Number of rows; None for all.
    """
    total = sum(times.values())
    for name, milliseconds in sorted(times.items(), key=lambda item: -item[1])[:most]:
        print(f"{milliseconds:10.1f} {100 * milliseconds / total:5.1f} %  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = [*NETWORKS, *TINY]
    parser.add_argument("models", nargs="+", choices=models, metavar="MODEL", help=", ".join(models))
    parser.add_argument("--parts", type=int, default=8, help="number of parts of the model to list")
    args = parser.parse_args()
    for model in args.models:
        times, step = profile(model)
        print(f"\n{model}: {step:,.0f} ms a step; its operations {sum(times.values()):,.0f} ms, shared out below")
        print_table(grouped(times, "kind"))
        print()
        print_table(grouped(times, "part"), args.parts)


if __name__ == "__main__":
    main()
