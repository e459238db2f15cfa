"""A command says at once what is wrong with its config, and imports only what it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from jaxvision import config as configs
from jaxvision import experiment
from jaxvision.errors import UserError

QUICKSTART = str(Path(__file__).parents[1] / "configs" / "quickstart.py")


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("optimizer", "name", "adamm", "unknown optimizer 'adamm'; did you mean 'adam'"),
        ("optimizer", "momentun", 0.9, "unknown option of optimizer 'sgd' 'momentun'; did you mean 'momentum'"),
        ("optimizer", "momentum", "much", "optimizer 'sgd': momentum must be"),
        ("model", "name", "resnett", "unknown model 'resnett'; did you mean 'resnet'"),
        ("model", "varriant", "8", "unknown option of model 'resnet' 'varriant'; did you mean 'variant'"),
        ("task", "name", "supervized", "unknown task 'supervized'; did you mean 'supervised'"),
        ("task", "losss", "softmax", "unknown config key 'task.losss'; did you mean 'task.loss'|'loss'"),
        ("data", "host", "decode|resiz(16)", "unknown host operation 'resiz'; did you mean 'resize'"),
        (None, "augment", "flip_rl", "unknown augmentation 'flip_rl'; did you mean 'flip_lr'"),
    ],
)
def test_a_wrong_name_is_told_before_data_is_opened(section, key, value, message):
    config = configs.load(QUICKSTART)
    config.data.name = "a_set_that_is_not_here"
    with config.unlocked(), config.ignore_type():
        (config if section is None else config[section])[key] = value
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        experiment.build(config)


def test_training_imports_no_library_that_only_some_runs_need():
    code = "import sys; from jaxvision.commands import train; print(*(n for n in sys.modules if '.' not in n))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(found.stdout.split())
    assert "jax" in names
    assert not names & {"torch", "boto3", "scipy", "optuna", "matplotlib", "pyarrow"}


@pytest.mark.slow
def test_the_benchmark_runs():
    script = Path(QUICKSTART).parents[1] / "benchmarks" / "startup.py"
    command = [sys.executable, str(script), "--tiny"]
    found = subprocess.run(command, cwd=script.parents[1], capture_output=True, text=True, check=True)
    for row in ("first metrics, cold", "first metrics, warm", "refusal"):
        assert f"| {row} |" in found.stdout
