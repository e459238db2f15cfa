"""Time to trace and compile a training step, and its memory by XLA's plan: layers unrolled, scanned, recomputed.

    python benchmarks/compilation.py
    python benchmarks/compilation.py --only "ViT-L/16 scan"

Nothing is run. "temporary" is the memory that the step needs beside its arguments and results. The cases are compiled
in turns, `--rounds` times after one that does not count; the table reports the median and the range.
"""

import argparse
import os
import statistics
import time
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import jax

import jaxvision

VIT = dict(name="vit", pool="token", posemb="learned")
SMALL, LARGE = VIT | dict(variant="S/16"), VIT | dict(variant="L/16")
CASES: dict[str, dict[str, Any]] = {
    "ViT-S/16": SMALL,
    "ViT-S/16 scan": SMALL | dict(scan=True),
    "ViT-L/16": LARGE,
    "ViT-L/16 scan": LARGE | dict(scan=True),
    "ViT-L/16 scan, remat dots": LARGE | dict(scan=True, remat="dots"),
    "ViT-L/16 scan, remat full": LARGE | dict(scan=True, remat="full"),
    "ResNet-50": dict(name="resnet", variant="50"),
}


class Compiled(NamedTuple):
    """What one compilation took.

    Attributes:
      trace: Seconds to trace and lower the step.
      compile: Seconds in XLA.
      temporary: Memory that the step needs beside its arguments and results, MiB.
    """

    trace: float
    compile: float
    temporary: float


def measure(model: dict[str, Any], batch: int, size: int = 224) -> Compiled:
    """Traces and compiles a step of AdamW.

    Args:
      model: Section `model` of a config.
      batch: Images in a batch.
      size: Side of the images in pixels.
    """
    shapes = {
        "image": jax.ShapeDtypeStruct((batch, size, size, 3), "float32"),
        "label": jax.ShapeDtypeStruct((batch,), "int32"),
    }
    jax.clear_caches()
    optimizer = dict(name="adamw", learning_rate=1e-3, weight_decay=0.1)
    training = jaxvision.create_training(shapes, model=model, optimizer=optimizer, total=1000, classes=1000)
    state = jax.eval_shape(training.init)
    start = time.perf_counter()
    lowered = jax.jit(training.step, donate_argnums=0).lower(state, shapes)
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    return Compiled(traced - start, done - traced, compiled.memory_analysis().temp_size_in_bytes / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="cases to measure")
    parser.add_argument("--batch", type=int, default=8, help="images in a batch")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    args = parser.parse_args()
    found: dict[str, list[Compiled]] = {name: [] for name in args.only}
    measure(CASES[args.only[0]], args.batch, args.size)
    for _ in range(args.rounds):
        for name in args.only:
            found[name].append(measure(CASES[name], args.batch, args.size))
    print(f"batch {args.batch}, float32, {jax.devices()[0].platform}, {args.rounds} rounds")
    print(f"{'':27}{'trace, s':>20}{'compile, s':>20}{'temporary, MiB':>16}")
    for name, rounds in found.items():
        cells = [_cell([getattr(one, field) for one in rounds]) for field in ("trace", "compile")]
        print(f"{name:27}{cells[0]:>20}{cells[1]:>20}{rounds[0].temporary:16,.0f}")


def _cell(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    main()
