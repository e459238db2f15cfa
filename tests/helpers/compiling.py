"""How programs of tests are compiled. Does not import jax, whose settings follow from it."""

import importlib.util
import mmap
from pathlib import Path


def xla_knows(flag: str) -> bool:
    """True if the installed jaxlib has the flag; a flag that XLA does not know ends the process."""
    for library in Path(importlib.util.find_spec("jaxlib").origin).parent.glob("*.so"):
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            if text.find(b"\0" + flag.encode() + b"\0") >= 0:
                return True
    return False


# For `jax.jit(..., compiler_options=OPTIMISED)`: nearer to XLA's defaults. It is for what the rounding of the suite's
# quick programs is too much for: gradients through many ReLUs, two programs that must agree bit for bit.
OPTIMISED = {"xla_backend_optimization_level": 1}
if xla_knows("xla_cpu_use_fusion_emitters"):
    OPTIMISED["xla_cpu_use_fusion_emitters"] = True
