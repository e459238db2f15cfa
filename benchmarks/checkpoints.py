"""Time that a checkpoint takes from training: the steps around a save against the same steps without one.

    python benchmarks/checkpoints.py            # float32 on the CPU
    python benchmarks/checkpoints.py --tiny     # a few seconds, to see that it works; the times mean nothing

In a round, three turns of `--steps` steps each are timed: without a checkpoint, with one that is written while training
goes on, and with one that is waited for. Both are saved before the first step of their turn. `begin` is the time until
a save returns, in which the state is copied; training stands still. `written` is the time until it is on the disk. What
is left of the difference is the work of writing (compression, digests), which shares the cores with the steps here.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import print_machine

MODELS: dict[str, dict[str, Any]] = {
    "resnet8": dict(name="resnet", options={"variant": "8"}, size=32, batch=32, steps=100),
    "vit_s16": dict(
        name="vit", options={"variant": "S/16", "pool": "token", "posemb": "learned"}, size=224, batch=4, steps=8
    ),
    "tiny": dict(name="vit", options={"variant": "mu/4", "depth": 1}, size=8, batch=4, steps=2),
}
CLASSES = 10


def measure(name: str, rounds: int, folder: Path) -> None:
    """Measures one model and prints its table.

    Args:
      name: Name of the model.
      rounds: Number of rounds.
      folder: Empty folder for the checkpoints.
    """
    import jax
    import jax.numpy as jnp

    from jaxvision import models, optim
    from jaxvision.tasks import supervised
    from jaxvision.train import state, step
    from jaxvision.train.checkpoint import Checkpoints

    model = MODELS[name]
    task = supervised.make_supervised(
        model=lambda num_classes: models.build(model["name"], num_classes, **model["options"]), num_classes=CLASSES
    )
    shape = (model["batch"], model["size"], model["size"], 3)
    batch = {"image": jax.random.normal(jax.random.key(0), shape), "label": jnp.arange(model["batch"]) % CLASSES}
    params = jax.eval_shape(task.init, jax.random.key(0), batch)["params"]
    tx = optim.make_optimizer(name="adamw", learning_rate=1e-3, params=params, total=1000, steps=int).tx
    jitted = jax.jit(step.make_train_step(task, lambda rng, batch: batch, tx, seed=0), donate_argnums=0)
    current = jax.jit(state.initializer(task, tx, batch, seed=0, ema=False))()
    current, _ = jitted(current, batch)
    size = sum(x.nbytes for x in jax.tree.leaves(current))

    times: dict[str, list[float]] = {way: [] for way in ("none", "async", "sync", "begin", "written")}
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(jax.block_until_ready(current), {})  # a first one, which does not count
        checkpoints.wait()
        order = ["none", "async", "sync"]
        for _ in range(rounds):
            for way in order:
                current, _ = jax.block_until_ready(jitted(current, batch))  # another step, to have its own folder
                began = time.perf_counter()
                if way != "none":
                    checkpoints.save(current, {})
                    if way == "async":
                        times["begin"].append(time.perf_counter() - began)
                    else:
                        checkpoints.wait()
                        times["written"].append(time.perf_counter() - began)
                for _ in range(model["steps"]):
                    current, metrics = jitted(current, batch)
                jax.block_until_ready((current, metrics))
                times[way].append(time.perf_counter() - began)
                checkpoints.wait()
            order.append(order.pop(0))

    one = statistics.median(times["none"]) / model["steps"]
    print(
        f"\n{name}: state of {size / 2**20:,.1f} MiB, step of {one * 1e3:,.1f} ms, {rounds} rounds of {model['steps']}"
    )
    print(f"{'':10}{'time / none':>24}{'stall, ms':>12}{'stall, steps':>14}")
    for way in ("async", "sync"):
        ratios = [a / b for a, b in zip(times[way], times["none"])]
        stall = statistics.median(a - b for a, b in zip(times[way], times["none"]))
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"{way:10}{spread:>24}{stall * 1e3:12.1f}{stall / one:14.2f}")
    begin, written = (statistics.median(times[what]) for what in ("begin", "written"))
    print(f"begin {begin * 1e3:.1f} ms ({begin / one:.2f} steps), written {written * 1e3:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[m for m in MODELS if m != "tiny"])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--folder", help="folder on the disk to write to; None for that of temporary files")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    print_machine(("jax", "flax", "orbax-checkpoint"))
    for name in ["tiny"] if args.tiny else args.models or [m for m in MODELS if m != "tiny"]:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            measure(name, 1 if args.tiny else args.rounds, Path(folder))


if __name__ == "__main__":
    main()
