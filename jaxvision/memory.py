"""Freed memory kept by the process, so that steps on a CPU do not ask the system for the same memory again.

XLA's CPU backend allocates the buffers of a program at each call, and glibc returns large buffers to the system when
they are freed. So each step would touch every page of its buffers for the first time: 25,000 page faults for 100 MB.
"""

import ctypes
import os
from importlib.util import find_spec

LARGEST = 256 * 2**20  # bytes of the largest buffer that is kept; see `keep_freed`

# From glibc's malloc.h. Large buffers of threads with an arena of their own are mapped anew whatever the other settings
# are, so there is a single arena.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_SETTINGS = {_MMAP_THRESHOLD: LARGEST, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: LARGEST, _ARENA_MAX: 1}


def keep_freed() -> bool:
    """Makes glibc keep freed memory if JAX computes on a CPU in this process.

    Call it before the process has threads and before JAX is imported, because threads keep the arenas that they have.
    Buffers above `LARGEST` still go back to the system: small allocations would split the free memory between them, and
    the process would soon hold those of a large network two or three times. GLIBC_TUNABLES and MALLOC_* variables of
    the user have the last word.

    Returns:
      True if glibc has these settings now; False with accelerators, another C library, or settings of the user.
    """
    words = os.environ.get("GLIBC_TUNABLES", ""), *(name for name in os.environ if name.startswith("MALLOC_"))
    if any(words) or not _glibc() or not _only_cpu():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) for name, value in _SETTINGS.items())  # old versions refuse the first one


def _glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # Windows, macOS, other C libraries
        return False


def _only_cpu() -> bool:
    """Whether JAX will compute on the CPU: it is told to, or has no plugin of an accelerator."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms.split(",")[0] == "cpu"
    return find_spec("jax_plugins") is None and find_spec("libtpu") is None
