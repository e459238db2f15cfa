"""The code and the tables of pages for newcomers: what they show runs, and what they name exists."""

import json
import re
from pathlib import Path

import matplotlib
import pytest
from ml_collections import ConfigDict

from jaxvision import augment, evals, models, specs
from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision.commands import export
from jaxvision.config import schema
from jaxvision.data import host_ops
from jaxvision.errors import UserError
from jaxvision.launch import LAUNCHERS
from jaxvision.loggers import LOGGERS
from jaxvision.models.weights import tables
from jaxvision.optim import optimizers
from jaxvision.sweep import searches
from jaxvision.tasks import TASKS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("training", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["parts", "all"])
def test_the_code_of_the_flow_runs(training, monkeypatch, tmp_path, capsys):
    """And prints what the page says that it prints."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JAXVISION_DATA", str(tmp_path))
    scope: dict = {}
    for block in blocks("flow.md"):
        if "workdir" in block and not training:
            scope["experiment"] = experiments.build(scope["config"])
            continue
        exec(block, scope)
        printed = capsys.readouterr().out.splitlines()
        said = re.findall(r"^print\(.*\)(?:  # (.*))?$", block, re.MULTILINE)
        assert len(said) <= len(printed)
        assert [line for line, comment in zip(printed, said) if comment and line != comment] == []


def test_the_code_of_the_questions_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "WORKDIR").mkdir()
    (tmp_path / "WORKDIR" / "metrics.jsonl").write_text('{"step": 1, "loss": 2.3}\n')
    for block in blocks("questions.md"):
        exec(block, {})


def test_the_message_about_a_mistake_is_what_a_user_sees():
    said = re.search(r"^jaxvision: (.*?) \.\.\.$", (DOCS / "journeys.md").read_text(), re.MULTILINE)
    with pytest.raises(UserError, match=re.escape(said[1])):
        configs.load(str(ROOT / "configs" / "quickstart.py"), {"optimizer.lerning_rate": 0.1})


def here():
    """The column of this project in the tables of docs/coming_from.md, span by span."""
    for line in (DOCS / "coming_from.md").read_text().splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            cells = re.split(r"(?<!\\)\|", line)
            for span in re.findall(r"`([^`]+)`", cells[2]):
                yield span.replace(r"\|", "|")


SPANS = list(dict.fromkeys(here()))


def test_the_tables_are_found():
    assert len(SPANS) > 100


@pytest.mark.parametrize("span", SPANS)
def test_what_takes_the_place_of_an_option_exists(span):
    if span.startswith(("jaxvision ", "WORKDIR/", "out[", '"')):
        return
    key, _, value = span.partition("=")
    if re.fullmatch(r"[a-z]+(\.[\w]+)*", key) and key.split(".")[0] in schema.SECTIONS:
        _check_key(key.split("."), value.strip('"'))
    else:
        for call in specs.parse(span):
            known = [registry for registry in (augment.ops, host_ops.host_ops) if call.name in registry.factories]
            assert any(_builds(registry, str(call)) for registry in known), f"no operation takes {call}"


def _builds(registry, call):
    try:
        return bool(registry.build(call))
    except UserError:  # an operation of this name is in both registries, with other arguments
        return False


def _check_key(path, value):
    section, *rest = path
    if not rest:
        return
    if section in schema.ENTRIES and len(rest) == 1:
        assert rest[0] in LOGGERS
        return
    key = rest[-1]
    if section == "evals":
        known = set(schema.section_keys({}, ("evals", "NAME")))
        known |= {name for part in evals.EVALUATORS for name in evals.EVALUATORS.options(part) or ()}
        known |= set(schema.section_keys({}, ("evals", "NAME", *rest[1:-1])) or ())  # of a section in the entry
    elif section in ("model", "task", "optimizer"):
        registry = {"model": models.NAMES, "task": TASKS, "optimizer": optimizers.OPTIMIZERS}[section]
        known = {"name"} | {name for part in registry for name in registry.options(part) or ()}
        known |= set(schema.section_keys({section: {}}, (section,)) or ())
    else:
        known = set(schema.section_keys({section: {}}, (section,)))
    assert key in known, f"{'.'.join(path)} is not a key"
    names = {"model": models.NAMES, "task": TASKS, "optimizer": optimizers.OPTIMIZERS, "evals": evals.EVALUATORS}
    if key == "name" and section in names and value:
        assert value in names[section]


KEYS = [
    (page.name, key)
    for page in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
    for key in dict.fromkeys(re.findall(r"--config\.([\w.]+)=", page.read_text()))
]


def test_keys_of_command_lines_are_found():
    assert len(KEYS) > 40


@pytest.mark.parametrize(("page", "key"), KEYS)
def test_a_key_of_a_command_line_exists(page, key):
    if key not in ("KEY", "optimizer.lerning_rate"):  # which stand for any, and for a mistake
        section, *rest = key.split(".")
        assert section in schema.SECTIONS
        inside = {"data": ("options", "subset"), "optimizer": ("players",), "loggers": ("wandb", "progress")}.get(
            section, ()
        )
        if not (rest and rest[0] in inside):
            _check_key([section, *rest], "")


def ours(row):
    """The cell of this project in a row of docs/comparison.md."""
    (line,) = [line for line in (DOCS / "comparison.md").read_text().splitlines() if line.startswith(f"| {row} |")]
    return line.split("|")[-2].lower()


def test_the_comparison_names_what_there_is():
    """So that a part which is added or taken away changes the page."""
    loggers = {"wandb": "w&b"}
    assert all(loggers.get(name, name) in ours("loggers") for name in LOGGERS)
    searches_said = {"qmc": "quasi-random", "gp": "gaussian process", "cmaes": "cma-es"}
    searches_said["ageing_evolution"] = "ageing evolution"
    assert all(
        searches_said.get(name, name) in ours("search of hyperparameters") for name in searches.registry.factories
    )
    assert all(name in ours("cluster jobs") for name in LAUNCHERS if name != "local")
    small = {"openai_clip": "clip", "pytorch_resnet_cifar10": "", "lenet5": ""}  # files of single networks
    assert all(small.get(name, name.lower()) in ours("pretrained weights by name") for name in tables.TABLES)
    assert {"stablehlo", "onnx"} == set(export.FORMATS) == {word for word in export.FORMATS if word in ours("export")}
    evaluators = {"knn": "k-nn", "fewshot": "few-shot", "class_mean": "means", "linear_probe": "two probes"}
    assert all(name in evals.EVALUATORS and said in ours("k-NN, probes, few-shot") for name, said in evaluators.items())


@pytest.mark.parametrize("index", [0, 1], ids=["timm", "solo-learn"])
def test_the_translated_runs_are_configs(index):
    block = [one for one in blocks("coming_from.md") if one.startswith("c = ConfigDict")][index]
    scope = {"ConfigDict": ConfigDict}
    exec(block, scope)
    config = scope["c"]
    config.data.batch_size = 16  # only shapes are computed
    experiment = experiments.build(config, training_data="ignored")
    assert experiment.total > 1000


def _run_notebook(name, **changes):
    matplotlib.use("agg")
    scope: dict = {}
    for cell in json.loads((DOCS / name).read_text())["cells"]:
        assert not cell.get("outputs"), "the notebook is kept without outputs"
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), scope)
    matplotlib.pyplot.close("all")
    return scope


@pytest.mark.slow
def test_the_notebook_about_clip_runs_and_learns(capsys):
    scope = _run_notebook("probe_clip.ipynb")
    assert scope["zero_shot"]["colour"] > 0.4  # of ten: guessing is 10 %
    assert scope["probes"]["trained"]["colour"] > scope["probes"]["untrained"]["colour"]
    assert scope["agreement"] > 0.4
