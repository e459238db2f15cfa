"""MLP-Mixer: the block written out, and what moves between tokens."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.mixer import MixerBlock

BLOCK = MixerBlock(tokens_dim=7, channels_dim=9, drop_path=0.0, gelu="tanh", dtype=jnp.float32)


@pytest.fixture(scope="module")
def drawn(random_variables):
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 6, 8)))
    return x, random_variables(functools.partial(BLOCK.init, train=False), x, 1.0)["params"]


def run(params, x):
    return np.asarray(jax.jit(functools.partial(BLOCK.apply, train=False))({"params": params}, x, 1.0))


def test_block_equals_its_formula(drawn):
    """Tolstikhin et al. 2021, eq. 1, with the tokens' MLP acting on columns."""
    x, p = drawn

    def normalise(x, p):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]

    def mlp(x, p):
        y = x @ p["dense_0"]["kernel"] + p["dense_0"]["bias"]
        y = y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3))) / 2
        return y @ p["dense_1"]["kernel"] + p["dense_1"]["bias"]

    u = x + mlp(normalise(x, p["token_norm"]).transpose(0, 2, 1), p["token_mlp"]).transpose(0, 2, 1)
    want = u + mlp(normalise(u, p["channel_norm"]), p["channel_mlp"])
    np.testing.assert_allclose(run(p, x), want, rtol=1e-4, atol=1e-5)


def test_the_tokens_perceptron_alone_carries_information_between_tokens(drawn):
    x, p = drawn
    moved = x.copy()
    moved[:, 0] *= -2
    assert np.abs(run(p, moved) - run(p, x))[:, 1:].max() > 1e-3
    silent = p | {"token_mlp": jax.tree.map(np.zeros_like, p["token_mlp"])}
    np.testing.assert_allclose(run(silent, moved)[:, 1:], run(silent, x)[:, 1:], atol=1e-6)


def test_kernels_start_with_lecuns_deviations(images):
    model = models.build("mixer", 5, variant="S/2", width=128, depth=1, tokens_dim=128, channels_dim=512)
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    block = params["encoder"]["block_00"]
    for mlp, widths in {"token_mlp": (64, 128), "channel_mlp": (128, 512)}.items():
        for i, width in enumerate(widths):
            assert block[mlp][f"dense_{i}"]["kernel"].std() == pytest.approx(width**-0.5, rel=0.05)


def test_scanned_parameters_are_stacked(images):
    model = models.build("mixer", 5, variant="S/4", depth=3, width=32, scan=True, remat="full")
    (_, out), variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), images)
    assert variables["params"]["encoder"]["blocks"]["token_mlp"]["dense_0"]["kernel"].shape == (3, 16, 256)
    assert [x.shape for x in out["stages"]] == [(2, 4, 4, 32)] * 3
