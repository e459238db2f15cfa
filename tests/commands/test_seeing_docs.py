"""The commands of docs/seeing.md run as they stand there, with a smaller config in place of the quickstart."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from written_runs import write_run

from jaxvision.analysis import run_plots
from jaxvision.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "seeing.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line) for block in BLOCKS for line in block.splitlines()]


def test_the_numbers_of_the_page_are_those_of_the_code():
    assert f"has {run_plots.SMOOTHED_FROM} points or more" in PAGE
    assert f"over {100 * run_plots.SMOOTHING:.0f} % of the curve" in PAGE
    assert f"more than {run_plots.LOG_RATIO:.0f} times" in " ".join(PAGE.split())
    assert f"more than {run_plots.NAMED} curves, the seven runs" in PAGE
    assert len(run_plots.COLOURS) == 7


def run(commands, config_file):
    for command in commands:
        main([word.replace("configs/quickstart.py", str(config_file)) for word in command])
    assert "in 2 rows" in Path("runs/comparison/index.md").read_text()
    assert "4 runs" in Path("runs/comparison2/index.md").read_text()


def test_the_pages_of_the_commands_are_written(trained, config_file, tmp_path, monkeypatch, no_figures):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained[0], tmp_path / "runs" / "quickstart")
    for name, options in {"0": {}, "1": dict(seed=1), "slow": dict(rate=0.01)}.items():
        write_run(tmp_path / "runs" / "seeds" / name, **options)
    run([words for words in COMMANDS if words[1] == "plot" and "--predictions" not in words], config_file)


@pytest.mark.slow
def test_all_commands_run(config_file, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXVISION_PAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    run(COMMANDS, config_file)
    assert Path("runs/quickstart/page.html").is_file()
    assert Path("runs/quickstart/plots/confusion.svg").is_file()
