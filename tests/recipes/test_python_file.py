"""A config that is written as Python reads as the same config."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision.recipes import python_file

ROOT = Path(__file__).parents[2]


def same(config, tmp_path, **more):
    path = tmp_path / "made.py"
    path.write_text(python_file(config, **{"docstring": "A config.", **more}))
    assert configs.fingerprint(configs.load(str(path))) == configs.fingerprint(config)
    return path.read_text()


@pytest.mark.parametrize(
    "file",
    [
        "configs/quickstart.py",
        "configs/supervised/vit_s16_imagenet2012.py",
        "configs/evaluation/representation.py:cifar10",
    ],
)
def test_configs_of_the_repository(file, tmp_path):
    same(configs.load(str(ROOT / file)), tmp_path)


def test_odd_values(tmp_path):
    config = ConfigDict(
        dict(
            seed=0,
            data=dict(data_dir='/it\'s "here"\\n', classes=None, split="train", examples=1_281_167),
            optimizer=dict(learning_rate=1e-5, rules=(("^a_", True), (".*", 0.5)), one=("x",), none=()),
            evals={"a-b": dict(name="classify", **{"class": 1}), "c": {}},
            own=True,
        )
    )
    text = same(
        config, tmp_path, docstring='Ends in a "quote" and \\ "', reasons={"data.split": "why " * 40, "evals": "e"}
    )
    assert all(len(line) <= 170 for line in text.splitlines())
