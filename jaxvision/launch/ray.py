"""Runs on the nodes of an existing Ray cluster, which share a file system with the controller.

A job is a detached actor whose name is the job's id. Ray starts it on a node with free CPUs and GPUs, even after the
controller has ended, and another controller finds it by that name. Ray restarts nothing, because the controller counts
attempts: a job whose node is lost, is lost.
"""

import hashlib
import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from jaxvision.arguments import LINE, Range, check_value
from jaxvision.errors import UserError
from jaxvision.launch.base import JOB_FILE, Status, prepare, status
from jaxvision.launch.job import dies_with_parent
from jaxvision.registry import part

NAMESPACE = "jaxvision"
CANCEL_SECONDS = 10  # longest wait until the node has received a cancellation


@part("launcher", "ray")
class RayLauncher:
    """Starts each job as an actor that takes `cpus` and `gpus` of one node.

    Ray sets CUDA_VISIBLE_DEVICES to the GPUs of a job. It counts CPUs, but does not restrict a job to them.

    Args:
      address: Address of the cluster: "auto" for that of this node or of RAY_ADDRESS, else "host:port".
      cpus: Number of CPUs of each job; with a fraction, jobs share one.
      gpus: Number of GPUs of each job; with a fraction, jobs share one.
      resources: Custom resources of each job, such as `{"bigmem": 1}`.

    Raises:
      UserError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(
        self,
        address: LINE = "auto",
        cpus: Annotated[float, Range(0, 10**6)] = 1,
        gpus: Annotated[float, Range(0, 10**6)] = 0,
        resources: Mapping[str, float] | None = None,
    ):
        for resource, amount in (resources or {}).items():
            check_value("a name in resources=", resource, LINE)
            check_value(f"resources={{{resource!r}: ...}}", amount, Annotated[float, Range(0, 10**6)])
        try:
            import ray
        except ImportError:
            raise UserError(
                "the launcher ray needs Ray, which is not installed: pip install 'jaxvision[ray]'"
            ) from None
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"cannot join a Ray cluster at address={address!r}: {error}. Start one with `ray start --head`"
                ) from None
        self._ray = ray
        self._needs = dict(num_cpus=cpus, num_gpus=gpus, resources=dict(resources or {}))

    def submit(self, command: Sequence[str], folder: Path, name: str) -> str:
        """Asks Ray for an actor that runs a command.

        Args:
          command: Words of the command line.
          folder: Folder of the job.
          name: Name of the job.

        Returns:
          The id of the job, which is the actor's name.
        """
        prepare(folder)
        job = _prefix(folder, name) + uuid.uuid4().hex[:8]
        # Everything is in the constructor's arguments, which Ray keeps: a call would be lost with this process.
        self._ray.remote(JobActor).options(
            name=job, namespace=NAMESPACE, lifetime="detached", max_restarts=0, max_concurrency=2, **self._needs
        ).remote(list(command), str(folder.absolute()), os.getcwd())
        return job

    def find(self, folder: Path, name: str) -> str | None:
        """Finds the actor of a job.

        Args:
          folder: Folder given to `submit`.
          name: Name given to `submit`.

        Returns:
          The id of the job if it waits or runs, else None.
        """
        prefix = _prefix(folder, name)
        return next((job for job in self._alive() if job.startswith(prefix)), None)

    def poll(self, jobs: Mapping[str, Path]) -> dict[str, Status]:
        """Returns the states of jobs, with one request to Ray.

        Args:
          jobs: Folders of the jobs by id.
        """
        alive = self._alive()
        return {job: status(folder, job in alive) for job, folder in jobs.items()}

    def cancel(self, job: str, folder: Path) -> None:
        """Sends SIGTERM to a job that runs, or removes one that waits from the queue.

        Args:
          job: Id of the job.
          folder: Folder of the job.
        """
        try:
            holder = self._ray.get_actor(job, namespace=NAMESPACE)
        except ValueError:
            return  # it has ended
        if (folder / JOB_FILE).exists():
            self._ray.wait([holder.terminate.remote()], timeout=CANCEL_SECONDS)
        else:
            self._ray.kill(holder)

    def _alive(self) -> set[str]:
        actors = self._ray.util.list_named_actors(all_namespaces=True)
        return {actor["name"] for actor in actors if actor["namespace"] == NAMESPACE}


def _prefix(folder: Path, name: str) -> str:
    return f"{name}-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]}-"


class JobActor:
    """The actor of a job: it holds the job's resources, and runs its process.

    Args:
      command: Words of the command line.
      folder: Folder of the job.
      workdir: Working directory of the command.
    """

    def __init__(self, command: list[str], folder: str, workdir: str):
        import ray

        self._process = subprocess.Popen(
            [sys.executable, "-m", "jaxvision.launch.job", folder, "--", *command],
            cwd=workdir,
            stdin=subprocess.DEVNULL,
            preexec_fn=dies_with_parent(),  # `ray stop --force` kills the processes of Ray, and nothing else
        )
        ray.get_runtime_context().current_actor.hold.remote()

    def hold(self) -> None:
        """Keeps the actor alive while its process runs."""
        import ray

        self._process.wait()
        ray.actor.exit_actor()

    def terminate(self) -> None:
        """Sends SIGTERM to the process."""
        self._process.terminate()
