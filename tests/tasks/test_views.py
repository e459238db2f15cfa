"""The views of an image as tasks read them from a batch."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.tasks.views import as_examples, by_image, crops_of, views_of


def test_crops_keep_their_image_through_the_passes_of_a_network():
    """Each image has one grey level, and the network returns it with the side of its input."""
    levels = jnp.arange(4.0)[:, None, None, None] * jnp.ones((4, 8, 8, 3))
    op = augment.make_augmentation("multi_crop('resize(8)', 'resize(4)', 2, 3)")
    batch = op(jnp.zeros((2,), jnp.uint32), {"image": levels})
    crops = crops_of("swav", batch, op.fields)
    rows = [jnp.stack([x.mean((1, 2, 3)), jnp.full(len(x), x.shape[1])], 1) for x in map(as_examples, crops)]
    together = by_image(jnp.concatenate(rows), crops)
    assert together.shape == (4, 5, 2)
    np.testing.assert_allclose(together[..., 0], np.arange(4.0)[:, None] * np.ones(5), rtol=1e-6)
    np.testing.assert_array_equal(together[..., 1], [[8, 8, 4, 4, 4]] * 4)


def test_without_small_crops_there_is_one_size():
    fields = {"image": Field("image", (None, None, 3), "float32", views=2)}
    (large,) = crops_of("swav", {"image": jnp.zeros((4, 2, 8, 8, 3))}, fields)
    assert by_image(jnp.zeros((8, 5)), (large,)).shape == (4, 2, 5)


@pytest.mark.parametrize(
    ("shape", "exactly", "message"),
    [
        ((4, 8, 8, 3), None, r"'swav' needs several views of each image, .* 8x8x3: set augment to \"views\(2"),
        ((4, 1, 8, 8, 3), None, "several views"),
        ((4, 3, 8, 8, 3), 2, "needs two views"),
        ((4, 2, 8, 8, 3), 3, "needs 3 views"),
    ],
)
def test_other_numbers_of_views_are_refused(shape, exactly, message):
    fields = {"image": Field("image", (None, None, 3), "float32", views=shape[1] if len(shape) > 4 else 0)}
    with pytest.raises(UserError, match=message):
        views_of("swav", {"image": jnp.zeros(shape)}, fields, exactly)
