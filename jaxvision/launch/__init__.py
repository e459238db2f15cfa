"""Where commands run: processes of this machine, SLURM, Ray; and files for Kubernetes and Cloud TPUs."""

from importlib import import_module

from jaxvision.errors import UserError, unknown
from jaxvision.launch.base import Launcher
from jaxvision.specs import Registry, parse

# Module and class of each; imported where it is asked for.
LAUNCHERS = {"local": "LocalLauncher", "slurm": "SlurmLauncher", "ray": "RayLauncher"}


def make(spec: str) -> Launcher:
    """The launcher of a spec: `"local(slots=2)"`, `"slurm(partition='gpu', minutes=240, gpus=1)"`, `"ray(gpus=1)"`.

    Options are the arguments of `LocalLauncher`, `SlurmLauncher` and `RayLauncher`.

    Raises:
      UserError: an unknown launcher or option, one that is not installed, or a cluster that is not there.
    """
    calls = parse(spec)
    if len(calls) != 1:
        raise UserError(f"want one launcher, like 'local(slots=2)', not {spec!r}")
    name = calls[0].name
    if name not in LAUNCHERS:
        raise unknown("launcher", name, LAUNCHERS)
    registry = Registry("launcher")
    registry.factories[name] = getattr(import_module(f"jaxvision.launch.{name}"), LAUNCHERS[name])
    return registry.build(calls)[0]
