"""Where commands run: processes of this machine, SLURM, Ray; and files for Kubernetes and Cloud TPUs."""

from jaxvision.errors import UserError
from jaxvision.found import Parts
from jaxvision.launch.base import Launcher
from jaxvision.specs import Registry, parse

LAUNCHERS = Parts("launcher", [__name__])


def make(spec: str) -> Launcher:
    """The launcher of a spec: `"local(slots=2)"`, `"slurm(partition='gpu', minutes=240, gpus=1)"`, `"ray(gpus=1)"`.

    Options are the arguments of `LocalLauncher`, `SlurmLauncher` and `RayLauncher`.

    Raises:
      UserError: an unknown launcher or option, one that is not installed, or a cluster that is not there.
    """
    calls = parse(spec)
    if len(calls) != 1:
        raise UserError(f"want one launcher, like 'local(slots=2)', not {spec!r}")
    registry = Registry("launcher")
    factory = registry.register()(LAUNCHERS.resolve(calls[0].name))
    registry.factories[calls[0].name] = factory
    return registry.build(calls)[0]
