"""The section `loggers` of a config: what is refused, and how it is set on the command line."""

import importlib.util

import pytest
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import loggers
from jaxvision.errors import UserError
from jaxvision.literals import Written
from jaxvision.loggers.base import flat, name_of


@pytest.fixture
def installed(monkeypatch):
    """All libraries of loggers seem to be there."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"wanb": {}}, "unknown logger 'wanb'; did you mean 'wandb'"),
        ({"a": {"name": "mlfow"}}, "unknown logger 'mlfow'; did you mean 'mlflow'"),
        ({"wandb": {"projct": "x"}}, "unknown config key 'loggers.wandb.projct'; did you mean 'project'"),
        ({"wandb": {"mode": "ofline"}}, "config key loggers.wandb.mode must be 'online' or 'offline' or None"),
        ({"wandb": {"runname": "x"}}, "did you mean 'run_name'"),
        ({"wandb": {"run_name": 3}}, "config key loggers.wandb.run_name must be a text or None, not 3"),
        ({"mlflow": "sqlite:///a"}, r"loggers.mlflow must be a dict\(...\) of options, not 'sqlite:///a'"),
        ({"mlflow": {"run": "x"}}, "unknown config key 'loggers.mlflow.run'"),
    ],
)
def test_mistakes_are_named(installed, section, message):
    with pytest.raises(UserError, match=message):
        loggers.read_entries(section)


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, library in {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml"}.items():
        line = rf"the logger '{name}' needs {library}, which is not installed: pip install 'jaxvision\[{name}\]'"
        with pytest.raises(UserError, match=line):
            loggers.read_entries({name: {}})


def test_an_entry_may_have_another_name_or_be_off(installed):
    (entry,) = loggers.read_entries({"team": {"name": "wandb", "project": "x", "run_name": "y"}, "wandb": None})
    assert (entry.name, entry.common.name, entry.common.run_name) == ("team", "wandb", "y")
    assert entry.options == {"project": "x"}
    assert entry.background


def test_keys_on_the_command_line():
    config = ConfigDict(dict(seed=0))
    changed = configs.override(config, {"loggers.wandb.project": Written("x"), "loggers.wandb.tags": Written("('a',)")})
    assert changed.loggers.wandb.to_dict() == {"project": "x", "tags": ("a",)}
    assert configs.override(changed, {"loggers.wandb": Written("None")}).loggers.wandb is None
    with pytest.raises(UserError, match=r"no key 'loggers.wandb.projct'; did you mean 'loggers.wandb.project'\?"):
        configs.override(config, {"loggers.wandb.projct": Written("x")})
    with pytest.raises(UserError, match="A new entry needs its name, too: loggers.wanb.name"):
        configs.override(config, {"loggers.wanb.project": Written("x")})


def test_an_own_function_on_the_command_line(own_folder):
    (own_folder / "my_loggers.py").write_text("def hook(*, run, file: str): ...\ndef other(*, file): ...\n")
    changes = {"loggers.mine.name": Written("my_loggers:hook"), "loggers.mine.file": Written("a.txt")}
    config = configs.override(ConfigDict(dict(seed=0)), changes)
    (entry,) = loggers.read_entries(config.loggers)
    assert (entry.options, entry.background) == ({"file": "a.txt"}, False)
    with pytest.raises(UserError, match="has no parameter run, which the program gives to each logger"):
        loggers.read_entries({"mine": {"name": "my_loggers:other", "file": "a"}})


def test_the_name_of_a_run(own_folder):
    assert name_of(own_folder / "runs" / "study" / "a") == "study/a"
    assert name_of(own_folder / "b") == "b"
    assert flat({"a": {"b": {"c": 1}}, "d": {}}) == {"a.b.c": 1, "d": {}}
