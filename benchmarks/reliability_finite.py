"""The cost of checking whether a step is finite: the time of a step with and without the check, in one process.

    python benchmarks/reliability_finite.py                          # ViT-S/16 and ResNet-50, batches of 8 and 32
    python benchmarks/reliability_finite.py --models=vit_s16 --batches=8 --rounds=20

Both programs take turns, in an order that changes from round to round; the ratio is the median over rounds. The memory
that each needs, without its arguments, is printed too, and whether the parameters after all steps are equal bit for
bit.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import optax

from jaxvision import models, optim
from jaxvision.tasks import supervised
from jaxvision.train import finite, state, step

MODELS = {
    "vit_s16": ("vit", {"variant": "S/16", "pool": "token", "posemb": "learned"}, 224),
    "resnet50": ("resnet", {"variant": "50"}, 224),
    "resnet8": ("resnet", {"variant": "8"}, 32),
}
OPTIMIZERS = {"vit": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1}}
SGD = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4}


def unguarded(state, attempt, grads, metrics, guard, **_):
    """Takes every step, in the place of `finite.guarded`.

    Args:
      state: Train state.
      attempt: Function that takes the step.
      grads, metrics, guard: Gradients, metrics and guard of the step, which are ignored.
    """
    return attempt()._replace(step=state.step + 1), {}


def programs(model: str, batch_size: int):
    """Compiles the step with and without the check.

    Args:
      model: Name of the model, a key of `MODELS`.
      batch_size: Examples in a batch.

    Returns:
      The two compiled steps and their initial states, by "without" and "with", and the batch.
    """
    name, options, size = MODELS[model]
    task = supervised.make_supervised(model=lambda classes: models.build(name, classes, **options), num_classes=100)
    keys = jax.random.split(jax.random.key(0))
    batch = {
        "image": jax.random.normal(keys[0], (batch_size, size, size, 3)),
        "label": jax.random.randint(keys[1], (batch_size,), 0, 100),
    }
    params = jax.eval_shape(task.init, jax.random.key(0), batch)["params"]
    tx: optax.GradientTransformation = optim.make_optimizer(
        **OPTIMIZERS.get(name, SGD), params=params, total=1000, steps=int
    ).tx
    init = jax.jit(state.initializer(task, tx, batch, seed=0, ema=False))
    compiled, guarded = {}, finite.guarded
    for kind, judge in {"without": unguarded, "with": guarded}.items():
        finite.guarded = judge
        train_step = jax.jit(step.make_train_step(task, lambda rng, batch: batch, tx, seed=0), donate_argnums=0)
        compiled[kind] = train_step.lower(init(), batch).compile()
    finite.guarded = guarded
    return compiled, {kind: init() for kind in compiled}, batch


def measure(model: str, batch_size: int, rounds: int) -> None:
    """Prints the line of one model and batch size.

    Args:
      model: Name of the model, a key of `MODELS`.
      batch_size: Examples in a batch.
      rounds: Number of rounds.
    """
    compiled, states, batch = programs(model, batch_size)
    times: dict[str, list[float]] = {kind: [] for kind in compiled}
    for i in range(rounds + 1):
        for kind in sorted(compiled, reverse=i % 2 == 0):
            began = time.perf_counter()
            states[kind], metrics = compiled[kind](states[kind], batch)
            jax.block_until_ready((states[kind], metrics))
            times[kind].append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(times["with"][1:], times["without"][1:])]
    memory = {kind: one.memory_analysis().temp_size_in_bytes / 2**20 for kind, one in compiled.items()}
    fastest = min(times["with"][1:]) / min(times["without"][1:])
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), states["with"], states["without"])
    print(
        f"{model:9} batch {batch_size:4}  without {1e3 * statistics.median(times['without'][1:]):8.1f} ms  "
        f"ratio {statistics.median(ratios):.4f}  of the fastest {fastest:.4f}  "
        f"memory {memory['without']:.0f} -> {memory['with']:.0f} MiB  equal {all(jax.tree.leaves(same))}",
        flush=True,
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="vit_s16,resnet50")
    parser.add_argument("--batches", default="8,32")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    for model in args.models.split(","):
        for batch_size in map(int, args.batches.split(",")):
            measure(model, batch_size, args.rounds)


if __name__ == "__main__":
    main()
