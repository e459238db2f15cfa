"""Features of a whole split: its rows, in its order, from any output of a task."""

import json
import os
import socket
import subprocess
import sys
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.data.sources import Info, Source
from jaxvision.data.sources.base import BadExample
from jaxvision.errors import UserError
from jaxvision.evals import dataset, features


class Noise(Source):
    """Random images; the one at `broken` cannot be read."""

    def __init__(self, n, broken=None):
        rng = np.random.default_rng(n)
        self.images = rng.integers(0, 256, (n, 4, 4, 3)).astype(np.uint8)
        self.true = rng.integers(0, 5, n)
        self.broken = broken
        self.info = Info("noise", "train", n, (), 5)

    def __len__(self):
        return len(self.true)

    def __getitem__(self, i):
        if i == self.broken:
            raise BadExample("broken")
        return {"image": self.images[i], "label": int(self.true[i])}


class Scaled(NamedTuple):
    """A task whose outputs are the image itself, in several shapes."""

    def outputs(self, variables, batch):
        images = variables["scale"] * batch["image"]
        return {
            "features": images.reshape(len(images), -1),
            "stages": (images, images[:, ::2]),
            "scale": images[0, 0, 0],
        }


VARIABLES = {"scale": jnp.float32(3.0)}


def open_set(source, mesh, **options):
    return dataset.EvalSet(source, host="decode", augment="", batch_size=16, mesh=mesh, **options)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("n", [5, 16, 37])
def test_every_row_in_the_order_of_the_split(mesh, devices, n):
    source = Noise(n)
    run = features.make_features(task=Scaled(), data=open_set(source, mesh(devices)))
    for _ in range(2):  # the second time from what stayed on the devices
        computed = run(VARIABLES)
        np.testing.assert_allclose(computed.values, 3.0 / 255 * source.images.reshape(n, -1), rtol=1e-5)
        assert computed.values.dtype == np.float32
        np.testing.assert_array_equal(computed.labels, source.true)
        np.testing.assert_array_equal(computed.rows, np.arange(n))


def test_maps_of_a_stage_are_averaged(mesh):
    source = Noise(6)
    computed = features.make_features(task=Scaled(), data=open_set(source, mesh(1)), layer="stages/1")(VARIABLES)
    np.testing.assert_allclose(computed.values, 3.0 / 255 * source.images[:, ::2].mean(axis=(1, 2)), rtol=1e-5)


def test_an_unreadable_image_is_left_out(mesh):
    source = Noise(20, broken=7)
    computed = features.make_features(task=Scaled(), data=open_set(source, mesh(1), max_bad_fraction=0.5))(VARIABLES)
    kept = np.delete(np.arange(20), 7)
    np.testing.assert_array_equal(computed.rows, kept)
    np.testing.assert_array_equal(computed.labels, source.true[kept])
    np.testing.assert_allclose(computed.values, 3.0 / 255 * source.images[kept].reshape(19, -1), rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("feature", "did you mean 'features'.* Choices: features, scale, stages/0, stages/1"),
        ("scale", "not features for each image"),
    ],
)
def test_a_layer_that_holds_no_features(mesh, layer, message):
    with pytest.raises(UserError, match=message):
        features.make_features(task=Scaled(), data=open_set(Noise(5), mesh(1)), layer=layer)(VARIABLES)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (("stages/*",), ("stages/0", "stages/1")),
        (("features", "stages/*", "stages/1"), ("features", "stages/0", "stages/1")),
        (("stages/1", "*es/0"), ("stages/1", "stages/0")),
    ],
)
def test_a_pattern_stands_for_the_layers_that_fit_it(mesh, layers, expected):
    assert features.find_layers(Scaled(), open_set(Noise(5), mesh(1)), VARIABLES, layers) == expected


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("stage/*",), r"unknown layer 'stage/\*'; did you mean 'stages/"),
        (("*",), "'scale' has shape .*, not features for each image"),
        ("stages/*", "layers must be a tuple"),
    ],
)
def test_a_pattern_of_no_use(mesh, layers, message):
    with pytest.raises(UserError, match=message):
        features.find_layers(Scaled(), open_set(Noise(5), mesh(1)), VARIABLES, layers)


PROCESS = """
import json
from jaxvision.parallel import distributed
distributed.initialize()
from jaxvision.evals import features
from jaxvision.parallel.mesh import make_mesh
from test_features import VARIABLES, Noise, Scaled, open_set
found = features.make_features(task=Scaled(), data=open_set(Noise(37), make_mesh()))(VARIABLES)
print(json.dumps([found.values.tolist(), found.labels.tolist(), found.rows.tolist()]))
"""


def test_two_processes_hold_the_same_features(mesh):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_NUM_CPU_DEVICES": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            env={**os.environ, **together, "JAX_PROCESS_ID": str(i), "PYTHONPATH": os.path.dirname(__file__)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        first, second = [p.communicate(timeout=120)[0].splitlines()[-1] for p in processes]
    finally:
        for p in processes:
            p.kill()
    alone = features.make_features(task=Scaled(), data=open_set(Noise(37), mesh(1)))(VARIABLES)
    assert first == second
    for computed, expected in zip(json.loads(first), alone, strict=True):
        np.testing.assert_allclose(computed, expected, rtol=1e-6)
