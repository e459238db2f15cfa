"""Memory that a loss of images and texts and its gradient need on a device, in each layout, from XLA's plan.

    python benchmarks/image_text_memory.py

Nothing is run: the numbers are those of the compiled program, without its arguments and results. A device holds its
part of the batch. Dense, the similarities of its rows with all texts grow with the product of both; in chunks, with the
number of texts; and in a ring, in chunks, with the part of the device.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

from functools import partial

import jax
import jax.numpy as jnp

from jaxvision.losses.image_text import LOSSES
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import batch_sharding, make_mesh

DIMENSIONS, CHUNK = 512, 128
LAYOUTS = {
    "dense": dict(chunk=None),
    f"chunks of {CHUNK}": dict(chunk=CHUNK),
    f"ring, chunks of {CHUNK}": dict(chunk=CHUNK, ring=True),
}
SIZES = (1024, 2048, 4096, 8192)  # pairs on a device


def megabytes(loss: str, pairs: int, devices: int, **layout) -> float:
    """Returns the MiB that each device needs.

    Args:
      loss: Name of the loss, a key of `LOSSES`.
      pairs: Number of pairs on each device.
      devices: Number of devices.
      **layout: Options of the loss, a value of `LAYOUTS`.
    """
    mesh = make_mesh(devices=jax.devices()[:devices])
    compare = over_batch(partial(LOSSES[loss], **layout), mesh)
    rows = jax.ShapeDtypeStruct((pairs * devices, DIMENSIONS), jnp.float32, sharding=batch_sharding(mesh))
    total = lambda image, text: compare(image, text, 10.0, -10.0)[0].mean()
    compiled = jax.jit(jax.grad(total, argnums=(0, 1))).lower(rows, rows).compile()
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def main() -> None:
    print(f"{'MiB on a device':42s}pairs:" + "".join(f"{size:9,}" for size in SIZES))
    for loss in LOSSES:
        for devices in (1, 8):
            for name, layout in LAYOUTS.items():
                numbers = "".join(f"{megabytes(loss, size, devices, **layout):9,.0f}" for size in SIZES)
                print(f"{f'{loss}, {devices} device(s), {name}':48s}{numbers}", flush=True)


if __name__ == "__main__":
    main()
