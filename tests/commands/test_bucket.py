"""A run whose workdir is in a bucket is the run of a folder, bit for bit: killed, resumed, evaluated, started from."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxvision import experiment as experiments
from jaxvision import storage, transfer
from jaxvision.commands import convert, evaluate, predict, train
from jaxvision.errors import UserError
from jaxvision.train import metrics
from jaxvision.train.watch import Preempted

SPEED = {"examples_per_second", "data_wait"}


def numbers(workdir):
    lines = metrics.read(workdir / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in SPEED} for line in lines]


def assert_same_run(workdir, folder):
    """The arrays of the last checkpoints, metrics and results are equal."""
    assert numbers(workdir) == numbers(folder)
    mine, theirs = (json.loads((place / "results.json").read_text()) for place in (workdir, folder))
    assert (mine["steps"], mine["results"]) == (theirs["steps"], theirs["results"])
    (arrays, meta), (others, _) = transfer.open_own(workdir), transfer.open_own(folder)
    assert arrays.keys() == others.keys()
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], others[name])
    return arrays, meta


def test_a_run_in_a_bucket_is_the_run_of_a_folder(bucket, trained, config, tmp_path):
    folder, results = trained
    where = f"gs://bucket/{tmp_path.name}/run"
    with pytest.raises(Preempted):
        train.run_train(config, where, quiet=True, stop_after=3)
    assert train.run_train(config, where, quiet=True) == results
    workdir = storage.path(where)
    arrays, _ = assert_same_run(workdir, folder)
    names = bucket.names(f"{tmp_path.name}/run/")
    tops = {name.split("/")[2] for name in names}
    assert tops == {"config.json", "run.json", "results.json", "metrics.jsonl", "tensorboard", "checkpoints"}
    steps = {name.split("/")[3] for name in names if "/checkpoints/" in name}
    assert steps == {"3", "6"}
    assert len(json.loads((workdir / "run.json").read_text())["launches"]) == 2

    assert evaluate.run_evaluate(where, features=f"gs://bucket/{tmp_path.name}/features") == results
    lines = bucket.text(f"{tmp_path.name}/run/evaluations.jsonl").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [6]

    convert.run_convert(where, f"gs://bucket/{tmp_path.name}/weights")
    weights_in_bucket, _ = transfer.open_own(f"gs://bucket/{tmp_path.name}/weights")
    assert all(np.array_equal(weights_in_bucket[name], arrays[name]) for name in arrays)
    config.init = dict(weights=where)
    assert f"from {where}" in experiments.build(config).load_pretrained().notes[0]
    with pytest.raises(UserError, match="no file or folder"):
        predict.run_predict(where, str(tmp_path / "none.jpg"))
    assert not [name for name in os.listdir() if name.startswith("gs:")]


def test_what_a_bucket_cannot_do_is_refused_before_anything_is_written(bucket, trained, config, tmp_path):
    where = f"gs://bucket/{tmp_path.name}/run"
    storage.write(storage.path(where) / "config.json", (trained[0] / "config.json").read_text())
    before = dict(bucket.objects)
    with pytest.raises(UserError, match=r"--fresh cannot move .* aside: .* gcloud storage mv"):
        train.run_train(config, where, quiet=True, fresh=True)
    config.seed = 1
    with pytest.raises(UserError, match=r"(?s)holds a run of another config.*seed"):
        train.run_train(config, where, quiet=True)
    with pytest.raises(UserError, match=r"^cannot reach gs://absent: "):
        train.run_train(config, "gs://absent/run", quiet=True)
    with pytest.raises(UserError, match="cannot write to S3"):
        train.run_train(config, "s3://bucket/run", quiet=True)
    assert bucket.objects == before


def cli(*words, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", "from jaxvision.cli import main; main()", *words],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "--workdir=s3://b/x"], "--workdir is 's3://b/x': Orbax, which writes checkpoints, cannot write"),
        (["visualize", "--workdir=gs:/b/x", "--out=out"], "with two slashes"),
        (
            ["predict", "--workdir=runs/x", "--images=gs://bucket/*.jpg"],
            "--images is 'gs://bucket/*.jpg', but must be on",
        ),
        (["visualize", "--workdir=runs/x", "--out=hdfs://h/x"], "--out is 'hdfs://h/x'"),
        (["search", "--index=gs://bucket/x", "cat"], "--index is 'gs://bucket/x', but must be on a file system"),
        (["study", "data_scaling", "--out=gs://bucket/x"], "--out is 'gs://bucket/x', but must be on a file system"),
        (["study", "data_scaling", "--out=s3://bucket/x"], "--out is 's3://bucket/x', but must be on a file system"),
        (["convert", "s3://bucket/x", "out"], "IN is 's3://bucket/x'"),
        (["convert", "--from=timm", "--model=vit:S/16", "gs://bucket/x.npz", "out"], "IN is 'gs://bucket/x.npz', but"),
        (["data", "convert", "gs://bucket/x", "out"], "SRC is 'gs://bucket/x', but must be on a file system"),
        (["data", "prepare", "mnist", "--data_dir=gs://bucket/x"], "--data_dir is 'gs://bucket/x', but must be on"),
    ],
)
def test_every_folder_of_the_command_line_is_looked_at(words, message, capsys, tmp_path, monkeypatch):
    from jaxvision.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["jaxvision", *words])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_data_dir_in_a_bucket_is_refused(config, tmp_path):
    config.data.data_dir = "gs://bucket/sets"
    with pytest.raises(UserError, match="data_dir is 'gs://bucket/sets', but must be on a file system"):
        train.run_train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_that_is_killed_loses_nothing_that_it_told(bucket, config_file, tmp_path):
    longer = ["--config.train.total=60 steps", "--config.train.log_every=1 steps"]
    words = ["train", f"--config={config_file}", *longer]
    where = f"gs://bucket/{tmp_path.name}/run"
    alone = cli(*words, f"--workdir={tmp_path / 'run'}")
    assert alone.wait(300) == 0, alone.stderr.read()

    killed = cli(*words, f"--workdir={where}")
    done = lambda step: f"{tmp_path.name}/run/checkpoints/{step}/commit_success.txt" in bucket.objects
    until = time.monotonic() + 300
    while not done(12) and time.monotonic() < until:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    out, err = killed.communicate()
    steps = [int(step) for step in re.findall(r"^step (\d+)/60  loss", out, re.MULTILINE)]
    assert 12 <= max(steps) < 60, err
    workdir = storage.path(where)
    assert set(steps) <= {line["step"] for line in metrics.read(workdir / "metrics.jsonl")}

    again = cli(*words, f"--workdir={where}")
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert "resuming from step" in out
    assert_same_run(workdir, tmp_path / "run")
    evaluated = cli("evaluate", f"--workdir={where}")
    assert evaluated.wait(300) == 0, evaluated.stderr.read()
    pictures = cli("visualize", f"--workdir={where}", f"--out={where}/pictures", "--examples=24", "--perplexity=5")
    assert pictures.wait(300) == 0, pictures.stderr.read()
    objects = {name.rpartition("/")[2] for name in bucket.names(f"{tmp_path.name}/run/pictures/")}
    assert {"index.html", "index.md", "views.png"} <= objects


@pytest.mark.slow
def test_two_processes_share_a_workdir_in_a_bucket(bucket, trained, config_file, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    where = f"gs://bucket/{tmp_path.name}/run"
    for stop in (["--stop_after=3"], []):
        together = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
        words = ["train", f"--config={config_file}", f"--workdir={where}", *stop]
        processes = [cli(*words, **together, JAX_PROCESS_ID=str(i)) for i in range(2)]
        outputs = [p.communicate(timeout=300) for p in processes]
        assert [p.returncode for p in processes] == [85 if stop else 0] * 2, outputs
    workdir = storage.path(where)
    mine, theirs = (json.loads((place / "results.json").read_text())["results"] for place in (workdir, trained[0]))
    assert mine == pytest.approx(theirs, rel=1e-4)  # sums over two devices differ in rounding
    assert len(numbers(workdir)) == len(numbers(trained[0]))
