"""Runs of one, two and four processes that are killed with -9 at random moments, and what they leave."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from jaxvision.train.metrics import read

SPEED = {"examples_per_second", "data_wait", "mfu"}
SAVE, TOTAL = 20, 300
CONFIG = f"""
from ml_collections import ConfigDict

def get_config(arg=None):
    c = ConfigDict()
    c.seed = 0
    c.data = dict(name="folder", data_dir="DATA", split="train", batch_size=16, threads=2, max_bad_fraction=0.05)
    c.data.update(host="decode|random_resized_crop(24)")
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="resnet", variant="8", width=0.25)
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.02, momentum=0.9)
    c.train = dict(total="{TOTAL} steps", log_every="7 steps", checkpoint_every="{SAVE} steps", keep=2)
    c.evals = dict(val=dict(name="classify", split="validation", every="30 steps", host="decode|resize(24)"))
    return c
"""


BAD = (3, 4, 31)  # of 80 images


def make_images(folder):
    rng = np.random.default_rng(0)
    for split, count in {"train": 80, "validation": 24}.items():
        for i in range(count):
            place = folder / split / "ab"[i % 2] / f"{i:02}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 128 + 127 * (i % 2), (32, 32, 3), np.uint8)).save(place)
            if split == "train" and i in BAD:
                place.write_bytes(b"broken")


class Job:
    """Processes that train one run together."""

    def __init__(self, config, workdir, processes, words=()):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        one = {"JAX_NUM_CPU_DEVICES": "1"}
        job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)} if processes > 1 else {}
        command = [sys.executable, "-c", "from jaxvision.cli import main; main()", "train"]
        self.processes = [
            subprocess.Popen(
                [*command, f"--config={config}", f"--workdir={workdir}", *words],
                env={**os.environ, **one, **job, **({"JAX_PROCESS_ID": str(i)} if processes > 1 else {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for i in range(processes)
        ]

    def running(self):
        return all(process.poll() is None for process in self.processes)

    def kill(self):
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
        for process in self.processes:
            process.communicate()

    def finish(self):
        outputs = [process.communicate(timeout=600)[0] for process in self.processes]
        assert [process.returncode for process in self.processes] == [0] * len(outputs), outputs
        return outputs[0]


def lines_of(workdir):
    return [{k: v for k, v in line.items() if k not in SPEED} for line in read(workdir / "metrics.jsonl")]


def state_of(workdir):
    """The arrays of the last checkpoint; without target, Orbax wants the devices of all processes that wrote it."""
    folder = workdir / "checkpoints" / str(TOTAL) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        tree = reader.metadata(folder).item_metadata.tree
        numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        restored = reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=numpy))
    return {str(path): np.asarray(leaf) for path, leaf in ocp.tree.to_flat_dict(restored).items()}


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kills"), [(1, 24), (2, 16), (4, 10)])
def test_runs_that_are_killed_at_random_moments_equal_the_unbroken(processes, kills, tmp_path, record_property):
    make_images(tmp_path / "data")
    config, whole = tmp_path / "config.py", tmp_path / "whole"
    config.write_text(CONFIG.replace("DATA", str(tmp_path / "data")))
    began = time.monotonic()
    printed = Job(config, whole, processes).finish()
    wall = time.monotonic() - began
    assert "time of this launch" in printed
    assert lines_of(whole)[-2]["bad_records"] == len(BAD)
    launch = json.loads((whole / "run.json").read_text())["launches"][0]["goodput"]
    assert sum(launch["seconds"].values()) == pytest.approx(launch["wall"], abs=0.01)
    assert launch["wall"] <= wall
    assert launch["wall"] > 0.5 * wall  # it cannot see how long the interpreter takes to start and to end

    draw, lost, faults, hung = random.Random(processes), [], [], 0
    while len(lost) < kills:  # as many runs as that takes
        run, before = tmp_path / f"run-{len(lost)}", len(lost)
        try:
            printed = _killed_and_resumed(config, run, processes, draw, lost, kills)
        except subprocess.TimeoutExpired:
            hung += 1
            break
        faults += _differences(run, whole)
        assert not sum(lost[before:]) or json.loads((run / "run.json").read_text())["goodput"]["seconds"]["lost"] > 0
        assert len(lost) == before or "launches" in printed or "is finished" in printed  # killed behind its results
    record_property(
        "promise", f"kill -9: the run equals the unbroken one ({processes} process{'es' * (processes > 1)})"
    )
    record_property("injections", len(lost))
    record_property("lost", sum(steps > 2 * SAVE for steps in lost))
    record_property("hung", hung)
    record_property("wrong", len(faults))
    assert not faults
    assert not hung
    assert max(lost) <= 2 * SAVE, lost  # an interval, and the steps while one was being written


def _killed_and_resumed(config, run, processes, draw, lost, kills):
    """Kills a run until it ends, or there were enough kills; adds the steps behind its latest save to `lost`."""
    while len(lost) < kills:
        before = _bytes(run)
        job = Job(config, run, processes)
        if (
            draw.random() < 0.75
        ):  # in the steps: at any place of the next two and a half intervals, however fast they are
            until = _saved(run) + draw.uniform(0, 2.5 * SAVE)
            while job.running() and (_bytes(run) == before or _reached(run) < until):
                time.sleep(0.02)
            deadline = time.monotonic() + draw.uniform(0, 0.3)
        else:  # at any moment, which is in the start for the most part
            deadline = time.monotonic() + draw.uniform(0, 12)
        while job.running() and time.monotonic() < deadline:
            time.sleep(0.005)
        if not job.running():
            return job.finish()
        job.kill()
        lost.append(max(_reached(run) - _saved(run), 0))
    return Job(config, run, processes).finish()


def _differences(run, whole):
    """What of a run is not as that of the unbroken one."""
    differing = [] if lines_of(run) == lines_of(whole) else ["metrics.jsonl"]
    one, other = state_of(run), state_of(whole)
    differing += sorted(one.keys() ^ other.keys())
    differing += [
        name for name in one.keys() & other.keys() if not np.array_equal(one[name], other[name], equal_nan=True)
    ]
    results = [json.loads((folder / "results.json").read_text())["results"] for folder in (run, whole)]
    differing += [] if results[0] == results[1] else ["results.json"]
    account = json.loads((run / "run.json").read_text())["goodput"]
    return differing + ([] if abs(sum(account["seconds"].values()) / account["wall"] - 1) < 0.02 else ["goodput"])


def _bytes(run):
    path = run / "metrics.jsonl"
    return path.read_bytes() if path.exists() else b""


def _reached(run):
    """The last step that is logged; lines of an earlier launch behind its save stay until the next one drops them."""
    return max([line["step"] for line in lines_of(run)], default=0) if _bytes(run) else 0


def _saved(run):
    return max((int(path.name) for path in (run / "checkpoints").glob("*") if path.name.isdecimal()), default=0)
