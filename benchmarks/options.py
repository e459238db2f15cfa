"""What each option of speed does to a training step on one device: time, compilation, memory, and the loss after it.

    python benchmarks/options.py                        # on the device that JAX finds, at most ten minutes
    python benchmarks/options.py --networks=small --batch=32 --steps=8      # networks for a CPU
    python benchmarks/options.py --tiny --only "ViT scan"                   # to see that it works

The options are those of configs (`train.precision`, `model.attention`, `model.scan`, `model.remat`,
`optimizer.mu_dtype`, `train.steps_per_dispatch`, `data.resident`), and the donation of the state, which is always on.
Each case is measured against its "other" one, in --precision unless its name says another. The cases take turns in one
process; the ratios compare within a round. All cases of a network take the same number of steps from the same
parameters on the same batch, so the loss tells whether an option changes the result; only a scanned ViT draws other
parameters. The rows of "data" read a set of `shapes` as a run does, the others a random batch in the memory of the
device. "temporary" is the memory that the step needs beside its arguments and results, by XLA's plan. A case that
fails, or for which there was no time, is named.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # so that the memory of a shared device is enough

import jax
import jax.numpy as jnp
from machine import print_machine, reason
from ml_collections import ConfigDict
from step_models import NETWORKS, TINY, Network, batch_of, training_of

from jaxvision import experiment


class Case(NamedTuple):
    """A training step with an option.

    Attributes:
      network: "vit", "resnet" or "data".
      against: Name of the case that it is compared with; "ViT" and "ResNet" are those in --precision, "" is none.
      precision: Type of the computation; None for --precision.
      model, optimizer: Further keys of the sections.
      donate: True to donate the state.
      length: Number of steps in a dispatch.
      resident: Value of `data.resident`, for the network "data".
    """

    network: str
    against: str = ""
    precision: str | None = None
    model: dict[str, Any] = {}
    optimizer: dict[str, Any] = {}
    donate: bool = True
    length: int = 1
    resident: str = ""


CASES = {
    "ViT float32": Case("vit", precision="float32"),
    "ViT bfloat16": Case("vit", "ViT float32", "bfloat16"),
    "ViT cuDNN attention": Case("vit", "ViT bfloat16", "bfloat16", model=dict(attention="cudnn")),
    "ViT scan": Case("vit", "ViT", model=dict(scan=True)),
    "ViT scan, remat dots": Case("vit", "ViT scan", model=dict(scan=True, remat="dots")),
    "ViT scan, remat full": Case("vit", "ViT scan", model=dict(scan=True, remat="full")),
    "ViT moment bfloat16": Case("vit", "ViT", optimizer=dict(mu_dtype="bfloat16")),
    "ViT not donated": Case("vit", "ViT", donate=False),
    "ViT 4 steps a dispatch": Case("vit", "ViT", length=4),
    "ResNet float32": Case("resnet", precision="float32"),
    "ResNet bfloat16": Case("resnet", "ResNet float32", "bfloat16"),
    "ResNet not donated": Case("resnet", "ResNet", donate=False),
    "ResNet 4 steps a dispatch": Case("resnet", "ResNet", length=4),
    "data streamed": Case("data", resident="never"),
    "data in host memory": Case("data", "data streamed", resident="always"),
    "data on device, 4 steps": Case("data", "data streamed", resident="always", length=4),
}
NETWORKS_OF = {
    "large": {"vit": NETWORKS["vit_s16"], "resnet": NETWORKS["resnet50"], "data": NETWORKS["resnet18_32"]},
    "small": {"vit": NETWORKS["vit64_16"], "resnet": NETWORKS["resnet8_32"], "data": NETWORKS["resnet8_32"]},
    "tiny": {"vit": TINY["tiny"], "resnet": NETWORKS["resnet8_16"], "data": NETWORKS["resnet8_16"]},
}


class Built(NamedTuple):
    """A compiled step.

    Attributes:
      run: Function `dispatches -> loss` that dispatches the step that often, and waits for the last loss.
      compile: Seconds to trace and compile.
      temporary: Memory beside arguments and results, MiB.
      close: Function that ends the reading of data.
    """

    run: Callable[[int], float]
    compile: float
    temporary: float
    close: Callable[[], None] = lambda: None


def build_on_device(case: Case, args: argparse.Namespace, batch: dict[str, Any], made: dict[str, Any]) -> Built:
    """Compiles the step of a case on a batch in the memory of the device.

    Args:
      case: Case.
      args: Options of the command line.
      batch: Batch of the network.
      made: States that were made before, by their shapes; new ones are added.
    """
    network: Network = NETWORKS_OF[args.networks][case.network]
    changed = network._replace(model={**network.model, **case.model}, optimizer={**network.optimizer, **case.optimizer})
    training = training_of(changed, batch, case.precision or args.precision)

    def single(state: Any, batch: Any) -> tuple[Any, jax.Array]:
        state, metrics = training.step(state, batch)
        return state, metrics["loss"]

    def several(state: Any, batch: Any) -> tuple[Any, jax.Array]:
        state, losses = jax.lax.scan(lambda state, _: single(state, batch), state, length=case.length)
        return state, losses[-1]

    shapes = jax.eval_shape(training.init)
    start = time.perf_counter()
    jitted = jax.jit(single if case.length == 1 else several, donate_argnums=0 if case.donate else ())
    step = jitted.lower(shapes, batch).compile()
    spent = time.perf_counter() - start
    if repr(shapes) not in made:
        made[repr(shapes)] = jax.jit(training.init)()
    state = jax.tree.map(jnp.copy, made[repr(shapes)])  # the step deletes what is donated

    def run(dispatches: int) -> float:
        nonlocal state
        for _ in range(dispatches):
            state, loss = step(state, batch)
        return float(loss)

    return Built(run, spent, step.memory_analysis().temp_size_in_bytes / 2**20)


def build_with_data(case: Case, args: argparse.Namespace) -> Built:
    """Compiles the step of a case that reads a set of `shapes`, with the functions that a run uses.

    Args:
      case: Case.
      args: Options of the command line.
    """
    network = NETWORKS_OF[args.networks][case.network]
    config = ConfigDict(dict(model=dict(network.model), optimizer=dict(network.optimizer), task=dict(network.task)))
    config.data = dict(name="shapes", split="train", batch_size=args.batch, resident=case.resident)
    config.data.host = f"decode|resize({network.size})"
    config.data.options = dict(image_size=32, train=max(args.examples, args.batch), validation=16, test=16)
    config.augment = "flip_lr|normalize(0.5, 0.5)"
    several = dict(steps_per_dispatch=case.length) if case.resident == "always" else {}
    config.train = dict(total="1000 steps", precision=case.precision or args.precision, **several)
    built = experiment.build(config)
    feed = built.feed()
    items = feed.items(0, [case.length] * 100_000)
    state, item = built.initial_state(), next(items)
    start = time.perf_counter()
    runner = built.runner(built.step(), feed.fetch)
    compiled = runner.lower(state, feed.constants, item).compile()
    spent = time.perf_counter() - start
    runner.run = compiled  # a call of the jitted function would compile it again

    def run(dispatches: int) -> float:
        nonlocal state, item
        for _ in range(dispatches):
            state, metrics = runner(state, feed.constants, item)
            item = next(items)
        return float(metrics["loss"][-1])

    return Built(run, spent, compiled.memory_analysis().temp_size_in_bytes / 2**20, items.close)


def other_of(name: str, args: argparse.Namespace) -> str:
    """Returns the name of the case that a case is compared with, "" for none.

    Args:
      name: Name of the case.
      args: Options of the command line.
    """
    against = CASES[name].against
    return f"{against} {args.precision}" if against in ("ViT", "ResNet") else against


def chosen(args: argparse.Namespace) -> list[str]:
    """Returns the names of the cases of --only, with those that they are compared with.

    Args:
      args: Options of the command line.
    """
    names = set(args.only)
    while more := {other_of(name, args) for name in names} - names - {""}:
        names |= more
    return [name for name in CASES if name in names]


def build_all(args: argparse.Namespace, end: float, left_out: dict[str, str]) -> dict[str, Built]:
    """Compiles the chosen cases and takes a first turn of each, which does not count.

    Args:
      args: Options of the command line.
      end: Time after which no case is compiled, by `time.monotonic()`.
      left_out: Reasons by name; those of the cases that are not measured are added.
    """
    built: dict[str, Built] = {}
    batches: dict[str, dict[str, Any]] = {}
    made: dict[str, Any] = {}
    for name in chosen(args):
        case = CASES[name]
        if case.model.get("attention") == "cudnn" and jax.default_backend() != "gpu":
            left_out[name] = "it needs a GPU of NVIDIA"
        elif time.monotonic() > end:
            left_out[name] = "the time was up"
        else:
            try:
                if case.network == "data":
                    one = build_with_data(case, args)
                else:
                    if case.network not in batches:
                        batches[case.network] = batch_of(NETWORKS_OF[args.networks][case.network], args.batch)
                    one = build_on_device(case, args, batches[case.network], made)
                one.run(args.steps // case.length)
                built[name] = one
            except Exception as error:  # such as too little memory: the other cases go on
                left_out[name] = reason(error)
    return built


def take_turns(
    args: argparse.Namespace, built: dict[str, Built], end: float, left_out: dict[str, str]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Lets the cases take turns; returns the seconds of a step in each round, and the last loss, by name.

    Args:
      args: Options of the command line.
      built: Compiled steps by name.
      end: Time after which no round begins, by `time.monotonic()`.
      left_out: Reasons by name; those of the cases that fail are added.
    """
    times: dict[str, list[float]] = {name: [] for name in built}
    losses: dict[str, float] = {}
    order = list(built)
    for number in range(args.rounds):
        if number and time.monotonic() > end:
            break
        for name in list(order):
            start = time.perf_counter()
            try:
                losses[name] = built[name].run(args.steps // CASES[name].length)
            except Exception as error:
                left_out[name] = reason(error)
                order.remove(name)
                del times[name]
            else:
                times[name].append((time.perf_counter() - start) / args.steps)
        order = order[1:] + order[:1]
    return times, losses


def print_table(
    args: argparse.Namespace, built: dict[str, Built], times: dict[str, list[float]], losses: dict[str, float]
) -> None:
    """Prints a line for each case.

    Args:
      args: Options of the command line.
      built: Compiled steps by name.
      times: Seconds of a step in each round, by name.
      losses: Loss after the last step, by name.
    """
    rounds = max(map(len, times.values()), default=0)
    print(f"\nbatch {args.batch}, {jax.devices()[0].device_kind}, {rounds} rounds of {args.steps} steps")
    print(f"{'':25}{'step, ms':>10}{'time / other':>20}{'compile, s':>12}{'temporary, MiB':>16}{'loss':>9}  other")
    for name, values in times.items():
        other, ratio = other_of(name, args), ""
        if other in times:
            ratios = [one / base for one, base in zip(values, times[other], strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(
            f"{name:25}{1e3 * statistics.median(values):10.2f}{ratio:>20}{built[name].compile:12.1f}"
            f"{built[name].temporary:16,.0f}{losses[name]:9.4f}  {other}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="cases, with those they need")
    parser.add_argument("--networks", choices=NETWORKS_OF, default="large", help="size of the networks")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="default: float32 on a CPU, else bfloat16")
    parser.add_argument("--batch", type=int, default=128, help="images in a batch")
    parser.add_argument("--examples", type=int, default=4000, help="images in the set of the rows of data")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parser.add_argument("--steps", type=int, default=20, help="steps in a turn, a multiple of 4")
    parser.add_argument("--seconds", type=float, default=540, help="time for all of it, about")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and one round, to see that it works")
    args = parser.parse_args()
    if args.tiny:
        args.networks, args.batch, args.examples, args.rounds, args.steps = "tiny", 4, 16, 1, 4
    if args.steps < 4 or args.steps % 4:
        parser.error(f"--steps must be a multiple of 4, not {args.steps}")
    args.precision = args.precision or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    print_machine(("jax", "jaxlib", "flax", "optax"))
    start, left_out = time.monotonic(), {}
    built = build_all(args, start + args.seconds * 2 / 3, left_out)
    try:
        times, losses = take_turns(args, built, start + args.seconds, left_out)
    finally:
        for one in built.values():
            one.close()
    print_table(args, built, times, losses)
    for name, why in left_out.items():
        print(f"{name:25}not measured: {why}")


if __name__ == "__main__":
    main()
