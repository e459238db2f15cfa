"""`jaxvision.train`: a run from Python is the run of the command, also on objects of the program."""

import _thread
import inspect
import json
import os
import signal
import threading
import time

import numpy as np
import pytest

import jaxvision
from jaxvision import config as configs
from jaxvision.commands import train as command
from jaxvision.errors import UserError
from jaxvision.train.watch import Preempted

LABELS = np.arange(64) % 2
PICTURES = (np.random.default_rng(0).integers(0, 128, (64, 16, 16, 3)) + 127 * LABELS[:, None, None, None]).astype(
    np.uint8
)
SPLITS = dict(train=dict(image=PICTURES[:48], label=LABELS[:48]), validation=(PICTURES[48:], LABELS[48:]))


def curves(run):
    """The lines of metrics without what depends on time."""
    return [{k: v for k, v in line.items() if "second" not in k and k != "data_wait"} for line in run.metrics]


def test_it_is_the_run_of_the_command(config, trained, tmp_path):
    run = jaxvision.train(config, tmp_path / "a", quiet=True)
    assert run.results == trained[1]
    assert run.finished
    assert run.step == 6
    assert run.curve("val/top1")[0].tolist() == [4, 6]
    assert len(run.model.classes) == 10
    assert "val/top1" in repr(run)
    again = jaxvision.train(config, tmp_path / "a", quiet=True)  # a finished run is not trained again
    assert again.results == run.results
    with pytest.raises(UserError, match="has no metric 'los'; it has .*loss"):
        run.curve("los")


def test_a_file_a_dict_and_changes(config, config_file, tmp_path):
    changes = {"train.total": "2 steps", "train.log_every": "1 steps"}
    of_file = jaxvision.train(config_file, tmp_path / "a", changes=changes, quiet=True)
    of_dict = jaxvision.train(config.to_dict(), tmp_path / "b", changes=changes, quiet=True)
    assert curves(of_file) == curves(of_dict)
    assert of_file.config.train.total == "2 steps"


@pytest.mark.parametrize("form", ["arrays", "examples"])
def test_objects_train_stop_and_resume_bit_for_bit(config, tmp_path, form):
    data = SPLITS if form == "arrays" else {name: as_examples(one) for name, one in SPLITS.items()}
    go = lambda folder, **more: jaxvision.train(config, tmp_path / folder, data=data, classes=2, quiet=True, **more)
    whole = go("whole")
    assert not go("parts", stop_after=3).finished
    parts = go("parts")
    assert curves(parts) == curves(whole)
    assert parts.results == whole.results
    assert parts.results["val/examples"] == 16
    assert parts.model(PICTURES[:2]).classes == ("0", "1")
    stored = json.loads((tmp_path / "whole/config.json").read_text())["data"]
    assert stored["name"] == "python"
    assert "48 examples" in stored["options"]["splits"]["train"]


def as_examples(split):
    images, labels = split.values() if isinstance(split, dict) else split
    return [(image, int(label)) for image, label in zip(images, labels)]


def test_other_objects_are_another_run(config, tmp_path):
    jaxvision.train(config, tmp_path / "a", data=SPLITS, stop_after=2, quiet=True)
    other = dict(SPLITS, train=(PICTURES[:48], LABELS[:48][::-1]))
    with pytest.raises(UserError, match=r"(?s)another config.*data.options.splits.train: 'arrays, 48 examples"):
        jaxvision.train(config, tmp_path / "a", data=other, quiet=True)
    with pytest.raises(UserError, match="objects of a Python program"):
        command.run_train(configs.load(str(tmp_path / "a/config.json")), tmp_path / "a", quiet=True)


def test_an_interrupt_saves_and_says_how_to_go_on(config, tmp_path):
    changes = {"train.total": "100_000 steps", "evals": {}}

    def interrupt():
        while not jaxvision.Run(tmp_path / "a").metrics:
            time.sleep(0.05)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(
        KeyboardInterrupt, match=r"the state is saved.*jaxvision.train\(config, '.*a', ...\) with the same"
    ):
        jaxvision.train(config, tmp_path / "a", changes=changes, quiet=True)
    thread.join()
    run = jaxvision.Run(tmp_path / "a")
    assert 0 < run.step < 100_000
    assert not run.finished
    step = run.step
    assert jaxvision.train(config, tmp_path / "a", changes=changes, stop_after=step + 1, quiet=True).step == step + 1


@pytest.mark.parametrize(("name", "error"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", Preempted)])
@pytest.mark.parametrize("place", ["_read", "command.run_train"])
def test_a_signal_before_the_first_step_says_what_it_was(config, tmp_path, monkeypatch, name, error, place):
    def stop(*arguments, **options):
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(5)

    monkeypatch.setattr(f"jaxvision.run.{place}", stop)
    with pytest.raises(error, match="stopped before there was anything to save: call jaxvision.train again"):
        jaxvision.train(config, tmp_path / "a", quiet=True)


def test_a_run_without_a_folder_gets_one(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [jaxvision.train(config, data=SPLITS, stop_after=1, quiet=True) for _ in range(2)]
    assert len({run.workdir for run in runs}) == 2
    assert runs[0].workdir.startswith("runs/resnet-")


def test_the_package_of_the_loop_is_the_function():
    from jaxvision.train import loop

    assert jaxvision.train.loop is loop
    assert "stop_after" in inspect.signature(jaxvision.train).parameters


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(classes=3), "classes are those of data=, which is missing"),
        (dict(data=SPLITS["train"]), "cannot read the split 'validation' of the data given to jaxvision.train"),
        (dict(data=[(x, int(y)) for x, y in zip(PICTURES, LABELS)]), "give classes=, their names or their number"),
        (dict(changes={"train.totl": 3}), "no key 'train.totl'"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(config, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        jaxvision.train(config, tmp_path / "a", quiet=True, **arguments)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(("config", "message"), [(7, "config is a int"), ({"seed": 1}, "no section 'data'")])
def test_what_is_no_config_is_named(tmp_path, config, message):
    with pytest.raises(UserError, match=message):
        jaxvision.train(config, tmp_path / "a")
