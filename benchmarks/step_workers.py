"""The implementations of train_step.py: each builds a network and takes its steps, in a process of its own."""

import argparse
import os
from collections.abc import Callable
from typing import NamedTuple

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


def build(implementation: str, model: str, args: argparse.Namespace) -> Worker:
    """Builds an implementation of a network.

    Args:
      implementation: Name of the implementation, one of `IMPLEMENTATIONS` or `MATMUL`.
      model: Name of the model, a key of `ALL`.
      args: Options of the command line.
    """
    if implementation == "jaxvision":
        return jaxvision_worker(model, args)
    if implementation == MATMUL:
        return matmul_worker(args)
    if implementation == "big_vision":
        return big_vision_worker(model, args)
    return torch_worker(model, args, compiled=implementation == "torch compile")
