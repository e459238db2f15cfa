"""Where the time of a training step goes on a CPU: a profile by kind of operation and by part of the model.

    python benchmarks/step_profile.py vit_s16 resnet50
    python benchmarks/step_profile.py vit_s16 --parts=20

The times are those of XLA's operations. A product or a convolution that runs on two threads counts once, two
element-wise operations that run side by side count twice: so the sum may be above the time of the step, and the shares
are of the sum. XLA joins operations; a fusion counts as what its name says first.
"""

import argparse
import collections
import glob
import gzip
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from step_models import NETWORKS, TINY, batch_of, training_of

STEPS = 3
# A kind, and how the names of its operations in the compiled program begin. The first that fits counts.
NAMES = {
    "transposes and copies": r"(wrapped_)?(transpose|copy)|copy_bitcast",
    "broadcasts": r"wrapped_broadcast|broadcast(\.\d+)?$",
    "convolutions": r"convolution",
    "matrix products": r"dot",
    "sums and maxima": r"(wrapped_)?reduce",
}
# For fusions of XLA's libraries, whose names say nothing: what JAX calls the operation that they were made of.
SOURCES = {
    "convolutions": r"conv_general_dilated",
    "matrix products": r"dot_general",
    "sums and maxima": r"reduce",
}
LIBRARY = r"(ynn|onednn)_fusion"
REST = "element-wise"
OUTER = r"(while|cond|conditional|call)\b"  # operations whose time is that of others
NOISE = ("checkpoint", "rematted_computation")  # words that recomputation adds to the name of a part


class Operation(NamedTuple):
    """An operation of the compiled step.

    Attributes:
      name: Its name in the compiled program.
      source: What JAX calls the operation that it was made of, with the modules around it; "" if unknown.
    """

    name: str
    source: str

    @property
    def kind(self) -> str:
        """Kind of the operation, a key of `NAMES`, `REST`, or "library, unknown"."""
        if re.match(LIBRARY, self.name):
            last = self.source.rsplit("/", 1)[-1]
            return next((kind for kind, word in SOURCES.items() if re.match(word, last)), "library, unknown")
        return next((kind for kind, start in NAMES.items() if re.match(start, self.name)), REST)

    @property
    def part(self) -> str:
        """The pass and the part of the model, with the numbers of layers left out."""
        if not self.source:
            return "unknown"
        direction = "backward" if "transpose(" in self.source else "forward" if "jvp(" in self.source else "update"
        words = re.sub(r"(block|stage|layer|encoderblock)_?\d+", r"\1", self.source).split("/")
        return f"{direction:8} {'/'.join([word for word in words if word not in NOISE][-3:])}"


def operations(program: str) -> dict[str, Operation]:
    """Reads the operations of a compiled program.

    Args:
      program: Text of the program, from `jax.stages.Compiled.as_text`.
    """
    found = {}
    for line in program.splitlines():
        if match := re.match(r"\s*(?:ROOT )?%([\w.\-]+) = ", line):
            source = re.search(r'op_name="([^"]*)"', line)
            found.setdefault(match[1], Operation(match[1], source[1] if source else ""))
    return found


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
        (trace,) = glob.glob(f"{folder}/**/*.trace.json.gz", recursive=True)
        events = json.loads(gzip.decompress(Path(trace).read_bytes()))["traceEvents"]
    known = operations(step.as_text())
    times: collections.Counter = collections.Counter()
    for event in events:
        name = event.get("args", {}).get("hlo_op")
        if event.get("ph") == "X" and name and not re.match(OUTER, name):
            times[known.get(name, Operation(name, ""))] += event["dur"] / 1e3 / STEPS
    return times, without_profiler


def print_table(times: Mapping[str, float], most: int | None = None) -> None:
    """Prints times and their shares of the sum, the largest first.

    Args:
      times: Milliseconds by name.
      most: Number of rows; None for all.
    """
    total = sum(times.values())
    for name, milliseconds in sorted(times.items(), key=lambda item: -item[1])[:most]:
        print(f"{milliseconds:10.1f} {100 * milliseconds / total:5.1f} %  {name}")


def grouped(times: Mapping[Operation, float], by: str) -> dict[str, float]:
    """Adds up the times of operations.

    Args:
      times: Milliseconds by operation.
      by: Attribute of an operation, "kind" or "part".
    """
    sums: collections.Counter = collections.Counter()
    for operation, milliseconds in times.items():
        sums[getattr(operation, by)] += milliseconds
    return sums


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
