"""Completion: what may stand at the cursor, and the script in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxvision import cli
from jaxvision.cli import completion


def words(line, shell="zsh"):
    """The words that complete a line, without their descriptions."""
    answer = completion.answer([shell, *line.split(" ")], cli.COMMANDS)
    return [row.partition("\t")[0] for row in answer.splitlines()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tr", ["train"]),
        ("train --wor", ["--workdir="]),
        ("train --fre", ["--fresh"]),
        ("train --nof", ["--nofresh"]),
        ("--workdir=x tr", ["train"]),
        ("evaluate --format=js", ["--format=json", "--format=jsonl"]),
        ("evaluate --format js", ["json", "jsonl"]),
        ("convert --head=", ["--head=keep", "--head=drop"]),
        ("predict --top=", []),
        ("train --config=configs/quick", ["--config=configs/quickstart.py"]),
        ("train --config configs/quick", ["configs/quickstart.py"]),
        ("train --config=conf", ["--config=configs/"]),
        ("train --config.train.em", ["--config.train.ema="]),
        ("train --config.opt", ["--config.optimizer."]),
        ("list mod", ["models"]),
        ("list models vi", ["vit"]),
        ("list no_such_kind vi", []),
        ("help optimizers adag", ["adagrad"]),
        ("help random_resized", ["random_resized_crop"]),
        ("help vis", ["visualize"]),
        ("study data_s", ["data_scaling"]),
        ("completion f", ["fish"]),
        ("launch --slurm=nodes=2 -- train --wor", ["--workdir="]),
        ("data ca", ["cache"]),
        ("--ver", ["--version"]),
    ],
)
def test_what_stands_at_the_cursor(line, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # our own configs are offered in every folder
    assert words(line) == expected


def test_files_are_offered_with_folders_and_without_hidden_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("rule.py", "rule.txt", ".rule.py", "my file.py"):
        (tmp_path / name).touch()
    assert words("train --config=ru") == ["--config=rule.py", "--config=runs/"]
    assert words("verify --workdir=ru") == ["--workdir=rule.py", "--workdir=rule.txt", "--workdir=runs/"]
    assert words("train --config=.ru") == ["--config=.rule.py"]
    assert words(f"train --config={tmp_path}/ru") == [f"--config={tmp_path}/rule.py", f"--config={tmp_path}/runs/"]
    for at_cursor, found in (("my", r"my\ file.py"), ('"my', "my file.py"), ("'my", "my file.py")):
        line = f"jaxvision train --config={at_cursor}"
        assert completion.answer(["bash", line, at_cursor], cli.COMMANDS) == found
    (tmp_path / "a$b 'c.py").touch()
    line = 'jaxvision train --config="a'
    assert completion.answer(["bash", line, '"a'], cli.COMMANDS) == r"a\$b 'c.py"


def test_bash_gets_what_follows_its_last_break():
    def answer(line, at_cursor):
        return completion.answer(["bash", line, at_cursor], cli.COMMANDS).splitlines()

    assert answer("jaxvision evaluate --format=js", "js") == ["json", "jsonl"]
    assert answer("jaxvision evaluate --format=", "=") == ["table", "json", "jsonl", "csv"]
    assert answer("jaxvision evaluate --wor", "--wor") == ["--workdir="]
    assert {"augmentations", "models"} <= set(answer("jaxvision list ", ""))
    assert answer("jaxvision train --config='conf", "'conf") == ["configs/"]


def test_no_answer_imports_jax():
    code = (
        "import sys; from jaxvision.cli import main\n"
        "for line in (['help', ''], ['list', 'models', ''], ['train', '--config='], ['train', '--config.train.']):\n"
        "    main(['jaxvision', '__complete', 'fish', *line])\n"
        "assert not {'jax', 'numpy', 'optuna'} & set(sys.modules), 'completion imports too much'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "vit\t" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_reads(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    file = tmp_path / "script"
    file.write_text(completion.script(shell))
    done = subprocess.run([shell, "-n", file], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_real_bash(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    program = tmp_path / "jaxvision"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m jaxvision "$@"\n')
    program.chmod(0o755)
    script = completion.script("bash") + (
        "COMP_LINE='jaxvision train --config=configs/quick' COMP_POINT=40 COMP_CWORD=4\n"
        "COMP_WORDS=(jaxvision train --config = configs/quick)\n"
        "_jaxvision jaxvision; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    root = Path(completion.__file__).parents[2]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(root)}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout == "configs/quickstart.py\n", done.stderr
