"""Where the time of a training step goes on a CPU: a profile, by kind of operation and by line of the model.

    python benchmarks/step_profile.py vit_s16 resnet50
    python benchmarks/step_profile.py vit_s16 --lines=20

Times are those of XLA's operations, summed over its threads, so that on two cores they add up to as much as twice the
time of the step. XLA runs a product or a convolution with several threads inside one operation, whose time counts once.
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
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from step_models import NETWORKS, TINY, batch_of, training_of

STEPS = 3
KINDS = {  # the first whose pattern is found in the name of the operation or of the line that made it
    "convolutions": r"conv_general_dilated|^convolution",
    "matrix products": r"dot_general|^dot",
    "transposes and copies": r"transpose_copy|^copy|copy_bitcast|^transpose|wrapped_copy",
    "broadcasts": r"wrapped_broadcast|^broadcast",
    "sums and maxima": r"reduce",
}
REST = "element-wise"
OUTER = r"(while|cond|conditional|call)\b"  # operations whose time is that of others


class Operation(NamedTuple):
    """An operation of the compiled step.

    Attributes:
      name: Its name in the compiled program.
      line: The line of the model that made it, as JAX names it; "" if unknown.
    """

    name: str
    line: str

    @property
    def kind(self) -> str:
        """Kind of the operation, a key of `KINDS` or `REST`."""
        last = "/".join(self.line.split("/")[-1:])
        return next((kind for kind, pattern in KINDS.items() if re.search(pattern, f"{self.name}\n{last}", re.M)), REST)

    @property
    def part(self) -> str:
        """The pass and the part of the model, with the numbers of layers left out."""
        direction = "backward" if "transpose(" in self.line else "forward" if "jvp(" in self.line else "update"
        parts = re.sub(r"(block|stage|layer|encoderblock)_?\d+", r"\1", self.line).split("/")
        return f"{direction:8} {'/'.join(parts[-3:])}"


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
      The milliseconds of each operation in a step, and the milliseconds of a step without the profiler.
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
    alone = run(STEPS)
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
    return times, alone


def _table(times: dict[Any, float], total: float, most: int) -> None:
    for name, milliseconds in sorted(times.items(), key=lambda item: -item[1])[:most]:
        print(f"{milliseconds:10.1f} {100 * milliseconds / total:5.1f} %  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=[*NETWORKS, *TINY], metavar="MODEL", help=", ".join(NETWORKS))
    parser.add_argument("--lines", type=int, default=8, help="number of parts of the model to list")
    args = parser.parse_args()
    for model in args.models:
        times, alone = profile(model)
        total = sum(times.values())
        print(f"\n{model}: {alone:,.0f} ms a step; operations, summed over threads, {total:,.0f} ms")
        for key in ("kind", "part"):
            grouped: collections.Counter = collections.Counter()
            for operation, milliseconds in times.items():
                grouped[getattr(operation, key)] += milliseconds
            _table(grouped, total, args.lines)
            print()


if __name__ == "__main__":
    main()
