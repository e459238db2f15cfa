"""Rotation against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxvision.errors import UserError
from jaxvision.tasks import pretext, rotation

IMAGES = jax.random.uniform(jax.random.key(0), (5, 6, 6, 3))


@pytest.fixture
def asked(monkeypatch):
    """`asked(**options)`: the pretext that `rotation.make_rotation` describes, in place of the task."""
    monkeypatch.setattr(pretext, "make_pretext", lambda described, model: described)
    return lambda **options: rotation.make_rotation(model=None, **options)


@pytest.mark.parametrize("angles", [(0, 90, 180, 270), (0, 180), (90, 270), (270, 0, -180)])
def test_every_angle_of_every_image_with_its_answer(asked, angles):
    described = asked(angles=angles)
    parts, beside, answers = jax.device_get(described.ask(jax.random.key(1), IMAGES))
    assert described.num_answers == len(angles)
    for b, image in enumerate(np.asarray(IMAGES)):
        for q in range(len(angles)):
            shown = parts[b, beside[b, q, 0]]
            np.testing.assert_array_equal(shown, np.rot90(image, angles[answers[b, q]] // 90))
        assert sorted(answers[b].tolist()) == list(range(len(angles)))


def test_eight_angles_are_eight_answers(asked):
    described = asked(angles=tuple(range(0, 360, 45)))
    parts, _, answers = jax.eval_shape(described.ask, jax.random.key(1), IMAGES)
    assert (described.num_answers, parts.shape, answers.shape) == (8, (5, 8, 6, 6, 3), (5, 8))


def test_one_angle_for_each_image_all_equally_likely(asked):
    images = jnp.tile(IMAGES, (200, 1, 1, 1))
    parts, beside, answers = jax.device_get(jax.jit(asked(each="one").ask)(jax.random.key(1), images))
    assert parts.shape == (1000, 1, 6, 6, 3)
    assert not beside.any()
    for shown, image, answer in zip(parts[:20, 0], np.asarray(images), answers[:20, 0]):
        np.testing.assert_array_equal(shown, np.rot90(image, answer))
    counts = np.bincount(answers.ravel(), minlength=4)
    assert (np.abs(counts - 250) < 4 * np.sqrt(250 * 0.75)).all()


@pytest.mark.parametrize("degrees", [45, 135, 225, 315])
def test_oblique_angles_interpolate_as_scipy(degrees):
    want = scipy.ndimage.rotate(np.asarray(IMAGES), degrees, axes=(1, 2), reshape=False, order=1, mode="grid-constant")
    np.testing.assert_allclose(rotation.rotate(IMAGES, degrees), want, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(angles=(0,)), "at least two different angles"),
        (dict(angles=(0, 360)), "at least two different angles"),
        (dict(each="some"), "'all' or 'one'"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        rotation.make_rotation(model=None, **options)


def test_images_that_are_not_square_are_refused():
    with pytest.raises(UserError, match="square images, not 4x6"):
        rotation.rotate(IMAGES[:, :4], 90)
