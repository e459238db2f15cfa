"""`jaxvision train --data` and `new`, and the commands of docs/your_images.md, on made-up photographs."""

import contextlib
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxvision import config as configs
from jaxvision.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "your_images.md"
TINY = ["--size=32", "--batch=8", "--epochs=1", "--config.model.width=0.125"]


@pytest.fixture
def place(own_folder):
    """A folder with photographs of two classes, in which commands run."""
    for folder, count in (("photos/cat", 8), ("photos/white dog", 8), ("new_photos", 2)):
        (own_folder / folder).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng([i, count, len(folder)])
            pixels = rng.integers(0, 120, (40 + i, 50, 3), np.uint8) + np.uint8(100 * folder.endswith("dog"))
            Image.fromarray(pixels).save(own_folder / folder / f"IMG {i}.jpg")
    return own_folder


def run(*words):
    with contextlib.suppress(SystemExit):
        main(["jaxvision", *words])


def refused(capsys, *words):
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["jaxvision", *words])
    assert left.value.code == 2
    return capsys.readouterr().err


def test_images_to_a_run_its_file_and_the_same_run_again(place, capsys):
    first = ["train", "--data=photos", "--model=resnet8", "--workdir=runs/mine", *TINY]
    run(*first)
    out = capsys.readouterr().out
    assert "found: 2 class folders; 16 training images of 2 classes" in out
    assert "checked: 16 images, all can be read" in out
    stored = configs.load("runs/mine/config.json")
    assert configs.fingerprint(configs.load("runs/mine/config.py")) == configs.fingerprint(stored)
    kept = (place / "runs/mine/console.txt").read_text().splitlines()
    assert re.fullmatch(r"--- 2.*: started by .+", kept[0])
    assert set(out.splitlines()[:6]) <= set(kept)
    assert any("val/top1" in line for line in kept)
    assert kept[-1].startswith("finished: runs/mine/")

    run(*first)  # it is finished
    run("train", "--workdir=runs/mine")
    assert capsys.readouterr().out.count("runs/mine is finished (") == 2
    assert "seed: 0 -> 1" in refused(capsys, "train", "--workdir=runs/mine", "--config.seed=1")
    assert "holds no run to resume: give --config" in refused(capsys, "train", "--workdir=runs/none")
    assert not (place / "runs/none").exists()

    run("new", "copy.py", "--from=runs/mine", "--config.seed=3")
    copied = configs.load("copy.py")
    assert configs.differences(stored, copied) == ["seed: 0 -> 3"]
    text = (place / "copy.py").read_text()
    assert "copy.py exists: give another name" in refused(capsys, "new", "copy.py", "--from=runs/mine")
    assert (place / "copy.py").read_text() == text


def test_new_surveys_the_images_as_train_does(place, capsys, caplog):
    (place / "photos" / "notes.txt").write_text("none of the images")
    told = {}
    for words in (["train", "--workdir=runs/mine"], ["new", "mine.py"]):
        run(*words, "--data=photos", "--model=resnet8", *TINY)
        out = capsys.readouterr().out.splitlines()
        survey = [i for i, line in enumerate(out) if line.startswith(("found: ", "checked: "))]
        warnings = [record.getMessage() for record in caplog.records]
        assert [line for line in warnings if "notes.txt" in line] == warnings[:1]  # once, though sets are opened often
        told[words[0]] = (out[survey[0] : survey[-1] + 1], warnings)
        caplog.clear()
    assert len(told["new"][0]) >= 6
    assert told["new"] == told["train"]
    assert not configs.differences(configs.load("runs/mine/config.json"), configs.load("mine.py"))


def test_new_refuses_what_train_refuses(place, capsys):
    for name in ("cat", "white dog"):
        shutil.copytree(place / "photos" / name, place / "split" / "train" / name)
        shutil.copytree(place / "split" / "train" / name, place / "split" / "val" / name)
    shutil.copytree(place / "split" / "val" / "cat", place / "split" / "val" / "fox")
    commands = [
        [*words, "--data=split", "--model=resnet8", *TINY] for words in (["train", "--workdir=x"], ["new", "x.py"])
    ]
    errors = [refused(capsys, *words) for words in commands]
    assert errors[0] == errors[1]
    assert "val/fox has images, but 'fox' is not one of the 2 classes" in errors[0]
    advice = shlex.split(re.search(r"--config\.data\.options\.classes=.*", errors[0])[0])  # as a shell reads it
    run(*commands[1], *advice)
    output = capsys.readouterr().out
    assert "16 training images of 3 classes" in output
    assert "warning: 1 of the 3 classes have no example in train of split: 'fox'" in output
    assert configs.load("x.py").data.options.classes == ("cat", "fox", "white dog")

    for i in range(3):
        (place / "split" / "val" / "cat" / f"broken {i}.jpg").write_bytes(b"\xff\xd8\xff")
    errors = [refused(capsys, *words[:1], words[1].replace("x", "y"), *words[2:], *advice) for words in commands]
    assert errors[0] == errors[1]
    assert "3 of 27 images of split val cannot be read" in errors[0]
    assert not (place / "y").exists()
    assert not (place / "y.py").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--model=resnet18", "--workdir=x"], "--model goes with --data"),
        (["train", "--data=photos", "--workdir=x"], "--model is missing: add --model=resnet18"),
        (["train", "--data=photos", "--model=resnet19", "--workdir=x"], "did you mean 'resnet18'"),
        (["train", "--data=photos", "--model=resnet18", "--size=0", "--workdir=x"], "--size must be"),
        (["train", "--data=photos/cat", "--model=resnet18", "--workdir=x"], "8 images outside of class folders"),
        (["train", "--data=photos", "--model=resnet18", "--workdir=x", "--config.sed=1"], "did you mean 'seed'"),
        (["new", "a.py"], "give --from=CONFIG.py or the folder of a run, or --data=FOLDER --model=NAME"),
        (["new", "a.txt", "--from=photos"], "is to be a Python file"),
        (["new", "--from=photos"], "the name of the new file is missing"),
        (["new", "a.py", "--from=photos"], "holds no run"),
        (["new", "a.py", "--config=x.py"], "write --from=x.py"),
        (["new", "a.py", "--from=x.py", "--size=3"], "--size goes with --data"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(place, capsys, words, message):
    before = sorted(place.rglob("*"))
    error = refused(capsys, *words)
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert sorted(place.rglob("*")) == before


def commands():
    """The commands of the page, in their order."""
    blocks = re.findall(r"(?:^    jaxvision .*\n(?:^     .*\n)*)+", PAGE.read_text(), re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.slow
def test_the_commands_of_the_page(place):
    """As written, except that models and images are tiny, and that weights are those of a run instead of timm's."""
    seen = commands()
    assert len(seen) >= 14
    for words in seen:
        if words[0] == "convert":
            words = ["convert", "runs/mine", "weights/resnet18"]
        small = {"resnet18": "resnet8", "vit-s16": "vit-mu16", "convnext-t": "resnet8"}
        words = [f"--model={small[word[8:]]}" if word.startswith("--model=") else word for word in words]
        if any(word.startswith("--data=") for word in words):
            tiny = [flag for flag in TINY if flag.partition("=")[0] not in {word.partition("=")[0] for word in words}]
            with_width = "--model=resnet8" in words
            words += [flag for flag in tiny if "width" not in flag or with_width]
            words = [
                re.sub(r"--(size|batch|epochs)=\d+", lambda m: next(f for f in TINY if f.startswith(f"--{m[1]}=")), w)
                for w in words
            ]
            if any(word.startswith("--from=") for word in words):
                words = [word for word in words if not word.startswith("--size")]
        run(*words)
    for name in ("mine", "mine2", "small", "finetuned", "again"):
        assert (place / "runs" / name / "results.json").exists()
    assert (place / "predictions.csv").read_text().count("\n") >= 3
