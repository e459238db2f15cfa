"""A training step of this project under several interpreters, in turns, as to compare versions of jax.

    python benchmarks/interpreters.py ~/newer/bin/python --models vit_s16 resnet50 --rounds=4

The interpreter that runs the script comes first, and ratios compare the others with it. A turn is a process of its own
that builds the step, compiles it, and takes the steps of `train_step.py`.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from machine import print_machine
from step_models import NETWORKS, TINY

HERE = Path(__file__).parent


def version_of(python: str) -> str:
    """Returns the versions of an interpreter and its jax, "Python 3.12.1, jax 0.12.0".

    Args:
      python: Path of the interpreter.
    """
    code = "import platform, jax; print(f'Python {platform.python_version()}, jax {jax.__version__}')"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def step_seconds(python: str, model: str, steps: int) -> float:
    """Returns the seconds of a step, the median over a turn.

    Args:
      python: Path of the interpreter.
      model: Name of the network, a key of `NETWORKS` or `TINY`.
      steps: Number of steps.
    """
    words = ["--implementations", "jaxvision", "--models", model, "--rounds=1", f"--steps={steps}"]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    done = subprocess.run([python, HERE / "train_step.py", *words], capture_output=True, text=True, env=environment)
    found = re.search(r"^jaxvision +([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        sys.exit(f"{python} failed:\n{done.stderr[-2000:]}")
    return float(found[1]) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("others", nargs="+", metavar="PYTHON", help="interpreter with the dependencies of this project")
    parser.add_argument("--models", nargs="+", choices=NETWORKS | TINY, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4, help="steps of one turn")
    args = parser.parse_args()
    pythons = (sys.executable, *map(os.path.expanduser, args.others))
    names = {python: version_of(python) for python in pythons}
    print_machine(("jax",))
    print(f"{'':20}{'':28}{'step, ms':>10}{'time / first':>20}")
    for model in args.models:
        times: dict[str, list[float]] = {python: [] for python in names}
        order = list(names)
        for _ in range(args.rounds):
            for python in order:
                times[python].append(step_seconds(python, model, args.steps))
            order.append(order.pop(0))
        for python, values in times.items():
            ratios = [value / first for value, first in zip(values, times[sys.executable])]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
            shown = "" if python == sys.executable else ratio
            print(f"{model:20}{names[python]:28}{statistics.median(values) * 1e3:10.1f}{shown:>20}", flush=True)


if __name__ == "__main__":
    main()
