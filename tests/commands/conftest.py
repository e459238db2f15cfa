"""A small config on a small `shapes`, and one trained run of it that several tests look at."""

import pytest
from ml_collections import ConfigDict

from jaxvision.commands import train

CONFIG = """
from ml_collections import ConfigDict

def get_config(variant="8"):
    c = ConfigDict()
    c.seed = 0
    sizes = dict(image_size=32, train=80, validation=24, test=8)
    c.data = dict(name="shapes", options=sizes, split="train", batch_size=16)
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="resnet", variant=variant, width=0.25)
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1, momentum=0.9)
    c.train = dict(total="6 steps", log_every="2 steps", checkpoint_every="3 steps", keep=2)
    c.evals = dict(val=dict(name="classify", split="validation", every="4 steps"))
    return c
"""


@pytest.fixture(scope="session", autouse=True)
def data_cache(tmp_path_factory):
    """`shapes` is rendered into a folder of this test session."""
    patch = pytest.MonkeyPatch()
    patch.setenv("JAXVISION_DATA", str(tmp_path_factory.mktemp("data")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def config_file(tmp_path_factory):
    """A config file as a user writes it."""
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def config() -> ConfigDict:
    """The config of that file."""
    scope: dict = {}
    exec(CONFIG, scope)
    return scope["get_config"]()


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_cache):
    """The workdir and the results of a finished run."""
    scope: dict = {}
    exec(CONFIG, scope)
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    return workdir, train.run_train(scope["get_config"](), workdir, quiet=True)


@pytest.fixture
def no_figures(monkeypatch):
    """Figures of runs take a second each; a test of words needs none."""
    from jaxvision.analysis import run_plots

    def draw(what, path, *_, **__):
        for file in [path] if path.suffix == ".svg" else [path.with_suffix(".svg")]:
            file.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')

    monkeypatch.setattr(run_plots, "curves", draw)
    monkeypatch.setattr(run_plots, "final_values", draw)
