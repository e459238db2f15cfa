"""Whatever a config can name stands in a test of its own part, so a new model or operation cannot come without one."""

import re
from pathlib import Path

import pytest

from jaxvision import augment, evals, launch, losses, models, tasks
from jaxvision.data import sources, text
from jaxvision.data.host_ops import host_ops
from jaxvision.optim import optimizers

HERE = Path(__file__).parent
NAMED = {
    "models": models.NAMES | models.TEXT_NAMES | models.PAIR_NAMES,
    "tasks": tasks.TASKS,
    "evals": evals.EVALUATORS,
    "losses": losses.LOSSES,
    "optim": optimizers.OPTIMIZERS,
    "augment": augment.ops.factories,
    "data": host_ops.factories | text.TOKENIZERS,
    "data/sources": sources.KINDS,
    "launch": launch.LAUNCHERS,
}


@pytest.mark.parametrize(("folder", "name"), [(folder, name) for folder, names in NAMED.items() for name in names])
def test_every_name_has_a_test(folder, name):
    text = "\n".join(path.read_text() for path in sorted((HERE / folder).glob("test_*.py")))
    assert re.search(rf"\b{name}\b", text), f"no test in tests/{folder} mentions {name!r}"
