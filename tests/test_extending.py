"""The files of docs/extending.md are written to an empty folder, and its commands run there, as a new user would."""

import re
from pathlib import Path

import pytest

from jaxvision import cli

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


def write_files(folder):
    for kind, text in BLOCKS:
        if kind == "python" and (name := re.match(r"# (\S+\.py)\n", text)):
            (folder / name[1]).parent.mkdir(exist_ok=True)
            (folder / name[1]).write_text(text)


def test_help_and_pages_name_the_part_that_the_page_builds(own_folder, capsys):
    write_files(own_folder)
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "jaxvision" / "cli" / "about.py"]
    named = {name for page in pages for name in re.findall(r"\bmy_models:\w+", page.read_text())}
    assert named == {"my_models:small"}
    cli.main(["jaxvision", "help", *named])
    output = capsys.readouterr().out
    assert output.startswith("part my_models:small")
    assert "width=16  (a whole number)" in output


def test_the_page_has_all_it_promises():
    assert [command.split()[1] for command in COMMANDS] == ["train", "evaluate", *["train"] * 4, *["study"] * 2]
    files = re.findall(r"^```python\n# (\S+)", PAGE, re.MULTILINE)
    assert {
        "my_models.py",
        "my_losses.py",
        "my_tasks.py",
        "my_evals.py",
        "my_data.py",
        "my_ops.py",
        "my_loggers.py",
    } <= set(files)


QUICK = [command for command in COMMANDS if "colour" in command or "stripes" in command]


@pytest.mark.parametrize("commands", [QUICK, pytest.param(COMMANDS, marks=pytest.mark.slow)], ids=["quick", "all"])
def test_the_commands_of_the_page(commands, own_folder, monkeypatch, tmp_path_factory, capsys):
    monkeypatch.setenv("JAXVISION_DATA", str(tmp_path_factory.mktemp("shapes")))
    write_files(own_folder)
    for command in commands:
        cli.main(command.split())
    output = capsys.readouterr()
    assert "val/error" in output.out
    assert re.fullmatch(
        r"told, step 20: \{'val/loss': .*\}, largest weight \d+\.\d+\n", Path("progress.txt").read_text()
    )
    if commands == COMMANDS:
        assert re.search(r"width 4: \d+\.\d%\nwidth 8: \d+\.\d%", output.out)
        assert f"own code: the config names my_models:small, in {own_folder / 'my_models.py'}\n" in output.err
