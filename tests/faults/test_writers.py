"""Trainings in processes of their own that are in the way of one another, of a full disk, or differ."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxvision.train import metrics


def training(file, workdir, *words, **variables):
    command = [sys.executable, "-c", "from jaxvision.cli import main; main()", "train", f"--config={file}"]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}", *words],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def numbers(workdir):
    lines = metrics.read(workdir / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in ("examples_per_second", "data_wait")} for line in lines]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, config_text):
    """A config file, and the run of it that nothing disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    file = folder / "tiny.py"
    file.write_text(config_text)
    patch = pytest.MonkeyPatch()
    patch.setenv("JAXVISION_DATA", str(folder / "data"))
    process = training(file, folder / "run")
    assert process.wait(600) == 0, process.stderr.read()
    yield file, folder / "run"
    patch.undo()


@pytest.mark.slow
def test_two_trainings_at_once_are_one_writer(unbroken, tmp_path, record_property):
    file, _run = unbroken
    rounds, wrong, hung = 5, 0, 0
    for number in range(rounds):
        workdir, words = tmp_path / str(number), ["--config.train.total=200 steps"]
        both = [training(file, workdir, *words) for _ in range(2)]
        try:
            ended = [p.communicate(timeout=600) for p in both]
        except subprocess.TimeoutExpired:
            hung += 1
            continue
        finally:
            for process in both:
                process.kill()
        codes = sorted(p.returncode for p in both)
        refused = [err for p, (_, err) in zip(both, ended) if p.returncode == 2]
        # The second one waits; if the first ends before, it finds the run finished.
        explained = all("cannot write to the workdir" in err and "kill" in err for err in refused)
        steps = [line["step"] for line in numbers(workdir) if "loss" in line]
        wrong += not (codes in ([0, 2], [0, 0]) and explained and steps == list(range(1, 201)))
    record_property("promise", "a workdir has one writer")
    for name, value in {"injections": rounds, "lost": wrong, "hung": hung, "wrong": wrong}.items():
        record_property(name, value)
    assert (wrong, hung) == (0, 0)


@pytest.mark.slow
def test_a_killed_owner_does_not_keep_the_workdir(unbroken, tmp_path, events, record_property):
    file, run = unbroken
    kills, rng = 6, np.random.default_rng(0)
    for _ in range(kills):
        process = training(file, tmp_path / "run")
        until = time.monotonic() + 300
        before = len(numbers(tmp_path / "run"))
        while process.poll() is None and time.monotonic() < until and len(numbers(tmp_path / "run")) <= before:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = training(file, tmp_path / "run")
    _, err = last.communicate(timeout=600)
    assert last.returncode == 0, err
    wrong = numbers(tmp_path / "run") != numbers(run)
    record_property("promise", "a dead owner does not keep the workdir")
    for name, value in {"injections": kills, "lost": 0, "hung": 0, "wrong": int(wrong)}.items():
        record_property(name, value)
    assert not wrong
    board = {key: value for key, value in events(tmp_path / "run" / "tensorboard")[0].items() if key[0] == "loss"}
    lines = {("loss", line["step"]): line["loss"] for line in numbers(run) if "loss" in line}
    assert board == pytest.approx(lines)


@pytest.mark.slow
def test_processes_that_see_other_data_write_nothing(tmp_path, config_text, record_property):
    """One picture of the second process is another."""
    from PIL import Image

    sizes = 'options=sizes, split="train"'
    text = config_text.replace('name="shapes"', 'name="folder", data_dir="set"').replace(sizes, 'split="train"')
    (tmp_path / "own.py").write_text(text.replace('split="validation"', 'split="train"'))
    for place, color in (("here", 0), ("there", 9)):
        for kind in range(4):
            folder = tmp_path / place / "set" / "train" / f"kind{kind}"
            folder.mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (32, 32), (color * (kind == i == 0), i, kind)).save(folder / f"{i}.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_NUM_CPU_DEVICES": "2"}
    words = ["train", f"--config={tmp_path / 'own.py'}", f"--workdir={tmp_path / 'run'}"]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", "from jaxvision.cli import main; main()", *words],
            env={**os.environ, **job, "JAX_PROCESS_ID": str(i)},
            cwd=tmp_path / place,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i, place in enumerate(("here", "there"))
    ]
    ended = [p.communicate(timeout=300)[1] for p in both]
    wrong = [p.returncode for p in both] != [2, 2] or (tmp_path / "run").exists()
    for err in ended:
        wrong |= "differ in the data or the workdir that they see" not in err
        wrong |= re.search(r"data.content: '\w{12}' -> '\w{12}'", err) is None or "data.names" in err
    record_property("promise", "processes that differ write nothing")
    for name, value in {"injections": 1, "lost": 0, "hung": 0, "wrong": int(wrong)}.items():
        record_property(name, value)
    assert not wrong, ended


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of that size; the test is skipped where none may be mounted."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(unbroken, tmp_path, record_property):
    """Whatever meets the full disk first: a checkpoint, the numbers, TensorBoard."""
    file, _run = unbroken
    rounds, lost, wrong = 5, 0, []
    for number in range(rounds):
        disk = tmp_path / str(number)
        with small_disk(disk, "64m"):
            process = training(file, disk / "run", "--config.train.total=2000 steps")
            until = time.monotonic() + 300
            while process.poll() is None and time.monotonic() < until and not (disk / "run/checkpoints/10").is_dir():
                time.sleep(0.02)
            time.sleep(0.15 * number)
            with (disk / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
                while True:
                    filler.write(b"\0" * 2**16)
            _, err = process.communicate(timeout=300)
            lines = [line for line in err.splitlines() if "rendering" not in line]
            lost += not any(step.isdecimal() for step in os.listdir(disk / "run/checkpoints"))
            if process.returncode != 1 or len(lines) != 1 or "No space left on device" not in err:
                wrong.append((process.returncode, err))
            (disk / "filler").unlink()
            again = training(file, disk / "run", "--config.train.total=200 steps", "--resume")
            out, err = again.communicate(timeout=600)
            if again.returncode != 0 or "resuming from step" not in out:
                wrong.append((again.returncode, err))
    record_property("promise", "a full disk is one line, and loses at most one interval")
    for name, value in {"injections": rounds, "lost": lost, "hung": 0, "wrong": len(wrong)}.items():
        record_property(name, value)
    assert not lost, lost
    assert not wrong
