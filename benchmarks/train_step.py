"""Time and memory of a whole training step: this project against timm in torch, eager and compiled.

    python benchmarks/train_step.py                     # float32 on the CPU
    python benchmarks/train_step.py --device=gpu --batch=128 --precision=bfloat16

ViT-S/16 with AdamW and ResNet-50 with SGD and momentum, both at 224 pixels on random images in the memory
of the device: forward, backward, update. Every implementation runs in its own process. All stay alive
and take turns, so that other programs on the machine slow all of them alike; a round is one turn
of each, in an order that rotates. The ratios compare within a round.

Needs torch and timm (pip install torch timm), and for --device=gpu a CUDA build of torch and of jax.
"""

import argparse
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

MODELS = ("vit_s16", "resnet50")
IMPLEMENTATIONS = ("jaxvision", "torch eager", "torch compile")
TIMM_NAMES = {"vit_s16": "vit_small_patch16_224", "resnet50": "resnet50"}
OURS = {"vit_s16": ("vit", {"variant": "S/16", "pool": "token", "posemb": "learned"}), "resnet50": ("resnet", {})}
SIZE, CLASSES = 224, 1000


class Worker(NamedTuple):
    """The functions with which a process measures.

    Attributes:
      run: Function `steps -> None` that takes that many steps and waits for the last.
      peak_memory: Function that returns the most bytes that the device held; None on a CPU, where the memory of the
        process counts.
      flops: FLOPs of a step; None if unknown.
      peak_flops: FLOP/s that the device can reach; None if unknown.
    """

    run: Callable[[int], None]
    peak_memory: Callable[[], int | None]
    flops: float | None = None
    peak_flops: float | None = None


def jaxvision_worker(model: str, args: argparse.Namespace) -> Worker:
    """Builds the step of this project.

    Args:
      model: Name of the model, one of `MODELS`.
      args: Options of the command line.
    """
    import jax
    import jax.numpy as jnp

    from jaxvision import models, optim
    from jaxvision.tasks import supervised
    from jaxvision.train import state, step, throughput

    name, options = OURS[model]
    dtype = jnp.dtype(args.precision)
    task = supervised.make_supervised(
        model=lambda num_classes: models.build(name, num_classes, dtype=dtype, **options), num_classes=CLASSES
    )
    image_key, label_key = jax.random.split(jax.random.key(0))
    batch = {
        "image": jax.random.normal(image_key, (args.batch, SIZE, SIZE, 3)),
        "label": jax.random.randint(label_key, (args.batch,), 0, CLASSES),
    }
    variables = jax.eval_shape(task.init, jax.random.key(0), batch)
    optimizer = {
        "vit_s16": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1},
        "resnet50": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    }[model]
    tx = optim.make_optimizer(**optimizer, params=variables["params"], total=1000, steps=int).tx
    train_step = step.make_train_step(task, lambda rng, batch: batch, tx, seed=0)
    jitted = jax.jit(train_step, donate_argnums=0)
    current = jax.jit(state.initializer(task, tx, batch, seed=0, ema=False))()
    flops = throughput.step_flops(train_step, current, batch)

    def run(steps: int) -> None:
        nonlocal current
        for _ in range(steps):
            current, metrics = jitted(current, batch)
        jax.block_until_ready(metrics)

    def peak_memory() -> int | None:
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    return Worker(run, peak_memory, flops, throughput.peak_flops())


def torch_worker(model: str, args: argparse.Namespace, compiled: bool) -> Worker:
    """Builds the step of timm and torch.

    Args:
      model: Name of the model, one of `MODELS`.
      args: Options of the command line.
      compiled: True to use `torch.compile`.
    """
    import torch
    from torchvision_shim import allow_torchvision

    allow_torchvision()
    import timm

    device = torch.device("cuda" if args.device == "gpu" else "cpu")
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    net = timm.create_model(TIMM_NAMES[model], num_classes=CLASSES).to(device, memory_format=layout).train()
    if model == "vit_s16":
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(args.batch, 3, SIZE, SIZE, device=device).to(memory_format=layout)
    labels = torch.randint(CLASSES, (args.batch,), device=device)
    forward = torch.compile(net) if compiled else net
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bfloat16")

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with mixed:
                loss = torch.nn.functional.cross_entropy(forward(images), labels)
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device
        if device.type == "cuda":
            torch.cuda.synchronize()

    return Worker(run, lambda: torch.cuda.max_memory_allocated() if device.type == "cuda" else None)


def serve(connection: Any, implementation: str, model: str, args: argparse.Namespace) -> None:
    """Runs in a worker process: builds, takes a first step, then as many steps as it receives, until it receives 0.

    Args:
      connection: End of a pipe.
      implementation: Name of the implementation, one of `IMPLEMENTATIONS`.
      model: Name of the model, one of `MODELS`.
      args: Options of the command line.
    """
    if implementation == "jaxvision":
        worker = jaxvision_worker(model, args)
    else:
        worker = torch_worker(model, args, compiled=implementation == "torch compile")
    start = time.perf_counter()
    worker.run(1)
    connection.send({"first": time.perf_counter() - start, "flops": worker.flops, "peak": worker.peak_flops})
    while steps := connection.recv():
        start = time.perf_counter()
        worker.run(steps)
        connection.send((time.perf_counter() - start) / steps)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux
    connection.send(worker.peak_memory() or resident)


def measure(model: str, args: argparse.Namespace) -> None:
    """Measures all implementations of one model and prints a table.

    Args:
      model: Name of the model, one of `MODELS`.
      args: Options of the command line.
    """
    context = multiprocessing.get_context("spawn")
    connections, processes, firsts = {}, [], {}
    for implementation in args.implementations:
        connections[implementation], theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, implementation, model, args), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends if the process dies
        processes.append(process)
        try:
            firsts[implementation] = connections[implementation].recv()  # one compiles at a time
        except EOFError:
            sys.exit(f"{implementation} failed, for the reason above")

    times: dict[str, list[float]] = {name: [] for name in connections}
    for connection in connections.values():  # a turn that does not count
        connection.send(1)
        connection.recv()
    order = list(connections)
    for _ in range(args.rounds):
        for name in order:
            connections[name].send(args.steps)
            times[name].append(connections[name].recv())
        order.append(order.pop(0))

    memory = {}
    for name, connection in connections.items():
        connection.send(0)
        memory[name] = connection.recv()
    for process in processes:
        process.join()
    print_table(model, args, times, firsts, memory)


def print_table(model: str, args: argparse.Namespace, times: dict, firsts: dict, memory: dict) -> None:
    """Prints the table of one model.

    Args:
      model: Name of the model, one of `MODELS`.
      args: Options of the command line.
      times: Seconds of a step in each turn, by implementation.
      firsts: Answer after the first step, by implementation: its seconds and FLOPs.
      memory: Bytes of peak memory, by implementation.
    """
    ours = times.get("jaxvision")
    counted = firsts.get("jaxvision", {})
    print(f"\n{model}, batch {args.batch}, {args.precision}, {args.device}: {args.rounds} rounds of {args.steps} steps")
    print(f"{'':15}{'step, ms':>10}{'images/s':>10}{'time / ours':>20}{'first step, s':>15}{'peak, MiB':>11}{'MFU':>8}")
    for name, values in times.items():
        median = statistics.median(values)
        ratio = utilisation = ""
        if ours and name != "jaxvision":
            ratios = [theirs / our for theirs, our in zip(values, ours)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        if counted.get("peak") and counted.get("flops"):
            utilisation = f"{counted['flops'] / median / counted['peak']:.1%}"
        print(
            f"{name:15}{median * 1e3:10.1f}{args.batch / median:10.1f}{ratio:>20}"
            f"{firsts[name]['first']:15.1f}{memory[name] / 2**20:11,.0f}{utilisation:>8}"
        )


def check_installed() -> None:
    missing = [name for name in ("torch", "timm", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}. This benchmark compares with timm: pip install torch timm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--implementations", nargs="+", choices=IMPLEMENTATIONS, default=IMPLEMENTATIONS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3, help="steps of one turn")
    parser.add_argument("--channels_last", action="store_true", help="memory layout of torch's images and kernels")
    args = parser.parse_args()
    if any(name.startswith("torch") for name in args.implementations):
        check_installed()
    os.environ["JAX_PLATFORMS"] = "cpu" if args.device == "cpu" else "cuda"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the device is shared, and its memory is counted

    sys.stdout.reconfigure(line_buffering=True)  # a table appears when it is ready, in a file too
    packages = [p for p in ("jax", "flax", "optax", "torch", "timm") if importlib.util.find_spec(p)]
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print("versions: " + ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages))
    print("load at the start (1, 5, 15 minutes): " + ", ".join(f"{x:.2f}" for x in os.getloadavg()))
    for model in args.models:
        measure(model, args)


if __name__ == "__main__":
    main()
