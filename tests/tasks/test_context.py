"""Context prediction: the patches lie where the answers say, and the colours give nothing away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.tasks import context, pretext

# Three channels that say where a pixel lies: row, column, and the image.
PLACES = jnp.stack(
    [*map(jnp.asarray, np.mgrid[:40, :48].astype(np.float32)), jnp.zeros((40, 48), jnp.float32)], axis=-1
)[None].repeat(3, axis=0)
DIRECTIONS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]  # row by row


def resnet(k):
    return models.build("resnet", k, variant=8, width=0.25)


@pytest.fixture
def asked(monkeypatch):
    """`asked(**options)`: the pretext that `context.make_context` describes, with patches as they were cut."""
    monkeypatch.setattr(pretext, "make_pretext", lambda described, model, **widths: described)
    monkeypatch.setattr(context, "standardize", lambda patches: patches)
    return lambda **options: context.make_context(model=resnet, **options)


def test_answers_are_directions_from_the_middle(asked):
    described = asked(patch=8 / 40, gap=0.5, jitter=0.125, colors="keep")
    parts, beside, answers = jax.device_get(jax.jit(described.ask)(jax.random.key(0), PLACES))
    assert parts.shape == (3, 9, 8, 8, 3)
    corners = parts[:, :, 0, 0, :2]
    for b in range(3):
        for (i, middle), answer in zip(beside[b], answers[b]):
            off = corners[b, i] - corners[b, middle]
            # The grid's step is 12 pixels, and each of the two patches is off by at most 1.
            assert (np.abs(off - 12 * np.array(DIRECTIONS[answer])) <= 2).all()


def test_patches_are_apart_and_within_the_image():
    corners = np.asarray(context.grid_corners(jax.random.key(0), 500, (40, 48), size=8, gap=4, jitter=1))
    assert corners.min() >= 0
    assert (corners + 8 <= np.array([40, 48])).all()
    rows = corners.reshape(500, 3, 3, 2)
    assert (rows[:, 1:, :, 0] - rows[:, :-1, :, 0]).min() >= 8 + 4 - 2  # a gap of at least 2 is left
    assert (rows[:, :, 1:, 1] - rows[:, :, :-1, 1]).min() >= 8 + 4 - 2
    middle = rows[:, 1, 1]
    assert set(np.unique(middle[:, 1])) == set(range(12 - 1, 12 + 48 - 32 + 2))  # everywhere that it can lie


def test_dropping_leaves_one_channel_and_noise_a_hundredth_of_it():
    patches = jax.random.uniform(jax.random.key(0), (50, 9, 8, 8, 3))
    patches, dropped = np.asarray(patches), np.asarray(jax.jit(context.drop_colors)(jax.random.key(1), patches))
    deviations = dropped.std((2, 3))
    kept = deviations.argmax(-1)
    deviations.sort(axis=-1)
    np.testing.assert_allclose(deviations[..., :2] / deviations[..., 2:], 0.01, rtol=0.5)
    for b, n in [(0, 0), (3, 5), (49, 8)]:
        c = kept[b, n]
        channel = patches[b, n, ..., c]
        np.testing.assert_allclose(dropped[b, n, ..., c], channel - channel.mean(), atol=1e-6)
    assert (np.abs(np.bincount(kept.ravel()) - 150) < 4 * np.sqrt(150 * 2 / 3)).all()


def test_projection_is_the_matrix_of_the_paper():
    """Sec. 3.1: B = I - a'a / (a a'), with a = (-1, 2, -1)."""
    a = np.array([[-1.0, 2.0, -1.0]])
    matrix = np.eye(3) - a.T @ a / (a @ a.T)
    pixels = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(context.project_colors(None, jnp.asarray(pixels)), pixels @ matrix, atol=1e-6)


@pytest.mark.parametrize("colors", list(context.COLORS))
def test_patches_are_scaled_whatever_becomes_of_their_colours(monkeypatch, colors):
    monkeypatch.setattr(pretext, "make_pretext", lambda described, model, **widths: described)
    described = context.make_context(model=resnet, colors=colors)
    images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    parts, *_ = jax.device_get(jax.jit(described.ask)(jax.random.key(1), images))
    np.testing.assert_allclose(parts.mean((2, 3, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(parts.std((2, 3, 4)), 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(patch=0), "task.patch must be a share"),
        (dict(gap=-0.1), "task.gap must be a share"),
        (dict(jitter=2), "task.jitter must be a share"),
        (dict(hidden=0), "task.hidden must be a whole number"),
        (dict(colors="gray"), "unknown value of task.colors 'gray'"),
        (dict(model=lambda k: models.build("vit", k, variant="Ti/4", posemb="learned")), "set model.posemb"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        context.make_context(**{"model": resnet, **options})


def test_a_grid_that_does_not_fit_is_refused():
    task = context.make_context(model=resnet, patch=0.4)
    with pytest.raises(
        UserError, match="a grid of 51x51 pixels, with patches of 13 and gaps of 6, out of images of 32x32"
    ):
        task.init(jax.random.key(0), {"image": jnp.zeros((1, 32, 32, 3))})
