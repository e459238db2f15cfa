"""Operations on tokens: which caption of an image is kept, and the control of shuffled captions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxvision import augment
from jaxvision.errors import UserError

B, C, L = 64, 3, 5


def make_batch():
    """Image i has i % 3 + 1 captions; the tokens of caption c of image i are 10 i + c."""
    there = np.arange(C) <= np.arange(B)[:, None] % C
    tokens = np.where(there, 10 * np.arange(B)[:, None] + np.arange(C), 0)
    mask = np.broadcast_to(there[:, :, None], (B, C, L)) & (np.arange(L) < 4)
    tokens = np.broadcast_to(tokens[:, :, None], (B, C, L)).astype(np.int32)
    images = np.random.default_rng(0).integers(0, 256, (B, 4, 4, 3), np.uint8)
    return {"image": images, "label": np.arange(B), "tokens": tokens, "tokens_mask": mask}


def test_pick_caption_draws_among_the_captions_that_are_there():
    pick, batch = jax.jit(augment.make_augmentation("pick_caption")), make_batch()
    draws = []
    for seed in range(40):
        out = pick(jax.random.key(seed), batch)
        tokens = np.asarray(out["tokens"])
        assert tokens.shape == out["tokens_mask"].shape == (B, L)
        np.testing.assert_array_equal(tokens[:, 0] // 10, np.arange(B))
        assert np.asarray(out["tokens_mask"])[:, :4].all()
        draws.append(tokens[:, 0] % 10)
    draws = np.stack(draws)
    for image in range(B):
        assert set(draws[:, image]) == set(range(image % C + 1))
    np.testing.assert_allclose(out["image"], batch["image"] / 255, atol=1e-6)


def test_in_evaluation_it_is_the_first_caption():
    spec = augment.evaluation("pick_caption|shuffle_captions")
    out = augment.make_augmentation(spec)(jax.random.key(3), make_batch())
    np.testing.assert_array_equal(out["tokens"][:, 0], 10 * np.arange(B))
    assert not augment.ops.is_random(spec)
    assert augment.make_augmentation(spec)(jax.random.key(3), {"image": make_batch()["image"]}).keys() == {"image"}


def test_shuffled_captions_are_those_of_the_batch_in_an_order_of_its_own():
    shuffle, batch = jax.jit(augment.make_augmentation("pick_caption('first')|shuffle_captions")), make_batch()
    orders = [np.asarray(shuffle(jax.random.key(seed), batch)["tokens"][:, 0] // 10) for seed in range(2)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(B))
        assert (order == np.arange(B)).mean() < 0.2
    assert (orders[0] != orders[1]).any()
    out = shuffle(jax.random.key(0), batch)
    np.testing.assert_array_equal(out["label"], batch["label"])
    np.testing.assert_array_equal(out["tokens_mask"], np.broadcast_to(np.arange(L) < 4, (B, L)))


def test_a_sharded_batch_gives_the_same(mesh):
    split = NamedSharding(mesh(devices=4), PartitionSpec("data"))
    fn, batch, key = augment.make_augmentation("pick_caption|shuffle_captions"), make_batch(), jax.random.key(0)
    expected = jax.jit(fn)(key, batch)
    got = jax.jit(fn, in_shardings=(None, split), out_shardings=split)(key, jax.device_put(batch, split))
    np.testing.assert_array_equal(got["tokens"], expected["tokens"])


def test_wrong_use():
    batch = make_batch()
    with pytest.raises(UserError, match="unknown augmentation pick_caption: choice of caption 'frist'; did you mean"):
        augment.make_augmentation("pick_caption('frist')")
    with pytest.raises(UserError, match="needs tokens: add 'tokens' and 'tokens_mask' to data.fields"):
        augment.make_augmentation("shuffle_captions")(jax.random.key(0), {"image": batch["image"]})
    one = {**batch, "tokens": jnp.zeros((B, L), int), "tokens_mask": jnp.ones((B, L), bool)}
    with pytest.raises(UserError, match="there is only one caption for each image"):
        augment.make_augmentation("pick_caption")(jax.random.key(0), one)
