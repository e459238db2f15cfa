"""Words that the benchmarks share: the machine, above their tables, and why something was not measured."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns the versions of the packages that are installed.

    Args:
      packages: Names of packages, as for `pip install`.
    """
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def print_machine(packages: Iterable[str]) -> None:
    """Prints processor, versions and load, and lets each table appear when it is ready, in a file too.

    Args:
      packages: Names of the packages whose versions matter; those that are not installed are left out.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print("versions: " + ", ".join(f"{package} {version}" for package, version in versions(packages).items()))
    print("load at the start (1, 5, 15 minutes): " + ", ".join(f"{x:.2f}" for x in os.getloadavg()))


def reason(error: Exception) -> str:
    """Returns in a line why something failed.

    Args:
      error: Exception.
    """
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:160]}"
