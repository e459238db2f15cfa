"""Losses of image and text against NumPy, in every layout on 1, 2, 4 and 8 devices, in value and gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.image_text import LOSSES, chance_loss
from jaxvision.parallel.collectives import over_batch
from jaxvision.parallel.mesh import shard_batch

SCALE, BIAS = 9.0, -3.0


def pairs(b=16, d=6, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(b, d))
    return image, image + rng.normal(size=(b, d))


def logits(image, text):
    image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
    return SCALE * image @ text.T + BIAS


def naive_softmax(image, text, ids):
    """Pair by pair, in float64; for each, the gradient of the mean loss to the logits."""
    z, b = logits(image, text), len(image)
    losses, gradient = [], np.zeros((b, b))
    for i in range(b):
        others = [j for j in range(b) if j == i or ids[j] != ids[i]]
        of_image, of_text = (np.exp([z[i, j] for j in others]), np.exp([z[j, i] for j in others]))
        losses.append(-0.5 * (np.log(np.exp(z[i, i]) / of_image.sum()) + np.log(np.exp(z[i, i]) / of_text.sum())))
        for place, j in enumerate(others):
            gradient[i, j] += 0.5 * of_image[place] / of_image.sum() / b
            gradient[j, i] += 0.5 * of_text[place] / of_text.sum() / b
        gradient[i, i] -= 1 / b
    return np.array(losses), gradient


def naive_sigmoid(image, text, ids):
    z, b = logits(image, text), len(image)
    losses, gradient = np.zeros(b), np.zeros((b, b))
    for i in range(b):
        for j in range(b):
            if i == j or ids[i] != ids[j]:
                sign = 1 if i == j else -1
                losses[i] -= np.log(1 / (1 + np.exp(-sign * z[i, j])))
                gradient[i, j] = -sign / (1 + np.exp(sign * z[i, j])) / b
    return losses, gradient


NAIVE = {"softmax": naive_softmax, "sigmoid": naive_sigmoid}
LAYOUTS = {
    "dense": dict(chunk=None),
    "chunked": dict(chunk=3),
    "ring": dict(ring=True),
    "ring of chunks": dict(ring=True, chunk=1),
}


def of(loss, layout, devices=None):
    """Value and gradients of the mean loss, jitted."""

    def total(image, text, scale, bias, ids):
        compare = partial(LOSSES[loss], **LAYOUTS[layout])
        value, correct = (compare if devices is None else over_batch(compare, devices))(image, text, scale, bias, ids)
        return value.mean(), (value, correct)

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3), has_aux=True))


def through_cosines(gradient, image, text):
    """From the gradient of the logits to those of embeddings, scale and bias."""
    lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text)]
    x, y = image / lengths[0], text / lengths[1]
    to_x, to_y = SCALE * gradient @ y, SCALE * gradient.T @ x
    tangent = lambda g, unit: g - (g * unit).sum(1, keepdims=True) * unit
    return (
        tangent(to_x, x) / lengths[0],
        tangent(to_y, y) / lengths[1],
        (gradient * (x @ y.T)).sum(),
        gradient.sum(),
    )


# Only a ring takes as many turns as there are devices; without one, 2 and 4 are as 8.
LAID_OUT = [
    pytest.param(layout, devices, marks=[pytest.mark.slow] if devices in (2, 4) and "ring" not in layout else [])
    for layout in LAYOUTS
    for devices in (1, 2, 4, 8)
]


@pytest.mark.parametrize(("layout", "devices"), LAID_OUT)
@pytest.mark.parametrize("loss", LOSSES)
def test_equals_the_naive_loop_in_value_and_gradient(loss, layout, devices, mesh):
    """With distinct texts and with some that are equal and masked: one program for both."""
    image, text = pairs()
    on = mesh(devices=devices)
    compiled = of(loss, layout, on)
    for ids in (np.arange(16), np.arange(16) % 11):
        arrays = [shard_batch(x, on) for x in (image.astype(np.float32), text.astype(np.float32), ids)]
        (_, (value, correct)), gradients = compiled(*arrays[:2], SCALE, BIAS, arrays[2])
        expected, gradient = NAIVE[loss](image, text, ids)
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
        for got, want in zip(gradients, through_cosines(gradient, image, text)):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=2e-5)
        hidden = (ids == ids[:, None]) & ~np.eye(16, dtype=bool)
        best = np.where(hidden, -np.inf, logits(image, text)).argmax(1)
        np.testing.assert_array_equal(correct, best == np.arange(16))


def test_the_loss_of_guessing_is_that_of_equal_embeddings():
    """ln B for the softmax; for the sigmoid, at the bias that says how rare right pairs are."""
    same = jnp.ones((32, 4))
    softmax, correct = jax.jit(LOSSES["softmax"])(same, same, 10.0)
    np.testing.assert_allclose(softmax, chance_loss("softmax", 32), rtol=1e-5)
    np.testing.assert_array_equal(correct, 0)  # a tie is no answer
    sigmoid, _ = jax.jit(LOSSES["sigmoid"])(same, same, 10.0, -10.0 - np.log(31))
    np.testing.assert_allclose(sigmoid, chance_loss("sigmoid", 32), rtol=1e-4)


def test_random_embeddings_of_many_dimensions_have_the_loss_of_guessing():
    image, text = (jax.random.normal(key, (64, 4096)) for key in jax.random.split(jax.random.key(0)))
    loss, _ = jax.jit(LOSSES["softmax"])(image, text, 1.0)
    np.testing.assert_allclose(loss.mean(), np.log(64), rtol=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
def test_bfloat16_embeddings_are_compared_in_float32(loss):
    image, text = (jnp.asarray(x, jnp.bfloat16) for x in pairs())
    exact = LOSSES[loss](image.astype(jnp.float32), text.astype(jnp.float32), 100.0, -10.0)
    for got, want in zip(LOSSES[loss](image, text, 100.0, -10.0), exact):
        assert got.dtype == jnp.float32
        np.testing.assert_array_equal(got, want)


def test_a_ring_gathers_nothing(mesh):
    on = mesh()
    shapes = [shard_batch(x.astype(np.float32), on) for x in pairs(b=64)]
    text = of("softmax", "ring", on).lower(*shapes, SCALE, BIAS, shard_batch(np.arange(64), on)).compile().as_text()
    assert "collective-permute" in text
    assert "all-gather" not in text
    assert "f32[64,6]" not in text


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("loss", LOSSES)
def test_of_equal_texts_none_is_the_most_similar(loss, layout):
    """In every layout alike: the similarities to equal texts are equal in the last bit."""
    image, _ = pairs()
    text = np.repeat(image[::2], 2, axis=0)
    compare = partial(LOSSES[loss], **LAYOUTS[layout])
    _, correct = jax.jit(lambda x, y: compare(x, y, SCALE, BIAS))(image, text)
    np.testing.assert_array_equal(correct, 0)
    _, correct = jax.jit(lambda x, y: compare(x, y, SCALE, BIAS, jnp.arange(16) // 2))(image, text)
    assert correct.sum() >= 8  # with the other of each two masked


@pytest.mark.parametrize("loss", LOSSES)
def test_memory_grows_with_the_batch_in_chunks_and_with_its_square_without(loss):
    def bytes_of(n, chunk):
        total = lambda image, text: LOSSES[loss](image, text, SCALE, BIAS, chunk=chunk)[0].mean()
        rows = jax.ShapeDtypeStruct((n, 32), jnp.float32)
        return jax.jit(jax.grad(total, (0, 1))).lower(rows, rows).compile().memory_analysis().temp_size_in_bytes

    assert bytes_of(8192, 64) / bytes_of(2048, 64) == pytest.approx(4, rel=0.2)
    assert bytes_of(8192, None) / bytes_of(2048, None) == pytest.approx(16, rel=0.2)


@pytest.mark.parametrize("loss", LOSSES)
def test_collapsed_embeddings_have_finite_gradients(loss):
    gradient = jax.jit(jax.grad(lambda image, text: LOSSES[loss](image, text, 100.0)[0].mean(), (0, 1)))
    for x in (jnp.zeros((4, 3)), jnp.ones((4, 3))):
        assert all(np.isfinite(g).all() for g in gradient(x, x))
