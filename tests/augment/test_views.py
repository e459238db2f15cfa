"""Views: their number, independence and order, and what evaluation sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.errors import UserError

IMAGES = np.random.default_rng(0).random((4, 12, 10, 3), np.float32)


def run(spec, images=IMAGES, seed=0):
    return jax.tree.map(
        np.asarray, jax.jit(augment.make_augmentation(spec, 3))(jax.random.key(seed), {"image": jnp.asarray(images)})
    )


def test_views_are_drawn_independently():
    out = run("views(3, 'cutout(4)')", np.tile(IMAGES[:1], (20, 1, 1, 1)))["image"]
    assert out.shape == (20, 3, 12, 10, 3)
    assert len({view.tobytes() for view in out.reshape(-1, 12, 10, 3)}) > 30  # of 120 places


def test_each_view_may_have_a_spec_of_its_own():
    out = run("views(2, ('flip_lr(1.0)|normalize', 'invert'))")["image"]
    np.testing.assert_allclose(out[:, 0], IMAGES[:, :, ::-1] * 2 - 1, atol=1e-6)
    np.testing.assert_allclose(out[:, 1], 1 - IMAGES, atol=1e-6)


@pytest.mark.parametrize(
    "spec", ["normalize", "resize(6)", "flip_lr(1.0)", "gaussian_blur((1.0, 1.0))", "central_crop(8)"]
)
def test_an_operation_after_views_acts_on_each(spec):
    expected = run(spec)["image"]
    out = run(f"views(2, '')|{spec}")["image"]
    for view in range(2):
        np.testing.assert_allclose(out[:, view], expected, atol=1e-5)


def test_multi_crop_makes_large_and_small_views():
    spec = "multi_crop('random_resized_crop(8, (0.4, 1.0))', 'random_resized_crop(4, (0.05, 0.4))', num_local=3)"
    out = run(spec)
    assert out["image"].shape == (4, 2, 8, 8, 3)
    assert out["local_image"].shape == (4, 3, 4, 4, 3)
    assert len({view.tobytes() for view in out["local_image"].reshape(-1, 4, 4, 3)}) == 12


def test_multi_crop_applies_one_spec_to_each_global_view():
    out = run("multi_crop(('invert', 'flip_ud(1.0)'), 'resize(4)', num_local=1)")
    np.testing.assert_allclose(out["image"], np.stack([1 - IMAGES, IMAGES[:, ::-1]], 1), atol=1e-6)
    np.testing.assert_allclose(out["local_image"][:, 0], run("resize(4)")["image"], atol=1e-6)


def test_ten_crop_is_corners_middle_and_their_mirror_images():
    out = run("ten_crop((8, 6))")["image"]
    slices = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    five = np.stack([IMAGES[:, i : i + 8, j : j + 6] for i, j in slices], 1)
    np.testing.assert_array_equal(out[:, :5], five)
    np.testing.assert_array_equal(out[:, 5:], five[:, :, :, ::-1])
    np.testing.assert_array_equal(run("five_crop((8, 6))")["image"], five)


def test_views_of_views_share_one_axis():
    out = run("flip_both|five_crop(8)")["image"]
    assert out.shape == (4, 10, 8, 8, 3)
    np.testing.assert_array_equal(out[:, 5], IMAGES[:, :8, ::-1][:, :, :8])
    np.testing.assert_array_equal(run("views(2, 'flip_both')")["image"][:, 3], IMAGES[:, :, ::-1])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("views(2, 'random_resized_crop(8)|flip_lr')|normalize", "resize(8, 'linear')|normalize"),
        ("views(2, ('random_crop(8)|cutout(2)', 'resize(8)'))", "central_crop(8)"),
        ("multi_crop('random_resized_crop(8)|normalize', 'random_resized_crop(4)')", "resize(8, 'linear')|normalize"),
        ("ten_crop(8)|normalize", "ten_crop(8)|normalize"),
        ("flip_both", "flip_both"),
    ],
)
def test_evaluation_follows_the_first_view_without_an_axis_of_views(spec, expected):
    assert augment.evaluation(spec) == expected
    assert not augment.ops.is_random(expected)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("views(0, 'flip_lr')", r"views: n must be a whole number in \[1, 64\], not 0"),
        ("views(2, 'flip_rl')", "unknown augmentation 'flip_rl'; did you mean 'flip_lr'"),
        ("views(2, 'views(2, \"cutout(0)\")')", "cutout: size must be a whole number of at least 1"),
        ("views(2, ('flip_lr',))", "views: with n=2 it needs a spec or a tuple of 2 specs"),
        ("views(2, 3)", "views: with n=2 it needs a spec or a tuple of 2 specs"),
        ("views(2, 'flip_lr|mixup(0.2)')", r"views: 'mixup\(0.2\)' mixes labels.*put it after views"),
        ("multi_crop('cutmix(1.0)', 'resize(4)')", "multi_crop: .*mixes labels"),
        ("multi_crop('resize(8)', 'resize(4)', num_local=0)", "multi_crop: num_local must be"),
        ("ten_crop(0)", "ten_crop: size must be a positive whole number"),
    ],
)
def test_mistakes_inside_are_errors_when_the_chain_is_built(spec, message):
    with pytest.raises(UserError, match=message):
        augment.make_augmentation(spec, 3)


def test_views_of_different_sizes_are_an_error():
    with pytest.raises(UserError, match="views must have one size, not"):
        run("views(2, ('resize(4)', 'resize(8)'))")


def test_a_crop_larger_than_the_image_names_both_sizes():
    with pytest.raises(UserError, match="five_crop: cannot cut 16x16 out of 12x10"):
        run("ten_crop(16)")
