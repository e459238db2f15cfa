import inspect
from pathlib import Path

import pytest

from jaxvision.data import sources
from jaxvision.errors import UserError


def test_shapes(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVISION_DATA", str(tmp_path))
    source = sources.open_source("shapes", "train[:20]", options={"train": 30, "validation": 4, "test": 4})
    assert (source.info.name, len(source), source.info.num_classes) == ("shapes", 20, 10)
    assert source.labels.tolist() == [source[i]["label"] for i in range(20)]
    assert any(tmp_path.iterdir())


def test_shapes_options(folder):
    with pytest.raises(UserError, match="did you mean 'image_size'"):
        sources.open_source("shapes", "train", options={"imagesize": 16})
    with pytest.raises(UserError, match="unknown option of the data set 'folder' 'image_size'. Choices: classes"):
        sources.open_source("folder", "train", data_dir=str(folder), options={"image_size": 16})


def test_check_classes(folder):
    info = sources.open_source("folder", "train", data_dir=str(folder)).info
    sources.check_classes(info, 2)
    sources.check_classes(info._replace(num_classes=None), 2)
    with pytest.raises(UserError, match=r"the config says 10 classes, but .* train has 2"):
        sources.check_classes(info, 10)


def test_every_kind_and_its_options_are_documented():
    lines = (Path(__file__).parents[3] / "docs" / "data.md").read_text().splitlines()
    lines = lines[lines.index("## Sources") : lines.index("### Image folder")]
    rows = {line.split("|")[1].strip(" `"): line.split("|")[3] for line in lines if line.startswith("| `")}
    for name, kind in sources.KINDS.items():
        options = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
        cell = "one entry per part" if name == "mixture" else ", ".join(f"`{option}`" for option in options)
        assert rows[name].strip() == cell


@pytest.mark.parametrize("name", sorted(set(sources.KINDS) - {"shapes", "mixture", "python"}))
def test_a_folder_that_is_missing_or_empty(name, tmp_path):
    with pytest.raises(UserError, match=f"the data set '{name}' needs data_dir"):
        sources.open_source(name, "train")
    with pytest.raises(UserError, match="no directory"):
        sources.open_source(name, "train", data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=str(tmp_path)):
        sources.open_source(name, "train", data_dir=str(tmp_path))
