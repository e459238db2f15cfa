"""The commands of docs/logging.md, in an empty folder, as a new user would run them."""

import re
from pathlib import Path

import pytest

from jaxvision import cli
from jaxvision.errors import UserError
from jaxvision.loggers import LOGGERS, read_entries
from jaxvision.train.metrics import read

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "logging.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line.split() for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
CONFIG = """
from ml_collections import ConfigDict


def get_config():
    c = ConfigDict()
    c.seed = 0
    c.data = dict(name="shapes", split="train", batch_size=16, host="decode")
    c.data.options = dict(image_size=32, train=64, validation=16, test=8)
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="resnet", variant="8", width=0.25)
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1)
    c.train = dict(total="6 steps", log_every="2 steps")
    c.evals = dict(val=dict(name="classify", split="validation", every="3 steps"))
    return c
"""


@pytest.fixture
def folder(own_folder, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("JAXVISION_DATA", str(tmp_path_factory.mktemp("shapes")))
    (own_folder / "config.py").write_text(CONFIG)
    return own_folder


def test_a_profile_changes_no_number(folder, capsys):
    (profile,) = COMMANDS
    cli.main(["jaxvision", "train", "--config=config.py", "--workdir=runs/plain"])
    cli.main(profile)
    printed = capsys.readouterr().out
    assert re.search(r"^profile of the steps 1 to 4, .*steps \d", printed, re.MULTILINE)
    assert len(re.findall(r"^ *\d+\.\d%  +\d", printed, re.MULTILINE)) == 10
    assert "forward ResNet/" in printed
    assert "backward ResNet/" in printed
    trace = re.search(r"^trace: (\S+)", printed, re.MULTILINE)[1]
    assert Path(trace).is_file()
    same = lambda run: [
        {k: v for k, v in line.items() if k not in ("examples_per_second", "data_wait")}
        for line in read(folder / "runs" / run / "metrics.jsonl")
    ]
    assert same("plain") == same("profiled")  # bit for bit


def test_the_table_of_loggers_has_their_options():
    rows = dict(re.findall(r"^\| `(\w+)` \| `pip[^|]*\| ([^|]*) \|", PAGE, re.MULTILINE))
    assert {name: set(re.findall(r"`(\w+)`", options)) for name, options in rows.items()} == {
        name: set(LOGGERS.options(name)) for name in LOGGERS
    }


def test_a_misspelt_option_of_the_example_is_named():
    with pytest.raises(UserError, match=r"unknown config key 'loggers.wandb.projct'; did you mean 'project'\?"):
        read_entries({"wandb": {"projct": "cifar"}})
