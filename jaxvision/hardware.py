"""The accelerators that are known by name: memory, peak speed, and what they can send. The only table of such numbers.

Numbers are those of the vendors' data sheets, for dense products. A data sheet's GB of GPU memory are 2**30 bytes.
"""

import re
from typing import NamedTuple

from jaxvision.errors import unknown

_NVIDIA = "https://www.nvidia.com/en-us/data-center/"
_TPU = "https://docs.cloud.google.com/tpu/docs/"


class Chip(NamedTuple):
    """One device as JAX shows it, and its networks.

    Attributes:
      kinds: Beginnings of its `device_kind` in JAX; of several chips that match, that with the longest one counts. Only
        an SXM module and the chip's own memory may follow: other words name other chips.
      memory: Bytes of device memory.
      bfloat16: Peak FLOP/s of bfloat16 products (float16 on V100 and T4, which have no bfloat16).
      float32: Peak FLOP/s of float32 products at JAX's default precision: TF32 on NVIDIA GPUs since Ampere, one pass of
        bfloat16 on TPUs.
      host: Number of devices of a host.
      island: Number of devices that the fast network joins.
      fast: Bytes/s that one device sends over the fast network, in one direction.
      wraps: Number of devices from which the fast network is a torus. In smaller slices of TPUs, which do not wrap
        around, a device sends half of `fast`.
      slow: Bytes/s that one device sends between islands; 0 if there is no such network.
      source: Address or name of the documents that the numbers are from.
    """

    kinds: tuple[str, ...]
    memory: int
    bfloat16: float
    float32: float
    host: int
    island: int
    fast: float
    wraps: int
    slow: float
    source: str

    def sends(self, devices: int) -> float:
        """Returns the bytes/s that one device sends over the fast network of a slice, in one direction.

        Args:
          devices: Number of devices of the slice.

        >>> CHIPS["v4"].sends(8), CHIPS["v4"].sends(64)
        (150000000000.0, 300000000000.0)
        """
        return self.fast if devices >= self.wraps else self.fast / 2

    def peak(self, precision: str) -> float:
        """Returns the peak FLOP/s of a precision.

        Args:
          precision: Precision of products, "bfloat16" or "float32".
        """
        return self.bfloat16 if precision == "bfloat16" else self.float32


_GB = 2**30


def _gpu(kinds: str, memory: int, bfloat16: float, float32: float, fast: float, slow: float, source: str) -> Chip:
    """A GPU in a server of eight: TFLOP/s, and GB/s of one direction."""
    names = tuple(f"{maker} {kind}" for kind in kinds.split(", ") for maker in ("NVIDIA", "Tesla"))
    return Chip(names, memory * _GB, bfloat16 * 1e12, float32 * 1e12, 8, 8, fast * 1e9, 1, slow * 1e9, source)


# Names as `inspect --device_kind` takes them. `fast` of GPUs is half of the data sheet's bandwidth, which adds up both
# directions (NVLink, or PCIe for cards); `slow` is a network card of 200 Gb/s (A100) or 400 Gb/s (H100 and later) for
# each GPU, as in NVIDIA's DGX. For cards on PCIe, one of 100 Gb/s for eight is assumed; for v6e, the network of v5e.
CHIPS: dict[str, Chip] = {
    "B200": _gpu("B200", 180, 2250, 1100, 900, 50, f"{_NVIDIA}dgx-b200/"),
    "H200": _gpu("H200", 141, 989, 494, 450, 50, f"{_NVIDIA}h200/"),
    "H100": _gpu("H100", 80, 989, 494, 450, 50, f"{_NVIDIA}h100/"),
    "H100-PCIe": _gpu("H100 PCIe", 80, 756, 378, 64, 1.5625, f"{_NVIDIA}h100/"),
    "A100": _gpu("A100, A100 80GB PCIe", 80, 312, 156, 300, 25, f"{_NVIDIA}a100/"),
    "A100-40GB": _gpu("A100-SXM4-40GB, A100-PCIE-40GB", 40, 312, 156, 300, 25, f"{_NVIDIA}a100/"),
    "L40S": _gpu("L40S", 48, 362, 183, 32, 1.5625, f"{_NVIDIA}l40s/"),
    "L4": _gpu("L4", 24, 121, 60, 32, 1.5625, f"{_NVIDIA}l4/"),
    "RTX-4090": _gpu("GeForce RTX 4090", 24, 165, 83, 32, 1.5625, "NVIDIA Ada GPU architecture, white paper, app. A"),
    "V100": _gpu("V100", 32, 125, 15.7, 150, 12.5, f"{_NVIDIA}v100/"),
    "V100-16GB": _gpu("V100-SXM2-16GB", 16, 125, 15.7, 150, 12.5, f"{_NVIDIA}v100/"),
    "T4": _gpu("T4", 16, 65, 8.1, 16, 1.5625, f"{_NVIDIA}tesla-t4/"),
    # On TPUs: a device of v2 and v3 is one of the two cores of a chip.
    "v2": Chip(("TPU v2",), 8 * _GB, 22.5e12, 22.5e12, 8, 512, 124e9, 512, 0.0, "Jouppi et al. 2020, CACM 63(7)"),
    "v3": Chip(("TPU v3",), 16 * _GB, 61.5e12, 61.5e12, 8, 2048, 164e9, 2048, 0.0, "Jouppi et al. 2020, CACM 63(7)"),
    "v4": Chip(
        ("TPU v4",), 32 * _GB, 275e12, 275e12, 4, 4096, 300e9, 64, 0.0, f"{_TPU}v4; Jouppi et al. 2023, table 4"
    ),
    "v5e": Chip(("TPU v5 lite", "TPU v5e"), 16 * _GB, 197e12, 197e12, 8, 256, 200e9, 256, 25e9 / 8, f"{_TPU}v5e"),
    "v5p": Chip(("TPU v5", "TPU v5p"), 95 * _GB, 459e12, 459e12, 4, 8960, 600e9, 64, 0.0, f"{_TPU}v5p"),
    "v6e": Chip(("TPU v6 lite", "TPU v6e"), 32 * _GB, 918e12, 918e12, 8, 256, 400e9, 256, 25e9 / 8, f"{_TPU}v6e"),
}


def find(name: str) -> Chip:
    """Returns the chip of a name, or of a `device_kind` of JAX.

    Args:
      name: Name, such as "H100" or "v5e", in upper or lower case, or a `device_kind`, such as "NVIDIA H100 80GB HBM3".

    Raises:
      UserError: There is no such chip in the table; the message lists the names.

    >>> find("h100").memory == find("NVIDIA H100 80GB HBM3").memory == 80 * 2**30
    True
    """
    plain = name.strip().lower().removeprefix("tpu-").removeprefix("tpu ")
    chip = {key.lower(): chip for key, chip in CHIPS.items()}.get(plain) or of_kind(name)
    if chip is None:
        raise unknown("device kind", name, CHIPS)
    return chip


def of_kind(kind: str) -> Chip | None:
    """Returns the chip of a `device_kind` of JAX; None if it is not in the table, as every CPU.

    Args:
      kind: `device_kind` of a device.

    >>> of_kind("TPU v5 lite") is CHIPS["v5e"], of_kind("TPU v5") is CHIPS["v5p"], of_kind("cpu")
    (True, True, None)
    """
    matches = {name: chip for chip in CHIPS.values() for name in chip.kinds if _names(kind, name, chip)}
    return matches[max(matches, key=len)] if matches else None


def _names(kind: str, begin: str, chip: Chip) -> bool:
    """Whether a `device_kind` that begins with a text is that chip, and not a card, a part or a size of its own.

    >>> h100 = CHIPS["H100"]
    >>> [_names(f"NVIDIA H100{rest}", "NVIDIA H100", h100) for rest in ("", " 80GB HBM3", " NVL", " 64GB HBM2")]
    [True, True, False, False]
    """
    own = rf"[ -](SXM\d?|{chip.memory // _GB}GB|HBM\d\w?)"
    return kind.startswith(begin) and re.fullmatch(f"({own})*", kind[len(begin) :]) is not None
