"""The table of models in docs/models.md is what the code says."""

import importlib.util
import re
from pathlib import Path

import model_table
import pytest
from parity_bounds import BOUNDS, bound

from jaxvision import models
from jaxvision.models.weights.tables import TABLES

TESTS = Path(__file__).parent
COMMAND = "run `python docs/site/model_table.py`"
ROWS = model_table.written(model_table.PAGE.read_text())
# Those that take seconds to trace. `pytest -m slow tests/test_model_table.py` counts them.
LARGE = ("densenet", "efficientnet", "googlenet", "inception", "nasnet", "pnasnet", "senet", "two_towers")
OWN = ("cnn", "identity", "linear")  # no publication


def test_every_model_has_its_row():
    assert [row.split("`")[1] for row in ROWS] == model_table.names(), COMMAND
    lines = model_table.PAGE.read_text().partition(model_table.BEGIN)[2].strip().splitlines()
    assert tuple(lines[: len(model_table.HEAD)]) == model_table.HEAD, COMMAND


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in model_table.names()]
)
def test_the_row_is_that_of_the_code(name):
    written = {row.split("`")[1]: row for row in ROWS}
    assert written.get(name) == model_table.row(name), COMMAND


@pytest.mark.parametrize("name", model_table.names())
def test_the_publication_is_found(name):
    found = model_table.publication(models.NAMES.resolve(name, models.PAIR_NAMES))
    assert bool(found) == (name not in OWN), "name authors and year in a line 'Source:' of the model's docstring"
    source = re.match(r"[A-Z][\w' &-]+(?: et al\.)? \d{4}", found)
    assert name in OWN or source


def test_the_source_of_a_model_goes_before_that_of_its_file():
    assert model_table.publication(models.NAMES["zfnet"]).startswith("Zeiler & Fergus 2014, [1311.2901](https://arxiv")
    assert model_table.publication(models.NAMES["resnet_v2"]).startswith("He et al. 2016, [1603.05027](https://arxiv")


def test_a_page_with_another_table_is_noticed(monkeypatch, tmp_path):
    page = tmp_path / "models.md"
    monkeypatch.setattr(model_table, "PAGE", page)
    monkeypatch.setattr(model_table, "names", lambda: ["lenet", "linear"])
    page.write_text(f"before\n\n{model_table.BEGIN}\n\n{model_table.END}\n\nafter\n")
    assert model_table.main(check=True) == 1
    assert model_table.main(check=False) == 0
    assert model_table.main(check=True) == 0
    text = page.read_text()
    assert text.startswith("before\n\n<!--")
    assert text.endswith("-->\n\nafter\n")
    assert "61,706" in text
    page.write_text(text.replace("61,706", "61,707"))
    assert model_table.main(check=True) == 1
    page.write_text("no table\n")
    with pytest.raises(SystemExit, match="needs the lines"):
        model_table.main(check=True)


def cases_of(file):
    """The pairs (library, our model) in the CASES of a test; the library is timm if the case names none."""
    spec = importlib.util.spec_from_file_location(f"cases_of_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for case in getattr(module, "CASES", {}).values():
        texts = [value for value in case if isinstance(value, str)]
        library = next((text for text in texts if text in ("timm", "torchvision")), "timm")
        yield library, next(text for text in reversed(texts) if text in models.NAMES)


def test_each_bound_is_asserted_by_a_test_and_has_a_reader():
    """A bound without a test would be a claim, and the table would show it."""
    files = [*TESTS.glob("parity/test_*.py"), TESTS / "models" / "test_weights.py"]
    asserted = set()
    for file in files:
        text = file.read_text()
        if "from parity_bounds import" not in text:
            continue
        asserted |= set(cases_of(file))
        for line in text.splitlines():
            if re.search(r"\b(bound|assert_same_logits|parametrize)\(", line):
                asserted |= {pair for pair in re.findall(r'"(\w+)", "(\w+)"', line) if pair[0] in TABLES}
    recorded = {(source, model) for source, numbers in BOUNDS.items() for model in numbers}
    assert recorded == {pair for pair in asserted if pair[1] in models.NAMES or pair[1] in models.PAIR_NAMES}
    assert {pair for pair in recorded if pair[1] not in TABLES[pair[0]]} == set()
    assert all(0 < number < 1e-3 for numbers in BOUNDS.values() for number in numbers.values())


def test_a_pair_without_a_bound_is_refused():
    with pytest.raises(LookupError, match="add a bound for 'linear' with weights of 'timm' to tests/reference/parity"):
        bound("timm", "linear")
