"""The commands of docs/imagenet.md, run on archives of the same structure with a few images; and its numbers."""

import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from jaxvision import cli, durations
from jaxvision import config as configs
from jaxvision.data.sources import open_source

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "imagenet.md").read_text()
SERVER = (ROOT / "docs" / "one_server.md").read_text()
SHELL = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
SORT = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
CLASSES = ("n01440764", "n01443537")
# Small enough for a test, in place of what the page trains.
TINY = (
    "--config.data.host='decode|random_resized_crop(32)' --config.model.variant=mu/16 --config.data.classes=2 "
    "--config.data.batch_size=8 --config.train.precision=float32 "
    "--config.train.total='6 steps' --config.optimizer.warmup='1 step' --config.train.checkpoint_every='2 steps'"
)


def jpeg(number):
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def tar(files, mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The three files of ImageNet-2012 with two classes, 200 training and 4 validation images."""
    folder = tmp_path_factory.mktemp("archives")
    train = {
        f"{name}.tar": tar({f"{name}_{i}.JPEG": jpeg(100 * k + i) for i in range(100)})
        for k, name in enumerate(CLASSES)
    }
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar(train))
    images = {f"ILSVRC2012_val_{i:08d}.JPEG": jpeg(1000 + i) for i in range(1, 5)}
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(images))
    # The numbers of the development kit are in another order than the names.
    synsets = np.array([(1, CLASSES[1]), (2, CLASSES[0])], dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")])
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": synsets})
    kit = "ILSVRC2012_devkit_t12/data"
    text = {f"{kit}/meta.mat": meta.getvalue(), f"{kit}/ILSVRC2012_validation_ground_truth.txt": b"1\n2\n2\n1\n"}
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(tar(text, "w:gz"))
    return folder


def run(words, folder, archives, data):
    """Runs lines of the page in bash, with small networks in place of its own."""
    words = words.replace("ARCHIVES=/archives DATA=/data ", f"ARCHIVES='{archives}' DATA='{data}' ")
    lines = f"""
set -e
export ARCHIVES='{archives}' DATA='{data}'
CONFIG=configs/supervised/vit_s16_imagenet2012.py RUN="--config.data.data_dir=$DATA/imagenet256"
jaxvision() {{
    case $1 in
        train|inspect) '{sys.executable}' -m jaxvision "$@" {TINY} || test $? -eq 85;;  # stopped, as asked
        *) '{sys.executable}' -m jaxvision "$@";;
    esac
}}
{words}"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def unpacked(archives, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    run(SHELL[0], data, archives, data)
    (data / "sort_validation.py").write_text(SORT)
    run(f"'{sys.executable}' sort_validation.py $DATA", data, archives, data)
    return data


def test_from_the_archives_to_folders(unpacked, archives):
    counts = run(SHELL[1], unpacked, archives, unpacked).split()
    assert counts == ["200", "4"]
    validation = open_source("folder", "validation", data_dir=str(unpacked / "imagenet2012"))
    assert validation.info.classes == CLASSES
    labels = {Path(validation.describe(i)).name[-6]: int(validation[i]["label"]) for i in range(4)}
    assert labels == {"1": 1, "2": 0, "3": 0, "4": 1}


def test_every_command_of_the_page_is_one_that_the_tests_know():
    commands = [line.split()[1] for block in SHELL for line in block.splitlines() if line.startswith("jaxvision")]
    assert set(commands) == {"data", "inspect", "train", "verify", "evaluate", "study"}


def test_the_warm_up_of_each_recipe_is_that_of_its_config():
    said = " ".join(PAGE.split())
    for name, words in {
        "vit_s16_imagenet2012.py": "10,000 steps of the ViT-S, {epochs:.1f} of its {total}",
        "vit_b16_imagenet2012.py:300": "{epochs:.0f} epochs of the ViT-B, {steps:,} steps",
        "resnet50_imagenet2012.py:modern": "{epochs:.0f} epochs of the ResNet, {steps:,} steps",
    }.items():
        config = configs.load(f"{ROOT}/configs/supervised/{name}")
        data = dict(batch_size=config.data.batch_size, examples=config.data.examples)
        steps = durations.steps(config.optimizer.warmup, **data)
        epochs = steps * data["batch_size"] / data["examples"]
        assert words.format(epochs=epochs, total=config.train.total, steps=steps) in said


@pytest.mark.slow
def test_from_the_folders_to_a_trained_network(unpacked, archives):
    (unpacked / "configs").symlink_to(ROOT / "configs")
    for block in SHELL[2:]:
        if "jaxvision study" in block:  # its models are large
            continue
        small = block.replace("stop_after=200", "stop_after=2").replace("stop_after=220", "stop_after=4")
        small = small.replace("--pages=pages", "--nocompile")  # drawing every operation takes a minute
        run(small, unpacked, archives, unpacked)
    assert (unpacked / "imagenet256" / "imagenet2012").is_dir()
    assert (unpacked / "runs" / "vit_s16" / "results.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vit_s16_imagenet2012.py", "vit_b16_imagenet2012.py:300", "resnet50_imagenet2012.py:modern"]
)
def test_the_numbers_of_the_pages_are_those_of_inspect(name, capsys):
    """Hours and images a second in the tables of both pages, and the table that the page on ImageNet shows."""
    words = [f"--config={ROOT}/configs/supervised/{name}", "--devices=8", "--nocompile"]
    cli.main(["jaxvision", "inspect", *words])
    out = capsys.readouterr().out
    rows = {cells[0]: cells for line in out.splitlines() if (cells := re.split(r"\s*│\s*", line)[1:-1])[:1]}
    hours = next(line for line in PAGE.splitlines() if line.startswith("| `") and f"/{name}`" in line)
    cells = [cell.strip() for cell in hours.split("|")[2:-2]]
    assert cells == [rows[f"8 {kind}"][-1] for kind in ("A100", "H100", "v4", "v5e", "v6e")]
    speeds = next(line for line in SERVER.splitlines() if line.startswith(f"| `{name}`") and "%" in line)
    assert [cell.strip() for cell in speeds.split("|")[2:4]] == [rows[f"8 {kind}"][-2] for kind in ("A100", "H100")]
    if name == "vit_b16_imagenet2012.py:300":
        shown = [line for line in PAGE.splitlines() if re.match(r"│ 8 ", line)]
        assert len(shown) == 7
        assert all(line in out for line in shown)
