"""`jaxvision list`: every part of every registry, found without importing it."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxvision import shipped
from jaxvision.commands import catalog, listing
from jaxvision.errors import UserError
from jaxvision.models.activations import ACTIVATIONS
from jaxvision.registry import PartRegistry

PACKAGE = Path(catalog.__file__).parents[1]
KINDS = {word: kind for word, kind in catalog.kinds().items() if kind.registry}
WORDS = ["models", "configs", "augmentations", "host", "evaluators", "optimizers", "schedules", "sources", "tasks"]


@pytest.mark.parametrize("word", KINDS)
def test_the_names_are_those_of_the_registry(word):
    module, variable = KINDS[word].registry
    registry = getattr(importlib.import_module(module), variable)
    assert registry.kind == KINDS[word].kind
    names = registry if isinstance(registry, PartRegistry) else registry.factories
    taken = set(ACTIVATIONS.factories) if word == "cnn_layers" else set()  # activations are layers, and a kind
    assert [entry.name for entry in catalog.entries(word)] == sorted(set(names) - taken)
    for entry in catalog.entries(word):
        assert getattr(importlib.import_module(entry.module), entry.function) is names[entry.name]


def test_every_registry_of_the_package_is_a_kind():
    pattern = re.compile(r"^\w+ = (?:\w+\.)?(?:Part)?Registry\(", re.MULTILINE)
    assert sum(len(pattern.findall(file.read_text())) for file in PACKAGE.rglob("*.py")) == len(KINDS)


def test_the_kinds_that_people_ask_for_are_there():
    assert {*WORDS, "losses", "variants", "studies", "sweeps", "tokenizers", "launchers"} <= set(catalog.kinds())


@pytest.mark.parametrize("word", catalog.kinds())
def test_every_entry_has_a_line(word):
    entries = catalog.entries(word)
    assert entries
    assert [entry.name for entry in entries if not entry.summary or "\n" in entry.summary] == []


def test_every_variant_is_one_that_its_model_takes():
    from jaxvision import models

    for entry in catalog.entries("variants"):
        model, _, variant = entry.name.partition(":")
        build = models.build_text if model in models.TEXT_NAMES else lambda name, **o: models.build(name, None, **o)
        build(model, variant=variant)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("crop", ["random_crop", "random_resized_crop"]),
        ("RANDOM_CROP", ["random_crop"]),
        ("random_*crop", ["random_crop", "random_resized_crop"]),
        ("[mc]ut*", ["cutmix", "cutout"]),
    ],
)
def test_a_pattern_is_one_of_fnmatch_or_a_part_of_the_name(pattern, names):
    found = [line.partition("\t")[0] for line in listing.run_list("augmentations", pattern).splitlines()]
    assert set(names) <= set(found)
    assert len(found) < 8


@pytest.mark.parametrize("word", ["optimizer", "optimizers", "OPTIMIZERS"])
def test_the_singular_names_a_kind_too(word):
    assert "adamw\t" in listing.run_list(word)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["modells"], "unknown kind 'modells'; did you mean 'models'?"),
        (["models", "resnett"], "no name of the models matches 'resnett'; did you mean 'resnet'?"),
        (["models", "xyz*"], "no name of the models matches 'xyz[*]'.*jaxvision list models"),
    ],
)
def test_what_is_not_there_is_an_error_with_the_nearest(words, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        listing.run_list(*words)


def test_a_terminal_gets_columns_of_its_width_and_a_pipe_whole_lines(monkeypatch):
    whole = listing.run_list("tasks").splitlines()
    assert all(line.count("\t") == 1 for line in whole)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    cut = listing.run_list("tasks").splitlines()
    assert max(map(len, cut)) <= 50
    assert len({re.match(r"\S+\s+", line).end() for line in cut}) == 1


def test_kinds_come_with_their_numbers():
    line = next(line for line in listing.run_list().splitlines() if line.startswith("tasks\t"))
    assert int(line.split()[1]) == len(catalog.entries("tasks"))


def test_a_config_of_the_user_is_listed_before_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.py").write_text('"""Mine."""\ndef get_config():\n    pass\n')
    (tmp_path / "configs" / "broken.py").write_text("def get_config(:\n")
    (tmp_path / "configs" / "helper.py").write_text("x = 1\n")
    found = {entry.name: entry for entry in catalog.entries("configs")}
    assert found["configs/quickstart.py"].summary == "Mine."
    assert "configs/supervised/resnet_cifar10.py" in found
    assert not {"configs/broken.py", "configs/helper.py"} & set(found)


def test_listing_imports_no_jax():
    code = (
        "import sys; from jaxvision.cli import main; main(['jaxvision', 'list', 'models'])\n"
        "assert 'jax' not in sys.modules and 'numpy' not in sys.modules, 'list imports too much'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "vit\t" in done.stdout


def test_a_file_is_found_from_any_folder_and_the_users_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Path(shipped.find("configs/quickstart.py"))
    assert found.is_absolute()
    assert found.is_file()
    assert shipped.find("configs/absent.py") == "configs/absent.py"
    assert shipped.find("configs/../setup.cfg") == "configs/../setup.cfg"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.py").touch()
    assert shipped.find("configs/quickstart.py") == "configs/quickstart.py"


def test_without_the_files_of_the_project_the_error_says_where_they_are(tmp_path, monkeypatch):
    from jaxvision import config as configs

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "root", lambda: None)
    with pytest.raises(UserError, match="no config file 'configs/quickstart.py'.*in its repository: clone it"):
        configs.read("configs/quickstart.py")
