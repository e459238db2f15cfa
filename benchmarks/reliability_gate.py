"""The cost of the gate before each step, and of the bound on running ahead, relative to a step of a small model.

Run:  python benchmarks/reliability_gate.py
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvision.parallel.gate import Gate
from jaxvision.train.watchdog import Ahead


def seconds(function: Callable[[], object], times: int) -> float:
    """Returns the seconds of one call, the best of five rounds.

    Args:
      function: Function to call.
      times: Number of calls in a round.
    """
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(times):
            function()
        best = min(best, (time.perf_counter() - began) / times)
    return best


def main() -> None:
    """Prints the costs and their share of a step."""
    alone, several, ahead = Gate(), Gate(), Ahead()
    several.alone = False
    x = jnp.ones((256, 256))
    step = jax.jit(lambda x: jnp.tanh(x @ x))
    metrics = {"loss": jnp.zeros(1)}
    jax.block_until_ready(step(x))
    step_seconds = seconds(lambda: jax.block_until_ready(step(x)), 300)
    costs = {
        "tick, one process": seconds(alone.tick, 100_000),
        "tick, several processes": seconds(several.tick, 100_000),
        "bound on running ahead": seconds(lambda: ahead.dispatched(metrics), 100_000),
    }
    print(f"a step of one product of 256 x 256: {step_seconds * 1e6:.0f} us")
    for name, cost in costs.items():
        print(
            f"{name}: {cost * 1e9:.0f} ns, {100 * cost / step_seconds:.3f} % of it, {100 * cost / 0.1:.5f} % of 0.1 s"
        )


if __name__ == "__main__":
    main()
