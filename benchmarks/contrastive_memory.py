"""Memory that the NT-Xent loss and its gradient need on a device, in chunks and all at once, from XLA's plan.

    python benchmarks/contrastive_memory.py

Nothing is run: the numbers are those of the compiled program, without its arguments and results.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

import jax
import jax.numpy as jnp

from jaxvision.losses.contrastive import nt_xent
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import batch_sharding, make_mesh

DIMENSIONS, VIEWS = 128, 2


def megabytes(images: int, chunk: int | None, devices: int) -> float:
    """Returns the MiB that each device needs.

    Args:
      images: Number of images in a batch, over all devices.
      chunk: Rows of the similarities that are computed at once; None for all.
      devices: Number of devices.
    """
    mesh = make_mesh(devices=jax.devices()[:devices])
    loss = over_batch(lambda z, axis_name: nt_xent(z, 0.1, chunk=chunk, axis_name=axis_name)[0], mesh)
    shape = jax.ShapeDtypeStruct((images, VIEWS, DIMENSIONS), jnp.float32, sharding=batch_sharding(mesh))
    compiled = jax.jit(jax.grad(lambda z: loss(z).mean())).lower(shape).compile()
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def main() -> None:
    print("MiB on a device      images:   1,024   4,096  16,384")
    for devices in (1, 8):
        for chunk in (None, 1024, 128):
            numbers = "".join(f"{megabytes(images, chunk, devices):8,.0f}" for images in (1024, 4096, 16_384))
            print(f"{devices} device(s), {f'chunks of {chunk:,}' if chunk else 'all at once':16s}{numbers}")


if __name__ == "__main__":
    main()
