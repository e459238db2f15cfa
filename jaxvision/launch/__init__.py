"""Launchers, which run commands: processes of this machine, SLURM, Ray; and files for Kubernetes and Cloud TPUs."""

from typing import cast

from jaxvision.errors import UserError
from jaxvision.launch.base import Launcher
from jaxvision.registry import PartRegistry
from jaxvision.specs import Registry, parse

LAUNCHERS = PartRegistry("launcher", [__name__], usage="jaxvision sweep --launcher='NAME' --sweep=... --out=...")


def make_launcher(spec: str) -> Launcher:
    """Makes the launcher of a spec.

    Args:
      spec: Spec such as `"local(slots=2)"`, `"slurm(partition='gpu', minutes=240, gpus=1)"` or `"ray(gpus=1)"`. Options
        are the arguments of `LocalLauncher`, `SlurmLauncher` and `RayLauncher`.

    Raises:
      UserError: The launcher or an option is unknown, its library is not installed, or there is no cluster.
    """
    calls = parse(spec)
    if len(calls) != 1:
        raise UserError(f"{spec!r} must name one launcher: give a spec such as 'local(slots=2)'")
    registry = Registry("launcher")
    factory = registry.register()(LAUNCHERS.resolve(calls[0].name))
    registry.factories[calls[0].name] = factory
    return cast(Launcher, registry.build(spec)[0])
