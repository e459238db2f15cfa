"""Warps against SciPy's interpolation at coordinates worked out here, and the distribution of their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, optimize

from jaxvision import augment
from jaxvision.augment import affine, warps


def run(spec, images, seed=0):
    return np.asarray(
        jax.jit(augment.make_augmentation(spec))(jax.random.key(seed), {"image": jnp.asarray(images)})["image"]
    )


IMAGE = np.random.default_rng(0).random((13, 10, 3), np.float32)


def scipy_sample(image, row, column, fill):
    """Values at (row, column), where 0 is the middle of the first pixel."""
    channels = [
        ndimage.map_coordinates(image[..., c], [row, column], order=1, mode="grid-constant", cval=fill)
        for c in range(3)
    ]
    return np.stack(channels, -1)


@pytest.mark.parametrize("fill", [0.0, 0.7])
def test_linear_sampling_equals_scipy_inside_and_beyond_the_border(fill):
    row, column = np.random.default_rng(1).uniform(-3, 15, (2, 40, 20))
    got = affine.sample(jnp.asarray(IMAGE), row + 0.5, column + 0.5, fill, "linear")
    np.testing.assert_allclose(got, scipy_sample(IMAGE, row, column, fill), atol=1e-5)


def test_nearest_sampling_takes_the_pixel_that_holds_the_point():
    row, column = np.random.default_rng(1).uniform(-3, 15, (2, 40, 20))
    got = np.asarray(affine.sample(jnp.asarray(IMAGE), row, column, 0.5, "nearest"))
    for i, j in np.ndindex(row.shape):
        y, x = int(np.floor(row[i, j])), int(np.floor(column[i, j]))
        inside = 0 <= y < 13 and 0 <= x < 10
        np.testing.assert_array_equal(got[i, j], IMAGE[y, x] if inside else [0.5] * 3)


@pytest.mark.parametrize("degrees", [0, 90, -90, 180])
def test_right_angles_are_exact(degrees):
    image = IMAGE[:10]
    for method in warps.METHODS:
        got = affine.warp(jnp.asarray(image), affine.affine_matrices(degrees, 10, 10)["rotate"], 0.0, method)
        np.testing.assert_allclose(got, np.rot90(image, degrees // 90), atol=1e-4)


def ramp(h, w):
    """A picture of x and y from the centre, in pixels, and of ones."""
    y, x = np.mgrid[:h, :w] - np.array([(h - 1) / 2, (w - 1) / 2]).reshape(2, 1, 1)
    return np.stack([x, y, np.ones((h, w))], -1).astype(np.float32)


def drawn(spec, b=600, h=24, w=30):
    """The matrix [b, 2, 2] and shift [b, 2] of each warp, output to input, read off warped pictures of coordinates."""
    out = run(spec, np.tile(ramp(h, w), (b, 1, 1, 1)))[:, h // 2 - 2 : h // 2 + 2, w // 2 - 2 : w // 2 + 2]
    assert (out[..., 2] > 0.999).all()
    points = np.stack([*np.meshgrid(np.arange(4) - 1.5, np.arange(4) - 1.5), np.ones((4, 4))], -1).reshape(16, 3)
    solution = np.linalg.lstsq(points, out[..., :2].reshape(b, 16, 2).transpose(1, 0, 2).reshape(16, -1), rcond=None)[0]
    solution = solution.reshape(3, b, 2)
    return solution[:2].transpose(1, 2, 0), solution[2]


def uniform(values, low, high):
    """Whether values fill [low, high] evenly: limits kept, and quarters equally full within 4 standard deviations."""
    counts = np.histogram(values, bins=4, range=(low, high))[0]
    n = len(values)
    within = values.min() >= low - 1e-3 and values.max() <= high + 1e-3
    return within and (abs(counts - n / 4) < 4 * np.sqrt(n * 3 / 16)).all()


def test_rotate_draws_angles_uniformly():
    matrix, shift = drawn("rotate(30)")
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=1e-3)
    np.testing.assert_allclose(shift, 0, atol=1e-3)
    assert uniform(np.rad2deg(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])), -30, 30)


def test_translate_draws_shares_of_the_sides_uniformly():
    matrix, shift = drawn("translate(0.2, 0.1)")
    np.testing.assert_allclose(matrix, np.tile(np.eye(2), (600, 1, 1)), atol=1e-3)
    assert uniform(shift[:, 0], -0.2 * 30, 0.2 * 30)
    assert uniform(shift[:, 1], -0.1 * 24, 0.1 * 24)
    assert abs(np.corrcoef(shift.T)[0, 1]) < 4 / np.sqrt(600)


def test_shear_draws_slopes_uniformly():
    matrix, shift = drawn("shear(0.3, 0.2)")
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=1e-3)
    np.testing.assert_allclose(shift, 0, atol=1e-3)
    assert uniform(-matrix[:, 0, 1], -0.3, 0.3)
    assert uniform(-matrix[:, 1, 0], -0.2, 0.2)


def test_scale_draws_log_uniform_factors():
    matrix, _ = drawn("scale((0.5, 2.0))")
    np.testing.assert_allclose(matrix[:, 0, 0], matrix[:, 1, 1], atol=1e-3)
    assert uniform(-np.log2(matrix[:, 0, 0]), -1, 1)


@pytest.mark.parametrize(
    "spec", ["rotate(60, fill=0.3)", "translate(0.3, 0.3)", "shear(0.4, 0.4)", "scale((0.5, 2.0))"]
)
def test_warp_equals_scipy_with_the_same_draw(spec):
    h, w = 24, 30
    image = np.random.default_rng(2).random((h, w, 3), np.float32)
    matrix, shift = drawn(spec, b=4)  # the same key and batch size draw the same warps
    got = run(spec, np.tile(image, (4, 1, 1, 1)))
    y, x = np.mgrid[:h, :w]
    points = np.stack([x - (w - 1) / 2, y - (h - 1) / 2], -1)
    for i in range(4):
        source = points @ matrix[i].T + shift[i]
        expected = scipy_sample(
            image, source[..., 1] + (h - 1) / 2, source[..., 0] + (w - 1) / 2, 0.3 * ("fill" in spec)
        )
        np.testing.assert_allclose(got[i], expected, atol=2e-3)


def test_positive_angles_turn_counter_clockwise():
    # A bright pixel right of the centre goes up when the image turns counter-clockwise.
    image = np.zeros((9, 9, 3), np.float32)
    image[4, 8] = 1
    turned = affine.warp(jnp.asarray(image), affine.affine_matrices(90.0, 9, 9)["rotate"], 0.0, "linear")
    assert turned[0, 4, 0] > 0.99


@pytest.mark.parametrize(("k1", "k2"), [(0.3, 0.0), (-0.25, 0.0), (0.1, -0.1), (0.0, 0.4)])
def test_lens_distortion_equals_the_brown_conrady_polynomial(k1, k2):
    h, w = 13, 10
    got = warps.bend(jnp.asarray(IMAGE), k1, k2, 0.2)
    expected = np.empty_like(IMAGE)
    for i, j in np.ndindex(h, w):
        y, x = i - (h - 1) / 2, j - (w - 1) / 2
        r = np.hypot(x, y) / np.hypot(h / 2, w / 2)
        factor = 1 + k1 * r**2 + k2 * r**4
        at = np.array([y * factor + (h - 1) / 2]), np.array([x * factor + (w - 1) / 2])
        expected[i, j] = scipy_sample(IMAGE, *at, 0.2)[0]
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_lens_distortion_draws_its_coefficients():
    # On the middle row the input column x' of output column x is x (1 + k1 r^2): one point gives k1.
    h, w, b = 41, 41, 600
    out = run("lens_distortion((-0.2, 0.3))", np.tile(ramp(h, w), (b, 1, 1, 1)))
    x, r = 15, 15 / np.hypot(h / 2, w / 2)
    assert uniform((out[:, 20, 20 + x, 0] / x - 1) / r**2, -0.2, 0.3)


def test_the_steepest_allowed_distortion_does_not_fold():
    k1, k2 = -0.2, -0.0799
    radius = optimize.minimize_scalar(lambda r: 1 + 3 * k1 * r**2 + 5 * k2 * r**4, bounds=(0, 1), method="bounded")
    assert radius.fun > 0
    augment.make_augmentation(f"lens_distortion(({k1}, 0.0), ({k2}, 0.0))")


@pytest.mark.parametrize(
    "op", ["rotate(90", "translate(0.5, 0.5", "shear(0.5, 0.5", "scale((0.5, 0.6)", "lens_distortion((1.0, 1.0)"]
)
def test_what_moves_into_view_is_the_fill(op):
    out = run(f"{op}, fill=(0.25, 0.5, 0.75), method='nearest')", np.ones((6, 16, 12, 3), np.float32))
    new = (out != 1).any(-1)
    assert new.any()
    np.testing.assert_allclose(out[new], np.tile([0.25, 0.5, 0.75], (new.sum(), 1)))


def test_share_of_images_warped():
    changed = (run("rotate(90, p=0.3)", np.tile(IMAGE, (1000, 1, 1, 1))) != IMAGE).any((1, 2, 3))
    assert abs(changed.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 1000)
