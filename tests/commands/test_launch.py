"""`jaxvision launch`: what it would submit, and what it refuses."""

import shutil

import pytest
import yaml

from jaxvision import cli

TRAIN = ["train", "--config=configs/quickstart.py", "--workdir=runs/ViT_a"]
BUCKET = [*TRAIN[:2], "--workdir=gs://runs/ViT_a"]


def launch(*words, after=TRAIN):
    cli.main(["jaxvision", "launch", *words, "--", *after])


def refused(capsys, *words, after=TRAIN):
    with pytest.raises(SystemExit) as left:
        launch(*words, after=after)
    assert left.value.code == 2
    return capsys.readouterr().err


def test_the_sbatch_script_has_the_options_and_runs_the_command_on_all_nodes(capsys):
    launch("--slurm=nodes=4, gpus=8, partition='a100', memory_gb=1.5, sbatch={'no_kill': True}", "--dry_run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "#!/bin/bash"
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    wanted = "job-name=vit-a nodes=4 ntasks-per-node=8 gpus-per-node=8 partition=a100 mem=1536M no-kill requeue"
    assert {f"--{word}" for word in wanted.split()} <= set(options)
    (run,) = [line for line in lines if line.startswith("srun")]
    assert run.endswith("-m jaxvision " + " ".join(TRAIN))


def test_the_manifest_and_the_gcloud_lines_hold_the_command(capsys):
    launch("--jobset=image='team/jaxvision', nodes=2", "--name=mine", "--dry_run", after=BUCKET)
    tree = yaml.safe_load(capsys.readouterr().out)
    pod = tree["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert tree["metadata"]["name"] == "mine"
    assert pod["containers"][0]["command"] == ["jaxvision", *BUCKET]
    launch("--tpu=accelerator='v6e-16', zone='us-east5-a'", "--dry_run", after=BUCKET)
    assert "jaxvision " + " ".join(BUCKET) in capsys.readouterr().out


def test_a_missing_tool_is_named(capsys, monkeypatch, tmp_path):
    (tmp_path / "git").symlink_to(shutil.which("git"))  # which knows what --tpu would copy
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch is not installed" in refused(capsys, "--slurm=nodes=2")
    assert "kubectl is not installed" in refused(capsys, "--jobset=image='a'", after=BUCKET)
    assert "gcloud is not installed" in refused(capsys, "--tpu=accelerator='v6e-16', zone='a'", after=BUCKET)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of --slurm, --jobset and --tpu"),
        (["--slurm=", "--tpu="], "one of --slurm, --jobset and --tpu"),
        (["--slurm=node=4"], "did you mean 'nodes'"),
        (["--slurm=4"], "must be options such as"),
        (["--slurm=partition=gpu"], "must be literals"),
        (["--slurm=nodes=0"], "--slurm: nodes must be a whole number of at least 1, not 0"),
        (["--slurm=nodes='four'"], "--slurm: nodes must be a whole number of at least 1, not 'four'"),
        (["--slurm=gpus=-1"], "--slurm: gpus must be a whole number of at least 0, not -1"),
        (["--jobset=nodes=2"], "needs image"),
        (["--tpu=accelerator='v6e-16'"], "needs zone"),
    ],
)
def test_wrong_options_are_refused(capsys, words, message):
    assert message in refused(capsys, *words, "--dry_run")


def test_a_wrong_command_is_refused_before_it_is_queued(capsys):
    assert "did you mean 'train'" in refused(capsys, "--slurm=", after=["trian"])
    assert "no key 'trian.total'" in refused(capsys, "--slurm=", after=[*TRAIN, "--config.trian.total=1"])
    assert "the command to launch is missing" in refused(capsys, "--slurm=", after=[])


TPU = "--tpu=accelerator='v6e-16', zone='a'"
POD, CLAIM = "--jobset=image='i', nodes=2", "--jobset=image='i', nodes=2, claim='runs', mount='/shared'"


@pytest.mark.parametrize(
    ("words", "workdir", "message"),
    [
        (TPU, "runs/a", "not on a disk that the hosts share"),
        (TPU, "~/a", "not on a disk that the hosts share"),
        (POD, "/work/a", "give --workdir=gs://BUCKET/NAME, or claim='...'"),
        (CLAIM, "/work/a", "a folder under /shared"),
        (CLAIM, "runs/a", "a folder under /shared"),
        (TPU, "s3://b/a", "cannot write to S3"),
        (POD, "gs:/b/a", "two slashes"),
        ("--slurm=nodes=2", "hdfs://h/a", "hdfs: is not supported"),
    ],
)
@pytest.mark.parametrize("way", ["--workdir={}", "--workdir {}"])
def test_a_workdir_that_goes_with_its_machine_is_refused(capsys, words, workdir, message, way):
    after = [*TRAIN[:2], *way.format(workdir).split()]
    assert message in refused(capsys, words, "--dry_run", after=after)


@pytest.mark.parametrize(
    ("words", "workdir"),
    [
        (TPU, "gs://runs/a"),
        (TPU, "/mnt/nfs/a"),
        (POD, "gs://runs/a"),
        (CLAIM, "/shared/a"),
        ("--slurm=nodes=2", "runs/a"),
    ],
)
def test_one_that_stays_is_not(capsys, words, workdir):
    launch(words, "--dry_run", after=[*TRAIN[:2], f"--workdir={workdir}"])
    assert workdir in capsys.readouterr().out


def test_options_of_the_cluster_are_checked_before_the_config(capsys):
    for options, message in (("nodes=0", "nodes must be"), ("nodes=1", "no config file 'nowhere.py'")):
        with pytest.raises(SystemExit) as stop:
            cli.main(["jaxvision", "launch", f"--slurm={options}", "--", "train", "--config=nowhere.py", "--workdir=x"])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
