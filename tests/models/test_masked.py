"""What the networks of MAE and SimMIM see of an image, and what their decoders make of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.masked import MaskedAutoencoder, MaskedPrediction, masked_patches
from jaxvision.models.patches import patchify, unpatchify
from jaxvision.models.transformer import BlockOptions, Encoder, TransformerBlock

KEPT = np.array([[3, 0, 9, 12], [15, 2, 5, 1]])


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (2, 16, 16, 3))


def vit(**options):
    return models.build("vit", None, variant="mu/4", depth=1, gelu="exact", **options)


@pytest.fixture(scope="module", params=["mae", "simmim"])
def network(request):
    encoder = vit(pool="token")
    return MaskedAutoencoder(encoder, 16, 1, 2) if request.param == "mae" else MaskedPrediction(encoder)


def test_masked_patches_are_not_seen(network, images, random_variables):
    variables = random_variables(network.init, images, KEPT)
    masked = np.asarray(masked_patches(jnp.asarray(KEPT), 16))
    assert masked.sum(axis=1).tolist() == [12, 12]
    assert not masked[np.arange(2)[:, None], KEPT].any()

    @jax.jit
    def run(images):
        predictions = network.apply(variables, images, KEPT)
        return predictions, jax.grad(lambda x: jnp.square(network.apply(variables, x, KEPT)).sum())(images)

    predictions, slope = run(images)
    assert predictions.shape == (2, 16, 48)
    np.testing.assert_array_equal(np.any(patchify(slope, 4).reshape(2, 16, 48), axis=-1), ~masked)
    changed = patchify(images, 4).reshape(2, 16, 48) + 5.0 * masked[..., None]
    np.testing.assert_array_equal(run(unpatchify(changed, (4, 4)))[0], predictions)


def test_the_decoder_is_a_transformer_over_tokens_in_their_places(images, random_variables):
    """Positions have the frequencies of the authors' code, 10,000 ** -(i / (d / 4)), and the class token has none."""
    encoder = vit(pool="token")
    network = MaskedAutoencoder(encoder, 16, 1, 2)
    variables = random_variables(network.init, images, KEPT)
    params = variables["params"]["decoder"]
    _, out = jax.jit(encoder.apply)(variables, images, kept=KEPT)
    d, grid = 16, 4
    want = []
    for image in range(2):
        embedded = lambda x: np.asarray(x) @ params["embedding"]["kernel"] + params["embedding"]["bias"]
        tokens = [params["mask_token"][0, 0]] * 16
        for place, token in zip(KEPT[image], embedded(out["tokens"][image])):
            tokens[place] = token
        for n in range(16):
            y, x = divmod(n, grid)
            waves = [10_000.0 ** -(i / (d // 4)) for i in range(d // 4)]
            position = [f(p * w) for p in (x, y) for f in (np.sin, np.cos) for w in waves]
            tokens[n] = tokens[n] + np.array(position)
        want.append(np.stack([embedded(out["prefix"][image, 0]), *tokens]))
    block = functools.partial(TransformerBlock, BlockOptions(2, 64, gelu="exact"), jnp.float32)
    decoder = Encoder(block, 1, False, "none", jnp.float32)
    apply = jax.jit(decoder.apply, static_argnums=2)
    x, _ = apply({"params": params["encoder"]}, np.stack(want).astype(np.float32), False)
    predictions = x[:, 1:] @ params["prediction"]["kernel"] + params["prediction"]["bias"]
    np.testing.assert_allclose(jax.jit(network.apply)(variables, images, KEPT), predictions, atol=2e-4)


def test_the_encoder_has_the_parameters_of_a_vit(images):
    names = lambda module, *inputs: set(jax.eval_shape(module.init, jax.random.key(0), images, *inputs)["params"])
    plain = names(vit(pool="token"))
    assert names(MaskedAutoencoder(vit(pool="token"), 16, 1, 2), KEPT) == plain | {"decoder"}
    assert names(MaskedPrediction(vit(pool="token")), KEPT) == plain | {"decoder", "mask_token"}
