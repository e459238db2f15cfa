"""Time and memory of a whole training step: against torch (timm, open_clip, lightly), eager and compiled.

    python benchmarks/train_step.py                     # float32 on the CPU
    python benchmarks/train_step.py --device=gpu --batch=128 --precision=bfloat16

The networks are those of step_models.py, on random images in the memory of the device: forward, backward, update.
Every implementation runs in its own process. All stay alive and take turns, so that other programs on the machine slow
all of them alike; a round is one turn of each, in an order that rotates. The ratios compare within a round. The limit
is the time of the step's FLOPs at the rate of a matrix product of 2,048 x 2,048, on a GPU 8,192 x 8,192, which takes
turns with the others. An implementation that fails, as for lack of memory, is named, and the others go on.

Needs torch and timm, for clip_b32 open_clip_torch, for simclr_resnet18_32 lightly, and for --device=gpu a CUDA build
of torch and of jax. For the ViTs there is another implementation in JAX, big_vision's, if a clone of that project and
what it imports are on PYTHONPATH.
"""

import argparse
import importlib.util
import multiprocessing
import os
import resource
import statistics
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from machine import print_machine, reason
from step_models import NETWORKS, TINY
from step_workers import ALL, IMPLEMENTATIONS, MATMUL, build

PATIENCE = 5.0  # seconds that an answer may take when the time is up: a turn is short


class Measured(NamedTuple):
    """What was measured of one network.

    Attributes:
      times: Seconds of a step in each round, by implementation.
      failed: Reasons by name, of the implementations that failed, or for which there was no time.
      flops: FLOPs of a step of this project; None if unknown.
      rate: FLOP/s of a matrix product; None if it failed.
    """

    times: dict[str, list[float]]
    failed: dict[str, str]
    flops: float | None
    rate: float | None


def serve(connection: Connection, implementation: str, model: str, args: argparse.Namespace) -> None:
    """Runs in a worker process: builds, takes a first step, then as many steps as it receives, until it receives 0.

    Args:
      connection: End of a pipe. What goes wrong is sent through it as a text.
      implementation: Name of the implementation, one of `IMPLEMENTATIONS` or `MATMUL`.
      model: Name of the model, a key of `ALL`.
      args: Options of the command line.
    """
    try:
        worker = build(implementation, model, args)
        start = time.perf_counter()
        worker.run(1)
        connection.send({"first": time.perf_counter() - start, "flops": worker.flops, "peak": worker.peak_flops})
        while steps := connection.recv():
            start = time.perf_counter()
            worker.run(steps)
            connection.send((time.perf_counter() - start) / steps)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux
        connection.send(worker.peak_memory() or resident)
    except Exception as error:  # such as too little memory
        traceback.print_exc()
        connection.send(reason(error))


def answer_of(connection: Connection, end: float | None) -> Any:
    """Returns the answer of a worker process.

    Args:
      connection: End of the pipe to it.
      end: Time until which to wait, by `time.monotonic()`, but at least `PATIENCE` seconds; None to wait for ever.

    Raises:
      RuntimeError: It failed, or did not answer in time; the message is the reason.
    """
    try:
        if not connection.poll(None if end is None else max(end - time.monotonic(), PATIENCE)):
            raise RuntimeError("the time was up")
        answer = connection.recv()
    except (EOFError, OSError):
        raise RuntimeError("its process died") from None
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer


def measure(model: str, args: argparse.Namespace, end: float | None = None) -> Measured:
    """Measures all implementations of one model and prints a table, with the reasons of those that fail.

    Args:
      model: Name of the model, a key of `ALL`.
      args: Options of the command line.
      end: Time at which to end, about, by `time.monotonic()`; None for no limit.
    """
    context = multiprocessing.get_context("spawn")
    connections: dict[str, Connection] = {}
    processes, failed = {}, {}

    def ask(name: str, steps: int | None) -> Any:
        """The answer to a number of steps, or None for the first answer; None if the implementation fails."""
        try:
            if steps is not None:
                connections[name].send(steps)
            return answer_of(connections[name], end)
        except (RuntimeError, OSError) as error:
            failed[name] = str(error)
            processes[name].terminate()
            del connections[name]
            return None

    firsts, memory = {}, {}
    for name in (*_of(model, args), MATMUL):
        connections[name], theirs = context.Pipe()
        processes[name] = context.Process(target=serve, args=(theirs, name, model, args), daemon=True)
        processes[name].start()
        theirs.close()  # so that the pipe ends if the process dies
        firsts[name] = ask(name, None)  # one compiles at a time

    for name in list(connections):  # a turn that does not count
        ask(name, 1)
    order = list(connections)
    times: dict[str, list[float]] = {name: [] for name in order}
    for number in range(args.rounds):
        if number and end is not None and time.monotonic() > end:
            break
        for name in order:
            if name in connections:
                times[name].append(ask(name, args.steps))
        order = order[1:] + order[:1]
    for name in list(connections):
        memory[name] = ask(name, 0)
    for process in processes.values():
        process.join()

    times = {name: values for name, values in times.items() if name not in failed}
    product = times.pop(MATMUL, None)
    rate = firsts[MATMUL]["flops"] / statistics.median(product) if product else None
    measured = Measured(times, failed, (firsts.get("jaxvision") or {}).get("flops"), rate)
    print_table(model, args, measured, firsts, memory)
    return measured


def _of(model: str, args: argparse.Namespace) -> list[str]:
    """The implementations of a network: big_vision has only ViTs, and is left out where it cannot be imported."""
    has = ALL[model].model["name"] == "vit" and importlib.util.find_spec("big_vision") is not None
    return [name for name in args.implementations if name != "big_vision" or has]


def print_table(model: str, args: argparse.Namespace, measured: Measured, firsts: dict, memory: dict) -> None:
    """Prints the table of one model.

    Args:
      model: Name of the model, a key of `ALL`.
      args: Options of the command line.
      measured: What was measured.
      firsts: Answer after the first step, by implementation: its seconds and FLOPs.
      memory: Bytes of peak memory, by implementation.
    """
    times, flops, batch = measured.times, measured.flops, args.batch or ALL[model].batch
    ours, peak = times.get("jaxvision"), (firsts.get("jaxvision") or {}).get("peak")
    rounds = max(map(len, times.values()), default=0)
    print(f"\n{model}, batch {batch}, {args.precision}, {args.device}: {rounds} rounds of {args.steps} steps")
    if flops and measured.rate:
        print(
            f"{flops / 1e9:.1f} GFLOP a step; at the {measured.rate / 1e9:,.0f} GFLOP/s of a matrix product "
            f"{flops / measured.rate * 1e3:.1f} ms"
        )
    print(f"{'':15}{'step, ms':>10}{'images/s':>10}{'time / ours':>20}{'first step, s':>15}{'peak, MiB':>11}{'MFU':>8}")
    for name, values in times.items():
        median = statistics.median(values)
        ratio = spread([theirs / our for theirs, our in zip(values, ours)]) if ours and name != "jaxvision" else ""
        utilisation = f"{flops / median / peak:.1%}" if peak and flops else ""
        print(
            f"{name:15}{median * 1e3:10.1f}{batch / median:10.1f}{ratio:>20}"
            f"{firsts[name]['first']:15.1f}{memory[name] / 2**20:11,.0f}{utilisation:>8}"
        )
    for name, why in measured.failed.items():
        print(f"{name:15}not measured: {why}")


def spread(ratios: list[float]) -> str:
    """Returns the median of ratios with their range, as in "1.23 (1.18-1.33)".

    Args:
      ratios: Ratio of each round.
    """
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def check_installed() -> None:
    missing = [name for name in ("torch", "timm", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}. This benchmark compares with timm: pip install torch timm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--models", nargs="+", choices=ALL, default=list(NETWORKS))
    parser.add_argument("--implementations", nargs="+", choices=IMPLEMENTATIONS, default=IMPLEMENTATIONS)
    parser.add_argument("--batch", type=int, help="images per step; by default those of the network")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3, help="steps of one turn")
    parser.add_argument("--channels_last", action="store_true", help="memory layout of torch's images and kernels")
    parser.add_argument("--tiny", action="store_true", help="a small network and one round, to see that all runs")
    args = parser.parse_args()
    if args.tiny:
        args.models, args.rounds, args.steps = list(TINY), 1, 1
    if any(name.startswith("torch") for name in args.implementations):
        check_installed()
    os.environ["JAX_PLATFORMS"] = "cpu" if args.device == "cpu" else "cuda"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the device is shared, and its memory is counted

    print_machine(("jax", "flax", "optax", "torch", "timm"))
    measured = [measure(model, args) for model in args.models]
    if any(one.failed for one in measured):
        sys.exit("not everything could be measured, for the reasons above")


if __name__ == "__main__":
    main()
