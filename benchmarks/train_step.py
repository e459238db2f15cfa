"""Time and memory of a whole training step: against torch (timm, open_clip, lightly), eager and compiled.

    python benchmarks/train_step.py                     # float32 on the CPU
    python benchmarks/train_step.py --device=gpu --batch=128 --precision=bfloat16

The networks are those of step_models.py, on random images in the memory of the device: forward, backward, update.
Every implementation runs in its own process. All stay alive and take turns, so that other programs on the machine slow
all of them alike; a round is one turn of each, in an order that rotates. The ratios compare within a round. The limit
is the time of the step's FLOPs at the rate of a matrix product of 2,048 x 2,048, which takes turns with the others.

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
from collections.abc import Callable
from typing import Any, NamedTuple

from machine import print_machine
from step_models import CONTEXT, NETWORKS, TINY, VOCABULARY, batch_of, training_of

ALL = {**NETWORKS, **TINY}
IMPLEMENTATIONS = ("jaxvision", "torch eager", "torch compile", "big_vision")
MATMUL = "matrix product"


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
    """Builds the step of this project, in a process that keeps freed memory as its commands do.

    Args:
      model: Name of the network, a key of `ALL`.
      args: Options of the command line.
    """
    from jaxvision import memory

    memory.keep_freed()
    import jax

    from jaxvision import step_costs
    from jaxvision.train import throughput

    network, rows = ALL[model], args.batch or ALL[model].batch
    batch = batch_of(network, rows)
    training = training_of(network, batch, args.precision)
    jitted = jax.jit(training.step, donate_argnums=0)
    current = jax.jit(training.init)()
    flops = step_costs.flops_of(jitted.trace(current, batch))

    def run(steps: int) -> None:
        nonlocal current
        for _ in range(steps):
            current, metrics = jitted(current, batch)
        jax.block_until_ready(metrics)

    def peak_memory() -> int | None:
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    return Worker(run, peak_memory, flops, throughput.peak_flops())


def big_vision_worker(model: str, args: argparse.Namespace) -> Worker:
    """Builds a plain jitted step around the ViT of google-research/big_vision, with the same optimizer.

    Args:
      model: Name of a ViT, a key of `ALL`.
      args: Options of the command line.
    """
    import jax
    import optax
    from big_vision.models import vit

    network, rows = ALL[model], args.batch or ALL[model].batch
    sizes = {name: network.model[name] for name in ("depth", "width", "mlp_dim", "num_heads") if name in network.model}
    pool = {"token": "tok", "gap": "gap"}[network.model["pool"]]
    net = vit.Model(network.classes, variant=network.model["variant"], pool_type=pool, **sizes)
    batch = batch_of(network, rows)
    options = dict(network.optimizer)
    tx = getattr(optax, options.pop("name"))(**options)
    params = jax.jit(net.init)(jax.random.key(0), batch["image"])["params"]
    current = params, tx.init(params)

    def loss_of(params, batch):
        logits, _ = net.apply({"params": params}, batch["image"], train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    def step(state, batch):
        params, moments = state
        loss, gradients = jax.value_and_grad(loss_of)(params, batch)
        updates, moments = tx.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments), loss

    jitted = jax.jit(step, donate_argnums=0)

    def run(steps: int) -> None:
        nonlocal current
        for _ in range(steps):
            current, loss = jitted(current, batch)
        jax.block_until_ready(loss)

    return Worker(run, lambda: (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"))


def matmul_worker(args: argparse.Namespace) -> Worker:
    """Builds a matrix product, whose rate is the limit that the FLOPs of a step are compared with.

    Args:
      args: Options of the command line.
    """
    import jax
    import jax.numpy as jnp

    n = 8192 if args.device == "gpu" else 2048
    x = jax.random.normal(jax.random.key(0), (n, n)).astype(jnp.dtype(args.precision))
    product = jax.jit(lambda x: x @ x)

    def run(steps: int) -> None:
        for _ in range(steps):
            y = product(x)
        jax.block_until_ready(y)

    return Worker(run, lambda: None, 2.0 * n**3)


def torch_worker(model: str, args: argparse.Namespace, compiled: bool) -> Worker:
    """Builds the step of torch.

    Args:
      model: Name of the network, a key of `ALL`.
      args: Options of the command line.
      compiled: True to use `torch.compile`.
    """
    import torch
    from torchvision_shim import allow_torchvision

    allow_torchvision()
    network, rows = ALL[model], args.batch or ALL[model].batch
    device = torch.device("cuda" if args.device == "gpu" else "cpu")
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    net, loss_of = network.torch()
    net = net.to(device, memory_format=layout).train()
    options = dict(network.optimizer)
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[options.pop("name")]
    optimizer = kind(net.parameters(), lr=options.pop("learning_rate"), **options)
    images = torch.randn(rows, 3, network.size, network.size, device=device).to(memory_format=layout)
    if network.texts:
        inputs, labels = (images, torch.randint(1, VOCABULARY, (rows, CONTEXT), device=device)), None
    elif network.views > 1:
        inputs, labels = (torch.cat([images] * network.views),), None
    else:
        inputs, labels = (images,), torch.randint(network.classes, (rows,), device=device)
    forward = torch.compile(net) if compiled else net
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bfloat16")

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with mixed:
                loss = loss_of(forward(*inputs), labels)
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
      model: Name of the model, a key of `ALL`.
      args: Options of the command line.
    """
    if implementation == "jaxvision":
        worker = jaxvision_worker(model, args)
    elif implementation == MATMUL:
        worker = matmul_worker(args)
    elif implementation == "big_vision":
        worker = big_vision_worker(model, args)
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
      model: Name of the model, a key of `ALL`.
      args: Options of the command line.
    """
    context = multiprocessing.get_context("spawn")
    connections, processes, firsts = {}, [], {}
    for implementation in (*_of(model, args), MATMUL):
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


def _of(model: str, args: argparse.Namespace) -> list[str]:
    """The implementations of a network: big_vision has only ViTs, and is left out where it cannot be imported."""
    has = ALL[model].model["name"] == "vit" and importlib.util.find_spec("big_vision") is not None
    return [name for name in args.implementations if name != "big_vision" or has]


def print_table(model: str, args: argparse.Namespace, times: dict, firsts: dict, memory: dict) -> None:
    """Prints the table of one model.

    Args:
      model: Name of the model, a key of `ALL`.
      args: Options of the command line.
      times: Seconds of a step in each turn, by implementation.
      firsts: Answer after the first step, by implementation: its seconds and FLOPs.
      memory: Bytes of peak memory, by implementation.
    """
    ours, batch = times.get("jaxvision"), args.batch or ALL[model].batch
    counted = firsts.get("jaxvision", {})
    rate = firsts[MATMUL]["flops"] / statistics.median(times.pop(MATMUL))
    print(f"\n{model}, batch {batch}, {args.precision}, {args.device}: {args.rounds} rounds of {args.steps} steps")
    if counted.get("flops"):
        print(
            f"{counted['flops'] / 1e9:.1f} GFLOP a step; at the {rate / 1e9:,.0f} GFLOP/s of a matrix product "
            f"{counted['flops'] / rate * 1e3:.1f} ms"
        )
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
            f"{name:15}{median * 1e3:10.1f}{batch / median:10.1f}{ratio:>20}"
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
    for model in args.models:
        measure(model, args)


if __name__ == "__main__":
    main()
