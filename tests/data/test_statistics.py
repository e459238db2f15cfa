"""Statistics of a split against NumPy's on the whole array."""

import numpy as np
import pytest

from jaxvision.data import eval_batches, statistics
from jaxvision.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (37, 6, 4, 3)).astype(np.uint8) // np.array([1, 2, 3], np.uint8)
WHITENING = {"pixel_values", "pixel_vectors"}


def batches(images, size=8):
    """Batches as `eval_batches` gives them: the last one filled up and masked."""
    for start in range(0, len(images), size):
        part = images[start : start + size]
        filling = np.full((size - len(part), *images.shape[1:]), 99, np.uint8)
        yield {"image": np.concatenate([part, filling]), "mask": np.arange(size) < len(part)}


def test_moments_equal_numpy():
    result = statistics.compute_statistics(batches(IMAGES), WHITENING)
    values = IMAGES / 255
    pixels, flat = values.reshape(-1, 3), values.reshape(37, -1)
    np.testing.assert_allclose(result.mean, pixels.mean(0), rtol=1e-13)
    np.testing.assert_allclose(result.std, pixels.std(0), rtol=1e-13)
    np.testing.assert_allclose(result.mean_image, values.mean(0), rtol=1e-13)
    color = result.color_vectors * result.color_values @ result.color_vectors.T
    np.testing.assert_allclose(color, np.cov(pixels.T, bias=True), rtol=1e-11)
    whole = result.pixel_vectors * result.pixel_values @ result.pixel_vectors.T
    np.testing.assert_allclose(whole, np.cov(flat.T, bias=True), atol=1e-14)
    for values in (result.color_values, result.pixel_values):
        assert (np.diff(values) <= 0).all()
    np.testing.assert_allclose(result.pixel_vectors.T @ result.pixel_vectors, np.eye(72), atol=1e-12)


def test_order_and_batches_do_not_matter_to_the_last_bit():
    first = statistics.compute_statistics(batches(IMAGES), WHITENING)
    second = statistics.compute_statistics(batches(np.random.default_rng(1).permutation(IMAGES), size=5), WHITENING)
    for name, a, b in zip(first._fields, first, second):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_small_deviations_about_a_large_mean_are_exact():
    images = np.full((1000, 8, 8, 3), 254, np.uint8)
    images[0, 0, 0] = 255
    n = 64_000
    result = statistics.compute_statistics(batches(images, 100))
    np.testing.assert_allclose(result.std, np.sqrt((n - 1) / n**2) / 255, rtol=1e-12)
    images[0, 0, 0] = 254
    assert (statistics.compute_statistics(batches(images, 100)).std == 0).all()


def test_whitening_is_computed_only_if_asked_for():
    assert statistics.compute_statistics(batches(IMAGES), {"mean", "mean_image"}).pixel_values is None


def test_a_source_is_read_through_the_loader(pictures, photo):
    result = statistics.compute_statistics(eval_batches(pictures, "decode|resize((60, 80))", batch_size=8, threads=2))
    whole = np.stack([photo(i) for i in range(23)]) / 255
    np.testing.assert_allclose(result.mean_image, whole.mean(0), rtol=1e-12)


def test_what_cannot_be_computed_is_named():
    with pytest.raises(UserError, match="no examples"):
        statistics.compute_statistics([])
    with pytest.raises(UserError, match="one size, not 6x4 and 4x4"):
        statistics.compute_statistics([*batches(IMAGES), *batches(IMAGES[:, :4])])
    with pytest.raises(UserError, match="at most 48x48, not 64x64"):
        statistics.compute_statistics(batches(np.zeros((2, 64, 64, 3), np.uint8)), WHITENING)
