"""The gradient of a convolution's kernel on a CPU: XLA's convolution against products of matrices, in turns.

    python benchmarks/kernel_gradient.py

A row is one convolution of ResNet-8, ResNet-18 at 32 pixels or ResNet-50 with its batch. `jaxvision` uses the products
on x86 processors without AVX-512 (models/convolution.py); the first line says whether this one is such.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from machine import print_machine

from jaxvision.models.convolution import products, slow_gradient, xla_convolution

# batch, side of the map, channels in and out, side of the kernel, stride
SHAPES = {
    "resnet8, 32 px": [(128, 32, 3, 16, 3, 1), (128, 32, 16, 16, 3, 1), (128, 8, 64, 64, 3, 1)],
    "resnet18, 32 px": [(64, 32, 64, 64, 3, 1), (64, 32, 64, 128, 3, 2), (64, 8, 256, 256, 3, 1)],
    "resnet50, 224 px": [(8, 224, 3, 64, 7, 2), (8, 56, 64, 64, 3, 1), (8, 7, 512, 512, 3, 1)],
}
TINY = {"tiny": [(2, 6, 3, 4, 3, 1)]}


def measure(shape: tuple[int, ...], rounds: int) -> tuple[list[float], list[float]]:
    """Times both forms in turns.

    Args:
      shape: Batch, side, channels in and out, side of the kernel, stride.
      rounds: Number of rounds.

    Returns:
      Milliseconds of XLA's form and of the products in each round.
    """
    b, side, c, k, size, stride = shape
    x = jax.random.normal(jax.random.key(0), (b, side, side, c))
    g = jax.random.normal(jax.random.key(1), (b, -(-side // stride), -(-side // stride), k))
    kernel = jax.ShapeDtypeStruct((size, size, c, k), x.dtype)
    pads = ((size // 2, size // 2), (size // 2, size // 2))

    def gradient(form: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return jax.jit(lambda x, g: jax.linear_transpose(lambda kernel: form(x, kernel), kernel)(g)[0])

    forms = [
        gradient(form)
        for form in (
            lambda x, kernel: xla_convolution(x, kernel, stride, 1, pads),
            lambda x, kernel: products(x, kernel, stride, pads),
        )
    ]
    first, second = (jax.block_until_ready(form(x, g)) for form in forms)
    if not jnp.allclose(first, second, rtol=1e-3, atol=1e-3 * jnp.abs(first).max()):
        raise SystemExit(f"the forms differ at {shape}")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for form, each in zip(forms, times):
            start = time.perf_counter()
            jax.block_until_ready(form(x, g))
            each.append(1000 * (time.perf_counter() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="one small shape, for the tests")
    args = parser.parse_args()
    print_machine(("jax", "jaxlib"))
    print(f"used here: {'products' if slow_gradient() else 'convolution'}")
    print(f"{'':18}{'batch, side, channels, kernel, stride':>40}{'convolution, ms':>17}{'products, ms':>14}  ratio")
    for network, shapes in (TINY if args.tiny else SHAPES).items():
        for shape in shapes:
            ours, theirs = measure(shape, args.rounds)
            b, side, c, k, size, stride = shape
            ratios = [a / b for a, b in zip(ours, theirs)]
            print(
                f"{network:18}{f'{b}, {side}, {c} to {k}, {size}, {stride}':>40}{statistics.median(ours):17.1f}"
                f"{statistics.median(theirs):14.1f}  {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f}-{max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
