import copy
import json
import re
from pathlib import Path

import pytest

from jaxvision.errors import UserError
from jaxvision.launch.jobset import manifest, to_yaml

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")
SCHEMA = json.loads((Path(__file__).parent / "jobset.schema.json").read_text())
COMMAND = ["jaxvision", "train", "--config=configs/quickstart.py", "--workdir=gs://runs/run"]
GPUS = dict(image="team/jaxvision:1", nodes=4, gpus=8, queue="research", claim="runs", cpus=32, memory_gb=200)
TPUS = dict(image="team/jaxvision:1", tpu="tpu-v6e-slice", topology="4x8", slices=2, env={"TFDS_DATA_DIR": "gs://sets"})


def check(tree):
    jsonschema.Draft202012Validator(SCHEMA).validate(tree)


def job(tree):
    return tree["spec"]["replicatedJobs"][0]["template"]["spec"]


def pod(tree):
    return job(tree)["template"]["spec"]


@pytest.mark.parametrize("options", [dict(image="i"), GPUS, TPUS, dict(image="i", namespace="vision")])
def test_a_manifest_fits_the_schema_of_jobset(options):
    check(yaml.safe_load(to_yaml(manifest(COMMAND, "vit-s16", **options))))


@pytest.mark.parametrize("spoil", [
    lambda t: t["spec"].update(failurepolicy={}),
    lambda t: pod(t).update(restartPolicy="Sometimes"),
    lambda t: pod(t)["containers"][0].pop("name"),
    lambda t: pod(t)["containers"][0]["env"].append({"name": "N", "value": 4}),
    lambda t: pod(t)["containers"][0]["resources"]["limits"].update(cpu="many"),
    lambda t: job(t)["podFailurePolicy"]["rules"][0].update(action="Retry"),
])  # fmt: skip
def test_the_schema_refuses_a_spoilt_manifest(spoil):
    tree = copy.deepcopy(manifest(COMMAND, "vit", **GPUS))
    spoil(tree)
    with pytest.raises(jsonschema.ValidationError):
        check(tree)


def test_every_pod_finds_the_coordinator():
    tree = manifest(COMMAND, "vit", **GPUS)
    env = {e["name"]: e.get("value", e.get("valueFrom")) for e in pod(tree)["containers"][0]["env"]}
    # JobSet names a pod's host <jobset>-<replicated job>-<job index>-<pod index>.<subdomain>, the subdomain <jobset>.
    name = tree["spec"]["replicatedJobs"][0]["name"]
    assert env["JAX_COORDINATOR_ADDRESS"].rpartition(":")[0] == f"vit-{name}-0-0.vit"
    assert env["JAX_NUM_PROCESSES"] == str(job(tree)["completions"]) == "4"
    assert job(tree)["completionMode"] == "Indexed"
    assert "job-completion-index" in env["JAX_PROCESS_ID"]["fieldRef"]["fieldPath"]


def decide(tree, exit_code=None, condition=None):
    """The action on the set when a pod fails: Kubernetes' rules and messages, then JobSet's, as their pages tell."""
    for index, rule in enumerate(job(tree)["podFailurePolicy"]["rules"]):
        if exit_code in rule.get("onExitCodes", {}).get("values", []) or condition in [
            c["type"] for c in rule.get("onPodConditions", [])
        ]:
            reason = "PodFailurePolicy"
            cause = f"has condition {condition}" if exit_code is None else f"failed with exit code {exit_code}"
            message = f"Container run for pod default/vit-0 {cause} matching {rule['action']} rule at index {index}"
            break
    else:
        reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    for rule in tree["spec"]["failurePolicy"]["rules"]:
        if reason in rule["onJobFailureReasons"] and any(
            re.search(p, message) for p in rule["onJobFailureMessagePatterns"]
        ):
            return rule["action"]
    return "RestartJobSet"


def test_what_happens_after_each_way_to_fail():
    tree = manifest(COMMAND, "vit", **GPUS, restarts=5)
    assert decide(tree, exit_code=2) == "FailJobSet"
    assert decide(tree, exit_code=85) == "RestartJobSetAndIgnoreMaxRestarts"
    assert decide(tree, condition="DisruptionTarget") == "RestartJobSetAndIgnoreMaxRestarts"
    assert decide(tree, exit_code=1) == "RestartJobSet"
    assert decide(tree, exit_code=86) == "RestartJobSet"  # a hang, a few times
    assert tree["spec"]["failurePolicy"]["maxRestarts"] == 5
    assert job(tree)["backoffLimit"] == 0


def test_a_tpu_slice_takes_whole_hosts_of_its_topology():
    tree = manifest(COMMAND, "vit", **TPUS)
    assert job(tree)["parallelism"] == 4 * 8 // 4
    assert tree["spec"]["replicatedJobs"][0]["replicas"] == 2
    assert pod(tree)["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod(tree)["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x8"
    assert not [e for e in pod(tree)["containers"][0]["env"] if e["name"].startswith("JAX_")]


def test_the_shared_claim_is_mounted_where_the_workdir_lies():
    spec = pod(manifest(COMMAND, "vit", **GPUS))
    (mount,) = spec["containers"][0]["volumeMounts"]
    (volume,) = spec["volumes"]
    assert mount == {"name": volume["name"], "mountPath": "/work"}
    assert volume["persistentVolumeClaim"] == {"claimName": "runs"}


@pytest.mark.parametrize(("name", "options", "words"), [
    ("Vit_S16", {}, "Vit_S16"),
    ("v" * 41, {}, "at most 40"),
    ("vit", dict(topology="4x4"), "tpu="),
    ("vit", dict(tpu="tpu-v6e-slice"), "topology=None"),
    ("vit", dict(tpu="tpu-v6e-slice", topology="4by4"), "4by4"),
    ("vit", dict(tpu="tpu-v6e-slice", topology="2x3"), "chips=4"),
    ("vit", dict(tpu="tpu-v6e-slice", topology="4x4", gpus=8), "gpus=8"),
    ("vit", dict(nodes=0), "nodes must be a whole number of at least 1 or None, not 0"),
])  # fmt: skip
def test_values_that_kubernetes_would_refuse_are_named(name, options, words):
    with pytest.raises(UserError, match=words):
        manifest(COMMAND, name, image="i", **options)
