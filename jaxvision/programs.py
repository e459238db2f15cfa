"""Compiled programs kept on disk, so that XLA compiles a program once and not in every run: JAX's persistent cache.

Commands keep them in `$XDG_CACHE_HOME/jaxvision/programs` (`~/.cache/jaxvision/programs`), one folder per kind of
processor. The folder may be deleted at any time. JAX's own variables have the last word: JAX_COMPILATION_CACHE_DIR
names another folder, JAX_ENABLE_COMPILATION_CACHE=false turns the cache off.
"""

import contextlib
import hashlib
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

MAX_BYTES = 2 * 2**30  # of the default folder; the programs unused for longest are deleted
MIN_SECONDS = 0.0  # small programs are many: together they compile for as long as the training step


def keep() -> Path | None:
    """Turns JAX's persistent cache on. Call it before anything is compiled.

    Returns:
      The folder of the programs; None if the cache is off, or if the default folder cannot be written, which is no
      mistake: a run on such a machine compiles its programs.
    """
    import jax

    settings: Any = jax.config  # whose attributes type checkers do not know
    if not settings.jax_enable_compilation_cache:
        return None
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    if settings.jax_compilation_cache_dir is not None:
        return Path(settings.jax_compilation_cache_dir)
    root = default_folder()
    if root is None:
        return None
    folder = root / _processor()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # JAX runs the programs in it
        with tempfile.TemporaryFile(dir=folder):
            pass
        prune(root, MAX_BYTES)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def default_folder() -> Path | None:
    """Returns the folder of the programs of this user; None if the user has no home."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():
        try:
            caches = Path.home() / ".cache"
        except RuntimeError:
            return None
    return caches / "jaxvision" / "programs"


def _processor() -> str:
    """A name for the instructions of this processor; code for others must not be run, though homes may be shared."""
    words = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        words += sorted({line for line in file if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return f"{platform.machine()}-{hashlib.sha256(repr(words).encode()).hexdigest()[:12]}"


def prune(root: Path, most: int) -> None:
    """Deletes the programs that have not been used for longest until the others take at most `most` bytes.

    Other processes may use the folder meanwhile: JAX compiles a program again if its file is gone.

    Args:
      root: Folder whose folders hold programs.
      most: Number of bytes.
    """
    used = []
    for file in root.glob("*/*"):
        with contextlib.suppress(OSError):
            stat = file.stat()
            used.append((max(stat.st_atime, stat.st_mtime), stat.st_size, file))
    total = sum(size for _, size, _ in used)
    for _, size, file in sorted(used):
        if total <= most:
            return
        with contextlib.suppress(OSError):
            file.unlink()
        total -= size
