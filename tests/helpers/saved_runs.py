"""A workdir with checkpoints of a few arrays, and the ways to damage them."""

import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import workdir as workdirs
from jaxvision.train import digests, entries
from jaxvision.train.checkpoint import Checkpoints
from jaxvision.train.state import TrainState

CONFIG = dict(seed=0, data=dict(batch_size=4), train=dict(total="9 steps", log_every="3 steps"), evals=None)
CONFIG |= dict(model=dict(name="vit"), task=dict(name="supervised"), optimizer=dict(name="sgd"))
META = {"config": CONFIG, "data": {"examples": 100}, "statistics": {"mean": np.arange(3.0)}}


def state_at(step):
    """A state whose arrays follow from its step."""
    w = jnp.arange(600, dtype=jnp.float32).reshape(20, 30) * step
    return TrainState(jnp.int32(step), {"w": w, "b": jnp.float32(step)}, {}, (w + 1,), None)


def target():
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state_at(0))


def assert_is(state, step):
    jax.tree.map(np.testing.assert_array_equal, state, state_at(step))


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def files_of(place):
    return sorted(p for p in place.rglob("*") if p.is_file())


def save_run(workdir):
    """Makes a workdir with the steps 3 and 6."""
    with Checkpoints(workdir) as checkpoints:
        for step in (3, 6):
            checkpoints.save(state_at(step), META)
    workdirs.write_json(workdir / "config.json", CONFIG)
    launch = {"start_step": 0, "config_fingerprint": configs.fingerprint(ConfigDict(CONFIG))}
    workdirs.write_json(workdir / "run.json", {"launches": [launch]})
    (workdir / "metrics.jsonl").write_text('{"step": 3, "loss": 1.5}\n{"step": 6, "loss": 1.0}\n')


def largest(place):
    return max(files_of(place / "state"), key=lambda p: p.stat().st_size)


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def empty(place):
    shutil.rmtree(place)
    place.mkdir()


DAMAGES = {
    "flipped bit": lambda place: flip(largest(place), 777),
    "truncated": lambda place: os.truncate(largest(place), 100),
    "zeroed": lambda place: largest(place).write_bytes(bytes(largest(place).stat().st_size)),
    "missing": lambda place: largest(place).unlink(),
    "surplus": lambda place: (place / "state" / "d" / "more").write_text("x"),
    "meta is no JSON": lambda place: (place / "meta" / "metadata").write_text("{"),
    "meta is empty": lambda place: (place / "meta" / "metadata").write_text(""),
    "structure is broken": lambda place: flip(place / "state" / "_METADATA", 99),
    "an item is missing": lambda place: shutil.rmtree(place / "meta"),
    "state is missing": lambda place: shutil.rmtree(place / "state"),
    "digests are broken": lambda place: flip(place / digests.NAME, 99),
    "digests are empty": lambda place: (place / digests.NAME).write_text(""),
    "mark is missing": lambda place: (place / entries.COMMITTED).unlink(),
    "folder is empty": empty,
    "another step": lambda place: (shutil.rmtree(place), shutil.copytree(place.parent / "3", place)),
}
