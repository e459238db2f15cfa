"""One run on Kubernetes: the manifest of a JobSet, queued by Kueue.

A JobSet (jobset.sigs.k8s.io, 0.10 or later) is a group of Jobs with one network. A run is one Job with a pod for each
node, or one Job for each slice of TPUs. The whole group starts again when a pod leaves with status 85 or its node goes
away, as often as that happens; after other failures, such as a hang (86), at most `restarts` times; and never after
status 2, since the same command would fail in the same way.
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
LONGEST_NAME = 40  # what JobSet appends, "-workers-0-127-x7k2p", has to fit into 63 characters as well


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
    """The JobSet that runs `command` as one process a node, as a tree that `to_yaml` writes.

    Args:
      command: the words of the command line in the image, such as `["jaxvision", "train", ...]`.
      name: of the JobSet: at most 40 lower-case letters, digits and `-`.
      image: container image with jaxvision in it.
      nodes: pods, one process each (1 unless given); for TPUs it follows from `topology`.
      gpus: nvidia.com/gpu for each pod.
      tpu: GKE's name of the accelerator, such as "tpu-v6e-slice"; `gpus` must be 0 then.
      topology: chips of a slice along each axis, such as "4x4".
      slices: TPU slices that train together over the data-centre network.
      chips: TPU chips of one host.
      queue: Kueue's LocalQueue; without it the JobSet starts at once.
      claim: PersistentVolumeClaim that all pods share, mounted at `mount`; the workdir lies there or in a bucket.
      cpus, memory_gb: requested for each pod.
      env: environment variables of the command.
      grace_seconds: from SIGTERM to SIGKILL: enough to save a checkpoint.
      restarts: after failures other than preemption and status 2.

    Raises:
      UserError: a name that Kubernetes refuses, values that do not fit together, or a workdir on the pods' own disk.

    >>> tree = manifest(["jaxvision", "train"], "vit", image="team/jaxvision", nodes=2, gpus=8, queue="research")
    >>> tree["metadata"]["labels"]
    {'kueue.x-k8s.io/queue-name': 'research'}
    """
    _check_name(name)
    instead = f"a folder under {mount}, where claim={claim!r} is mounted" if claim else "claim='...', which they share"
    check_workdir(command, claim and mount, "the pods", instead)
    if tpu is None:
        if topology is not None or slices != 1:
            raise UserError(f"topology={topology!r} and slices={slices} are for TPUs: name them in tpu='tpu-v6e-slice'")
        hosts = 1 if nodes is None else nodes
        accelerator = {"nvidia.com/gpu": gpus} if gpus else {}
        coordinator = _coordinator(name, hosts)
    else:
        if gpus or nodes is not None:
            raise UserError(f"tpu={tpu!r} has its own chips and hosts: leave out gpus={gpus} and nodes={nodes}")
        hosts = _hosts(topology, chips)
        accelerator = {"google.com/tpu": chips}
        coordinator = []  # GKE tells each host its rank and the others' names, and JAX reads that

    requests = {"cpu": cpus, "memory": memory_gb and f"{memory_gb}Gi", **accelerator}
    requests = {key: value for key, value in requests.items() if value}
    container = {
        "name": "run",
        "image": image,
        "command": [word.replace("$", "$$") for word in command],  # Kubernetes would put variables in for $(NAME)
        "env": coordinator + [{"name": key, "value": value} for key, value in environment(env).items()],
        "resources": {"requests": requests, "limits": accelerator},
    }
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": grace_seconds, "containers": [container]}
    if tpu is not None:
        pod["nodeSelector"] = {
            "cloud.google.com/gke-tpu-accelerator": tpu,
            "cloud.google.com/gke-tpu-topology": topology,
        }
    if claim:
        container["volumeMounts"] = [{"name": "shared", "mountPath": mount}]
        pod["volumes"] = [{"name": "shared", "persistentVolumeClaim": {"claimName": claim}}]

    metadata = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    if queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": queue}
    if tpu is not None:  # a slice is one node pool: without this, two pools could share out the pods of a Job
        metadata["annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    pod_failures, set_failures = _failure_rules()
    job = {
        "parallelism": hosts,
        "completions": hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # one pod's failure is the group's: the others wait for it in a collective operation
        "podFailurePolicy": {"rules": pod_failures},
        "template": {"spec": pod},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            # Blocking: no pod starts while one of the attempt before may still write to the workdir.
            "failurePolicy": {"maxRestarts": restarts, "restartStrategy": "BlockingRecreate", "rules": set_failures},
            "replicatedJobs": [{"name": "workers", "replicas": slices, "template": {"spec": job}}],
        },
    }


def to_yaml(tree: Mapping[str, Any]) -> str:
    """The manifest as text for `kubectl apply -f`."""
    import yaml

    return yaml.safe_dump(tree, sort_keys=False)


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME or not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name):
        raise UserError(
            f"Kubernetes refuses the name {shown(name)}: want at most {LONGEST_NAME} lower-case letters, digits "
            "and '-', a letter first"
        )


def _hosts(topology: str | None, chips: int) -> int:
    """Hosts of a TPU slice.

    >>> _hosts("4x4x8", chips=4)
    32
    """
    if topology is None or not re.fullmatch(r"\d+(x\d+){1,2}", topology):
        raise UserError(f"topology={topology!r}: want the chips along each axis of a slice, like '4x4' or '2x2x4'")
    total = math.prod(int(n) for n in topology.split("x"))
    if chips < 1 or total % chips:
        raise UserError(f"the {total} chips of topology={topology!r} do not divide into hosts of chips={chips}")
    return total // chips


def _coordinator(name: str, hosts: int) -> list[dict[str, Any]]:
    """Tells jax.distributed where process 0 is, how many there are, and which one this is."""
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    return [
        {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{name}-workers-0-0.{name}:{COORDINATOR_PORT}"},
        {"name": "JAX_NUM_PROCESSES", "value": str(hosts)},
        {"name": "JAX_PROCESS_ID", "valueFrom": index},
    ]


def _failure_rules() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What fails the Job, and what the JobSet then does, which knows the rule from the number in the Job's message."""
    again = "RestartJobSetAndIgnoreMaxRestarts"
    causes = [
        ("userError", "FailJobSet", {"onExitCodes": {"operator": "In", "values": [EXIT_USER_ERROR]}}),
        ("preempted", again, {"onExitCodes": {"operator": "In", "values": [EXIT_PREEMPTED]}}),
        ("nodeLost", again, {"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}),
    ]
    pods = [{"action": "FailJob", **cause} for _, _, cause in causes]
    group = [
        {
            "name": name,
            "action": action,
            "onJobFailureReasons": ["PodFailurePolicy"],
            "onJobFailureMessagePatterns": [f"matching FailJob rule at index {number}$"],
        }
        for number, (name, action, _) in enumerate(causes)
    ]
    return pods, group
