"""Step time and memory of the methods without labels, relative to SimCLR on the same network.

    python benchmarks/self_supervised.py                 # the arms of the study `pretraining`, preset cifar10
    python benchmarks/self_supervised.py --preset=gpu    # the larger ones, on the device that JAX finds
    python benchmarks/self_supervised.py --tiny          # a few seconds, to see that it works; the times mean nothing

A step is the whole of it: augmentation, all views, teacher, loss, gradient, update, on random images that are in the
memory of the device. All take turns in one process; the ratios compare within a round. "images / s" counts images, not
views. "memory" is what the program of the step allocates by XLA's plan: state, batch, and temporaries. In
so few steps SwAV's queue takes no part yet.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import jax
import numpy as np
from machine import print_machine

from jaxvision import experiment as experiments
from jaxvision.commands.study import load_study

REFERENCE = "simclr"


class Built(NamedTuple):
    """A compiled step.

    Attributes:
      run: Function that takes a number of steps and waits for the last.
      images: Number of images in a batch.
      memory: State, batch and temporaries, MiB.
    """

    run: Callable[[int], None]
    images: int
    memory: float


def build(config: Any) -> Built:
    """Compiles the step of a config.

    Args:
      config: Config of a run.
    """
    experiment = experiments.build(config, training_data="ignored")
    rng = np.random.default_rng(0)
    batch = {name: rng.integers(0, 10, x.shape).astype(x.dtype) for name, x in experiment.batch.items()}
    batch["image"] = rng.integers(0, 256, experiment.batch["image"].shape).astype(experiment.batch["image"].dtype)
    batch = jax.device_put(batch)
    step = jax.jit(experiment.step(), donate_argnums=0).lower(experiment.abstract_state(), experiment.batch).compile()
    state = jax.jit(experiment.init)()

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    plan = step.memory_analysis()
    return Built(run, len(batch["image"]), (plan.argument_size_in_bytes + plan.temp_size_in_bytes) / 2**20)


def measure(arms: dict[str, Built], steps: int, rounds: int) -> dict[str, list[float]]:
    """Returns seconds of a step, one for each round.

    Args:
      arms: Compiled steps by the name of their arm.
      steps: Number of steps in a turn.
      rounds: Number of rounds.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    order = list(arms)
    for name in order:
        arms[name].run(2)  # do not count
    for _ in range(rounds):
        for name in order:
            start = time.perf_counter()
            arms[name].run(steps)
            times[name].append((time.perf_counter() - start) / steps)
        order.append(order.pop(0))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cifar10", help="preset of experiments/pretraining")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parser.add_argument("--steps", type=int, default=5, help="number of steps in a turn")
    parser.add_argument("--tiny", action="store_true", help="two arms of the preset laptop, for the tests")
    args = parser.parse_args()
    print_machine(("jax", "jaxlib", "flax", "optax"))
    if args.tiny:
        args.preset, args.rounds, args.steps = "laptop", 1, 1
    p = load_study("pretraining").presets.PRESETS[args.preset]
    names = ("vit/simclr", "vit/mae") if args.tiny else [name for name in p.arms if not name.endswith("/random")]
    arms = {name: build(p.config(name, 0, 100, None)) for name in names}
    times = measure(arms, args.steps, args.rounds)
    print(f"\n{p.title}, {args.rounds} rounds of {args.steps} steps")
    print(f"{'':22}{'step, ms':>9}{'images / s':>12}{'time / SimCLR':>19}{'memory, MiB':>13}{'memory / SimCLR':>17}")
    for name, one in arms.items():
        other = f"{name.split('/')[0]}/{REFERENCE}"
        ratios = [a / b for a, b in zip(times[name], times[other])]
        middle = statistics.median(times[name])
        print(
            f"{name:22}{1e3 * middle:9.1f}{one.images / middle:12,.0f}"
            f"{f'{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})':>19}"
            f"{one.memory:13,.0f}{one.memory / arms[other].memory:17.2f}"
        )


if __name__ == "__main__":
    main()
