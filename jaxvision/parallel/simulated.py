"""Simulated devices: this CPU stands for a number of them, to plan a run for devices that are not here."""

import os
import re
from typing import Any

import jax

from jaxvision.errors import UserError

_OLDER = re.compile(r"--xla_force_host_platform_device_count=\d+")


def simulate(count: int) -> None:
    """Makes JAX show this CPU as a number of devices. Call it before anything touches a device.

    Args:
      count: Number of devices, which programs can be compiled for and run on.

    Raises:
      UserError: JAX is in use already, with another number of devices or on another backend.
    """
    settings: Any = jax.config  # whose attributes type checkers do not know
    os.environ["XLA_FLAGS"] = _OLDER.sub("", os.environ.get("XLA_FLAGS", ""))  # the older way to say the same
    try:
        settings.update("jax_platforms", "cpu")
        settings.update("jax_num_cpu_devices", count)
    except RuntimeError:
        if jax.default_backend() != "cpu" or jax.device_count() != count:
            here = f"{jax.device_count()} {jax.default_backend()} devices"
            raise UserError(f"JAX is in use already, with {here}: start a new process to simulate {count}") from None
