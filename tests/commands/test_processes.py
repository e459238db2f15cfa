"""Two processes train one run together, and it is the run of one process."""

import json
import os
import socket
import subprocess
import sys

import pytest
from PIL import Image

MAIN = "from jaxvision.cli import main; main()"


def together(*words, program=MAIN, cwds=(None, None), environments=({}, {})):
    """Starts two processes of one job; returns their exit statuses, stdouts and stderrs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_NUM_CPU_DEVICES": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, *words],
            env={**os.environ, **job, "JAX_PROCESS_ID": str(i), **environments[i]},
            cwd=cwds[i],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        outputs = [p.communicate(timeout=300) for p in processes]
    finally:
        for p in processes:
            p.kill()
    return [p.returncode for p in processes], *zip(*outputs)


def test_two_processes_equal_one(trained, config_file, tmp_path):
    codes, out, err = together("train", f"--config={config_file}", f"--workdir={tmp_path / 'run'}")
    assert codes == [0, 0], (out, err)
    assert "finished" in out[0]
    assert "step" not in out[1]  # one process speaks
    results = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert results == pytest.approx(trained[1], rel=1e-4)


@pytest.mark.slow  # pytest -m slow tests/commands/test_processes.py
def test_two_processes_end_early_at_the_same_step(config_file, tmp_path):
    """With a learning rate of 0 the first evaluation is the best, and the run ends two evaluations later."""
    rates = ("--config.optimizer.learning_rate=0.0", "--config.optimizer.momentum=0.0", "--config.model.name=lenet")
    best = (
        "--config.train.keep_best=val/loss",
        "--config.train.patience=2 evaluations",
        "--config.train.total=20 steps",
    )
    words = "train", f"--config={config_file}", f"--workdir={tmp_path / 'run'}", "--config.train.keep=1", *rates, *best
    codes, out, err = together(*words)
    assert codes == [0, 0], (out, err)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["steps"], results["best"]["step"]) == (12, 4)
    assert sorted(entry.name for entry in (tmp_path / "run" / "checkpoints").iterdir()) == ["12", "4"]
    codes, out, err = together("evaluate", f"--workdir={tmp_path / 'run'}", "--step=best", "--format=jsonl")
    assert codes == [0, 0], (out, err)
    assert {json.loads(line)["step"] for line in out[0].splitlines() if line[0] == "{"} == {4}  # beside Gloo


def test_processes_of_different_configs_claim_nothing(config_file, tmp_path):
    file = tmp_path / "differs.py"
    text = config_file.read_text().replace("learning_rate=0.1", "learning_rate=float(os.environ['RATE'])")
    file.write_text(f"import os\n{text}")
    words = "train", f"--config={file}", f"--workdir={tmp_path / 'run'}"
    codes, _, err = together(*words, environments=({"RATE": "0.1"}, {"RATE": "0.3"}))
    assert codes == [2, 2], err
    for output in err:  # each says it: one does not know which output a person reads
        assert "process 1 has other values than process 0" in output
        assert "config.optimizer.learning_rate: 0.1 -> 0.3" in output
        assert "momentum" not in output
    assert not (tmp_path / "run").exists()


def test_a_check_that_fails_in_one_process_ends_all(config_file, tmp_path):
    """The second process does not find the images to be judged."""
    file = tmp_path / "absent.py"
    other_val = 'val=dict(data="folder", data_dir="set", '
    file.write_text(config_file.read_text().replace("val=dict(", other_val))
    cwds = [tmp_path / "here", tmp_path / "there"]
    for folder in cwds:
        folder.mkdir()
    for kind in range(10):
        place = cwds[0] / "set" / "validation" / f"kind{kind}"
        place.mkdir(parents=True)
        Image.new("RGB", (32, 32), (kind, 0, 0)).save(place / "a.png")
    codes, _, err = together("train", f"--config={file}", f"--workdir={tmp_path / 'run'}", cwds=cwds)
    assert codes == [2, 2], err
    assert "opening evaluations and data failed in other processes (1): see their messages" in err[0]
    assert "set" in err[1]
    assert not (tmp_path / "run").exists()


PROGRAM = """
import os, pathlib, sys
import numpy as np
import jaxvision
from jaxvision.commands import restore
from jaxvision.errors import UserError
from jaxvision.experiment import Experiment
from jaxvision.models.weights import Imported

config, folder, process = *sys.argv[1:], os.environ["JAX_PROCESS_ID"]
variables = {"params": {"kernel": np.full(3, float(process))}}
notes = (f"init: hf:a/b: commit {process}", f"init: from {process}")
Experiment.load_pretrained = lambda self: Imported(variables, notes)
for workdir in (None, folder + process, folder):
    try:
        jaxvision.train(config, workdir)
    except UserError as error:
        print(error)
meta = {"model": {"name": "lenet"}, "preprocessing": {"host": "decode", "augment": "none"}, "classes": None}
restore.folder.load = lambda path: ({"params/head/bias": np.full(3, float(process))}, meta)
restore.workdirs.close_folder = lambda *_: None
try:
    restore.open_weights(pathlib.Path("converted"))
except UserError as error:
    print(error)
"""


def test_processes_share_a_workdir_and_the_weights_to_start_from(config_file, tmp_path):
    codes, out, err = together(str(config_file), str(tmp_path / "run"), program=PROGRAM)
    assert codes == [0, 0], err
    for output in out:
        assert "workdir is missing: several processes need the same one" in output
        assert f"flags.workdir: '{tmp_path / 'run0'}' -> '{tmp_path / 'run1'}'" in output
        assert "differ in the weights to start from (config.init)" in output
        assert "differ in the weights of converted" in output
        assert "hf:a/b: commit 1" in output
        assert "content: " in output
        assert "init: from 1" not in output
    assert not list(tmp_path.rglob("config.json"))
