"""How programs of tests are compiled. Does not import jax, whose settings follow from it."""

import importlib.util
import mmap
from pathlib import Path

# For `jax.jit(..., compiler_options=OPTIMISED)`: the suite compiles at level 0, whose rounding is too much for a
# comparison of gradients through many ReLUs.
OPTIMISED = {"xla_backend_optimization_level": 1}


def xla_knows(flag: str) -> bool:
    """True if the installed jaxlib has the flag; a flag that XLA does not know ends the process."""
    for library in Path(importlib.util.find_spec("jaxlib").origin).parent.glob("*.so"):
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            if text.find(b"\0" + flag.encode() + b"\0") >= 0:
                return True
    return False
