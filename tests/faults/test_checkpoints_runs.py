"""Checkpoints of a real run, every file of it: damage is found, and the run resumes from a good step. Takes minutes."""

import os
import random
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from saved_runs import DAMAGES, files_of

from jaxvision.train.checkpoint import Saved

FILE = """
from ml_collections import ConfigDict

def get_config():
    c = ConfigDict()
    c.seed = 0
    sizes = dict(image_size=32, train=80, validation=24, test=8)
    c.data = dict(name="shapes", options=sizes, split="train", batch_size=16)
    c.augment = "standardize"
    c.model = dict(name="resnet", variant="8", width=0.25)
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1, momentum=0.9)
    c.train = dict(total="30 steps", log_every="2 steps", checkpoint_every="3 steps")
    c.evals = dict(val=dict(name="classify", split="validation", every="10 steps"))
    return c
"""


def cli(*words, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", "from jaxvision.cli import main; main()", *words],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, (out, err)
    assert "Traceback" not in err
    return out, err


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The config file of a real run and its workdir, stopped at step 9, with the steps 6 and 9."""
    folder = tmp_path_factory.mktemp("real")
    patch = pytest.MonkeyPatch()
    patch.setenv("JAXVISION_DATA", str(folder / "data"))
    (folder / "config.py").write_text(FILE)
    words = "train", f"--config={folder / 'config.py'}"
    finish(cli(*words, f"--workdir={folder / 'run'}", "--stop_after=9"), 85)
    yield words, folder / "run"
    patch.undo()


@pytest.mark.slow
def test_every_damage_of_every_file_of_a_real_run_is_found(real, tmp_path, record_property):
    run = shutil.copytree(real[1], tmp_path / "run")
    place, rng, saved, wrong, count = run / "checkpoints" / "9", random.Random(1), Saved(run), 0, 0
    for path in files_of(place):
        good = path.read_bytes()
        damaged = [good[:n] for n in {0, 1, len(good) // 2, len(good) - 1}] + [good + b"x", bytes(len(good)), None]
        for _ in range(40):
            flipped = bytearray(good)
            flipped[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
            damaged.append(bytes(flipped))
        for content in damaged:
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            count += 1
            wrong += not (saved.problem(9) or saved.without_digests(9))
        path.write_bytes(good)
    assert saved.problem(9) is None
    record_property("promise", "a damaged checkpoint is found")
    record_property("injections", count)
    record_property("wrong", wrong)
    assert wrong == 0
    assert count > 1000


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_real_run_goes_on_from_the_good_step_and_ends_as_it_would_have(real, tmp_path, processes, record_property):
    words, stopped = real
    count = wrong = 0

    def train(workdir):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            job = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free.getsockname()[1]}", "JAX_NUM_PROCESSES": str(processes)}
        job = job if processes > 1 else {}
        ranks = [{"JAX_PROCESS_ID": str(i)} if job else {} for i in range(processes)]
        return [finish(p) for p in [cli(*words, f"--workdir={workdir}", **job, **rank) for rank in ranks]]

    shutil.copytree(stopped, tmp_path / "whole")
    if processes > 1:  # sums over two processes differ in rounding from those of one, which went up to step 9
        shutil.rmtree(tmp_path / "whole" / "checkpoints" / "9")
    train(tmp_path / "whole")
    whole = Saved(tmp_path / "whole").variables()
    for damage in ("flipped bit", "missing", "meta is no JSON", "folder is empty", "digests are broken"):
        run = shutil.copytree(stopped, tmp_path / damage.replace(" ", "_"))
        DAMAGES[damage](run / "checkpoints" / "9")
        out, err = train(run)[0]
        assert "9 is damaged: " in err
        assert "resuming from step 6" in out
        variables = Saved(run).variables()
        count += 1
        wrong += not all(np.array_equal(variables[name], whole[name]) for name in whole)
        assert (run / "checkpoints" / "damaged-9-1").is_dir()
    record_property("promise", "a damaged checkpoint is found")
    record_property("injections", count)
    record_property("wrong", wrong)
    assert wrong == 0


@pytest.mark.slow
def test_readers_beside_a_real_training_harm_nothing(real, tmp_path, record_property):
    words, _ = real
    run, alone = tmp_path / "run", tmp_path / "alone"
    finish(cli(*words, f"--workdir={alone}"))
    training = cli(*words, f"--workdir={run}")
    while not (run / "checkpoints").is_dir() and training.poll() is None:
        time.sleep(0.05)
    kinds = [["evaluate"], ["verify"], [*words, "--config.seed=1"]]
    reads = 0
    while training.poll() is None:
        readers = [cli(*kind, f"--workdir={run}") for kind in kinds]
        for reader in readers:
            _, err = reader.communicate(timeout=600)
            assert "Traceback" not in err, err
            assert "damaged" not in err
            reads += 1
    finish(training)
    mine, theirs = Saved(run).variables(), Saved(alone).variables()
    wrong = sum(not np.array_equal(mine[name], theirs[name]) for name in theirs)
    record_property("promise", "readers do no harm")
    record_property("injections", reads)
    record_property("wrong", wrong)
    assert wrong == 0
    assert reads >= 3
