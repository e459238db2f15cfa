"""What sets MLPerf Tiny's ResNet-8 apart. Its published weights are tested in test_weights.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import models
from jaxvision.models.mlperf_tiny import MlperfBlock


def test_arrays_are_those_of_the_keras_model():
    """78,186 of them are trained: nine convolutions with biases, seven norms, one dense layer."""
    model = models.build("mlperf_resnet8", 10)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 78_186
    layers = {name: sorted(layer) for name, layer in variables["params"].items() if name.startswith("stage")}
    assert layers == {
        "stage1": ["conv1", "conv2", "norm1", "norm2"],
        "stage2": ["conv1", "conv2", "norm1", "norm2", "shortcut_conv"],
        "stage3": ["conv1", "conv2", "norm1", "norm2", "shortcut_conv"],
    }


def test_a_strided_block_pads_at_the_far_ends_alone(random_variables):
    """TensorFlow's "SAME": the window of output (0, 0) begins at input (0, 0)."""
    block = MlperfBlock(channels=4, stride=2, dtype=jnp.float32)
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 4)).astype(np.float32)
    variables = random_variables(functools.partial(block.init, train=False), x)
    params = variables["params"]
    params["conv2"]["kernel"][:] = 0
    params["conv2"]["kernel"][1, 1] = np.eye(4)
    params["shortcut_conv"]["kernel"][:] = 0

    def norm(y, name):
        statistics = variables["batch_stats"][name]
        scaled = (y - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-3)
        return scaled * params[name]["scale"] + params[name]["bias"]

    kernel = params["conv1"]["kernel"]
    padded = np.pad(x[0], ((0, 1), (0, 1), (0, 0)))
    y = [[np.tensordot(padded[i : i + 3, j : j + 3], kernel, 3) for j in (0, 2, 4)] for i in (0, 2, 4)]
    y = np.maximum(norm(np.array(y) + params["conv1"]["bias"], "norm1"), 0)
    want = np.maximum(norm(y + params["conv2"]["bias"], "norm2") + params["shortcut_conv"]["bias"], 0)
    got = block.apply(variables, x, train=False)[0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
