"""What a run needs on devices that are not here: memory, time of a step, what is sent, and the work of the hosts.

Nothing is measured. docs/scaling.md has the formulas and what they leave out.
"""

from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

import jax

from jaxvision.analysis.collectives import Collective
from jaxvision.errors import UserError
from jaxvision.hardware import Chip

PyTree = Any

# Model FLOPs utilisation, assumed: the best and the worst to expect of large models of matrix products, such as ViTs,
# and of those with more than a tenth of their work in convolutions, which the bandwidth of memory limits.
MFU_PRODUCTS, MFU_CONVOLUTIONS = (0.5, 0.3), (0.25, 0.1)
# Mean size of a JPEG of ImageNet-2012: 138 GB of archive for 1,281,167 images.
IMAGE_BYTES = 138e9 / 1_281_167
# Images that one CPU core decodes and crops a second, JPEGs of 500x375 to 224x224, measured by
# `python benchmarks/input_pipeline.py --tables crop` (docs/reproducing.md): as it is, and with `decode(fast=True)` and
# `random_resized_crop(224, method='opencv_linear')`.
DECODED, DECODED_FAST = 723.0, 1202.0


def device_bytes(tree: PyTree) -> int:
    """Returns the bytes of a tree on one device, with the largest part of each array.

    Args:
      tree: Arrays or `ShapeDtypeStruct`s with shardings, of any shape.
    """
    return sum(prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def gather_seconds(size: float, devices: int, chip: Chip, tensor: int = 1) -> float:
    """Returns the time of a gather or a scatter of an array over all devices: inside the islands, then between them.

    An all-reduce takes twice as long.

    Args:
      size: Bytes of the whole array.
      devices: Number of devices.
      chip: Device and its networks.
      tensor: Number of neighbours that split single layers: each of them has such a gather of its own, so an island
        has room for fewer devices of one.

    Raises:
      UserError: The devices are more than those of an island, and nothing connects islands.
    """
    inner = min(devices, max(chip.island // tensor, 1))
    outer = -(-devices // inner)  # the last island may be in part empty
    seconds = size * (inner - 1) / inner / chip.sends(devices * tensor)
    if outer == 1:
        return seconds
    if not chip.slow:
        raise UserError(f"{devices * tensor} devices are more than a slice of {chip.kinds[0]} can have: {chip.island}")
    return seconds + size / inner * (outer - 1) / outer / chip.slow


def sent_seconds(collectives: Iterable[Collective], chip: Chip) -> float:
    """Returns the time of collectives within the fast network, one after the other.

    Args:
      collectives: Collectives of a compiled step.
      chip: Device and its networks.
    """
    return sum(one.sent / chip.sends(one.group) for one in collectives)


class StepTime(NamedTuple):
    """The time of a step in seconds.

    Attributes:
      compute: Time of its products at the best and the worst utilisation.
      sends: Time of what its devices send, if nothing else goes on.
    """

    compute: tuple[float, float]
    sends: float

    @property
    def seconds(self) -> tuple[float, float]:
        """Time of the step: the longer of the two, because sends hide behind the backward pass; best and worst."""
        return max(self.compute[0], self.sends), max(self.compute[1], self.sends)


def utilisation(products: float, convolutions: float) -> tuple[float, float]:
    """Returns the best and the worst utilisation to expect, `MFU_PRODUCTS` or `MFU_CONVOLUTIONS`.

    Args:
      products, convolutions: Multiply-adds of the step in matrix products, and in convolutions.

    >>> utilisation(90.0, 1.0), utilisation(50.0, 50.0)
    ((0.5, 0.3), (0.25, 0.1))
    """
    return MFU_CONVOLUTIONS if convolutions > 0.1 * (products + convolutions) else MFU_PRODUCTS


def step_time(
    flops: float,
    parameters: int,
    devices: int,
    chip: Chip,
    precision: str,
    *,
    mfu: tuple[float, float] = MFU_PRODUCTS,
    tensor: int = 1,
) -> StepTime:
    """Returns the time of a step, from its FLOPs and the bytes of its gradients.

    Both data-parallel and fully sharded training send twice the parameters: an all-reduce of the gradients, or a gather
    of the parameters and a scatter of the gradients, in the type of the computation.

    Args:
      flops: FLOPs of a step over all devices; a multiply-add counts as two.
      parameters: Number of trained parameters.
      devices: Number of devices.
      chip: Device and its networks.
      precision: Precision of the products, "bfloat16" or "float32".
      mfu: Best and worst utilisation; see `utilisation`.
      tensor: Number of devices that split single layers. Their sums of activations are not counted.

    >>> from jaxvision.hardware import CHIPS
    >>> time = step_time(4.3e14, 86_000_000, 8, CHIPS["H100"], "bfloat16")
    >>> [round(1000 * seconds) for seconds in time.seconds], round(1000 * time.sends, 1)
    ([109, 181], 0.7)
    """
    best, worst = (flops / (devices * chip.peak(precision) * share) for share in mfu)
    size = parameters / tensor * (2 if precision == "bfloat16" else 4)
    sends = 2 * gather_seconds(size, devices // tensor, chip, tensor) if devices > tensor else 0.0
    return StepTime((best, worst), sends)


def fits(needed: float, chip: Chip) -> str:
    """Says in a word whether a number of bytes fits in the memory of a device.

    Args:
      needed: Bytes that are needed.
      chip: Device.

    >>> from jaxvision.hardware import CHIPS
    >>> [fits(size * 2**30, CHIPS["v5e"]) for size in (8, 15, 17)]
    ['yes', 'barely', 'no']
    """
    share = needed / chip.memory
    return "yes" if share <= 0.9 else "barely" if share <= 1 else "no"
