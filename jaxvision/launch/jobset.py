"""One run on Kubernetes: the manifest of a JobSet, queued by Kueue.

A JobSet (jobset.sigs.k8s.io, 0.10 or later) is a group of Jobs with one network. A run is one Job with a pod for each
node, or one Job for each slice of TPUs. The whole group starts again each time that a pod exits with status 85 or loses
its node; at most `restarts` times after other failures, such as a hang (86); and never after status 2, because the same
command would fail in the same way.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxvision.errors import UserError, shown
from jaxvision.exits import EXIT_PREEMPTED, EXIT_USER_ERROR
from jaxvision.launch.options import AMOUNT, CODE, FOLDER, IMAGE, MANY, OBJECT, checked, environment
from jaxvision.launch.places import check_workdir

COORDINATOR_PORT = 8476
LONGEST_NAME = 40  # of 63 characters, JobSet needs the rest for its suffix, "-workers-0-127-x7k2p"


@checked
def manifest(
    command: Sequence[str],
    name: str,
    *,
    image: IMAGE,
    nodes: MANY | None = None,
    gpus: AMOUNT = 0,
    tpu: CODE | None = None,
    topology: CODE | None = None,
    slices: MANY = 1,
    chips: MANY = 4,
    queue: OBJECT | None = None,
    namespace: OBJECT | None = None,
    claim: OBJECT | None = None,
    mount: FOLDER = "/work",
    cpus: MANY | None = None,
    memory_gb: MANY | None = None,
    env: Mapping[str, Any] | None = None,
    grace_seconds: AMOUNT = 120,
    restarts: AMOUNT = 3,
) -> dict[str, Any]:
    """Returns the JobSet that runs a command with one process per node, as a tree for `to_yaml`.

    Args:
      command: Words of the command line in the image, such as `["jaxvision", "train", ...]`.
      name: Name of the JobSet: at most 40 lower-case letters, digits and `-`.
      image: Container image in which jaxvision is installed.
      nodes: Number of pods, one process each (1 by default); None for TPUs, where `topology` gives it.
      gpus: Number of GPUs (nvidia.com/gpu) of each pod.
      tpu: GKE's name of the accelerator, such as "tpu-v6e-slice"; `gpus` must then be 0.
      topology: Chips of a slice along each axis, such as "4x4".
      slices: Number of TPU slices that train together over the data-centre network.
      chips: Number of TPU chips of one host.
      queue: Kueue's LocalQueue; without it the JobSet starts at once.
      namespace: Kubernetes namespace; None for the current one.
      claim: PersistentVolumeClaim that all pods share. The workdir must be in it, or in a bucket.
      mount: Folder at which the claim is mounted.
      cpus: CPUs requested for each pod.
      memory_gb: Memory requested for each pod, in GiB.
      env: Environment variables of the command, by name.
      grace_seconds: Seconds from SIGTERM to SIGKILL; more than saving a checkpoint takes.
      restarts: Number of restarts after failures other than preemption and status 2.

    Raises:
      UserError: Kubernetes would refuse the name, values do not fit together, or the workdir is on the pods' own disk.

    >>> tree = manifest(["jaxvision", "train"], "vit", image="team/jaxvision", nodes=2, gpus=8, queue="research")
    >>> tree["metadata"]["labels"]
    {'kueue.x-k8s.io/queue-name': 'research'}
    """
    _check_name(name)
    instead = f"a folder under {mount}, where claim={claim!r} is mounted" if claim else "claim='...', which they share"
    check_workdir(command, claim and mount, "the pods", instead)
    if tpu is None:
        if topology is not None or slices != 1:
            raise UserError(
                f"topology={topology!r} and slices={slices} are for TPUs only: give tpu='tpu-v6e-slice', too"
            )
        hosts = 1 if nodes is None else nodes
        accelerator = {"nvidia.com/gpu": gpus} if gpus else {}
        coordinator = _coordinator(name, hosts)
    else:
        if gpus or nodes is not None:
            raise UserError(f"tpu={tpu!r} sets the chips and hosts: leave out gpus={gpus} and nodes={nodes}")
        hosts = _hosts(topology, chips)
        accelerator = {"google.com/tpu": chips}
        coordinator = []  # GKE gives each host its rank and the names of all, and JAX reads them

    wanted: dict[str, int | str | None] = {"cpu": cpus, "memory": memory_gb and f"{memory_gb}Gi", **accelerator}
    requests = {key: value for key, value in wanted.items() if value}
    container = {
        "name": "run",
        "image": image,
        "command": [word.replace("$", "$$") for word in command],  # Kubernetes would expand $(NAME)
        "env": coordinator + [{"name": key, "value": value} for key, value in environment(env).items()],
        "resources": {"requests": requests, "limits": accelerator},
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": grace_seconds,
        "containers": [container],
    }
    if tpu is not None:
        pod["nodeSelector"] = {
            "cloud.google.com/gke-tpu-accelerator": tpu,
            "cloud.google.com/gke-tpu-topology": topology,
        }
    if claim:
        container["volumeMounts"] = [{"name": "shared", "mountPath": mount}]
        pod["volumes"] = [{"name": "shared", "persistentVolumeClaim": {"claimName": claim}}]

    metadata: dict[str, Any] = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": queue}
    if tpu is not None:  # a slice is one node pool: without this, the pods of a Job could be spread over two pools
        metadata["annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    pod_failures, set_failures = _failure_rules()
    job = {
        "parallelism": hosts,
        "completions": hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # if one pod fails, the group fails: the others wait for it in a collective operation
        "podFailurePolicy": {"rules": pod_failures},
        "template": {"spec": pod},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            # Blocking: no pod starts while one of the previous attempt may still write to the workdir.
            "failurePolicy": {"maxRestarts": restarts, "restartStrategy": "BlockingRecreate", "rules": set_failures},
            "replicatedJobs": [{"name": "workers", "replicas": slices, "template": {"spec": job}}],
        },
    }


def to_yaml(tree: Mapping[str, Any]) -> str:
    """Returns a manifest as text for `kubectl apply -f`.

    Args:
      tree: Manifest, from `manifest`.
    """
    import yaml

    return yaml.safe_dump(tree, sort_keys=False)


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME or not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name):
        raise UserError(
            f"Kubernetes refuses the name {shown(name)}: give --name at most {LONGEST_NAME} lower-case letters, digits "
            "and '-', a letter first"
        )


def _hosts(topology: str | None, chips: int) -> int:
    """Hosts of a TPU slice.

    >>> _hosts("4x4x8", chips=4)
    32
    """
    if topology is None or not re.fullmatch(r"\d+(x\d+){1,2}", topology):
        raise UserError(f"topology={topology!r} is not a topology: give the chips along each axis, '4x4' or '2x2x4'")
    total = math.prod(int(n) for n in topology.split("x"))
    if chips < 1 or total % chips:
        raise UserError(f"topology={topology!r} has {total} chips, not a multiple of chips={chips}: give another")
    return total // chips


def _coordinator(name: str, hosts: int) -> list[dict[str, Any]]:
    """Environment variables for jax.distributed: address of process 0, number of processes, and rank of this one."""
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    return [
        {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{name}-workers-0-0.{name}:{COORDINATOR_PORT}"},
        {"name": "JAX_NUM_PROCESSES", "value": str(hosts)},
        {"name": "JAX_PROCESS_ID", "valueFrom": index},
    ]


def _failure_rules() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rules that fail a Job, and those of the JobSet, which finds the Job's rule by the number in its message."""
    again = "RestartJobSetAndIgnoreMaxRestarts"
    causes: list[tuple[str, str, dict[str, Any]]] = [
        ("userError", "FailJobSet", {"onExitCodes": {"operator": "In", "values": [EXIT_USER_ERROR]}}),
        ("preempted", again, {"onExitCodes": {"operator": "In", "values": [EXIT_PREEMPTED]}}),
        ("nodeLost", again, {"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}),
    ]
    pods = [{"action": "FailJob", **cause} for _, _, cause in causes]
    group: list[dict[str, Any]] = [
        {
            "name": name,
            "action": action,
            "onJobFailureReasons": ["PodFailurePolicy"],
            "onJobFailureMessagePatterns": [f"matching FailJob rule at index {number}$"],
        }
        for number, (name, action, _) in enumerate(causes)
    ]
    return pods, group
