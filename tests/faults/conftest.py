"""A tiny run, for faults."""

import shutil
import struct

import pytest
import saved_runs

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    c = ConfigDict()
    c.seed = 0
    sizes = dict(image_size=32, train=80, validation=24, test=8)
    c.data = dict(name="shapes", options=sizes, split="train", batch_size=16)
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="resnet", variant="8", width=0.25)
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1, momentum=0.9)
    c.train = dict(total="60 steps", log_every="1 steps", checkpoint_every="5 steps", keep=2)
    c.evals = dict(val=dict(name="classify", split="validation"))
    return c
"""


@pytest.fixture(scope="session")
def config_text():
    """The text of a config file of a run of seconds, on the embedded data set."""
    return CONFIG


@pytest.fixture
def config(config_text):
    scope: dict = {}
    exec(config_text, scope)
    return scope["get_config"]()


@pytest.fixture(scope="session")
def events():
    """Reads the events of a TensorBoard folder."""

    def read(board):
        """`{(name, step): value}` of a TensorBoard folder, file after file as TensorBoard reads them, and how often."""
        from tensorboardX.proto.event_pb2 import Event

        lines, count = {}, 0
        for file in sorted(board.iterdir()):
            data, at = file.read_bytes(), 0
            while at < len(data):
                (size,) = struct.unpack_from("<Q", data, at)
                event = Event.FromString(data[at + 12 : at + 12 + size])
                at += size + 16
                for value in event.summary.value:
                    lines[value.tag, event.step] = value.simple_value
                    count += 1
        return lines, count

    return read


@pytest.fixture(scope="session")
def saved_run(tmp_path_factory):
    """A workdir with the steps 3 and 6, which no test may change."""
    workdir = tmp_path_factory.mktemp("faults") / "run"
    saved_runs.save_run(workdir)
    return workdir


@pytest.fixture
def run(saved_run, tmp_path):
    """A copy of `saved_run`."""
    return shutil.copytree(saved_run, tmp_path / "run")
