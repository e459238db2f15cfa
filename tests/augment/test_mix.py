"""Mixup and cutmix against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.errors import UserError
from jaxvision.specs import Call
from jaxvision.traced import Varied

K = 6


def make_batch(b=6, side=12):
    images = np.random.default_rng(0).random((b, side, side, 3), np.float32)
    return {"image": jnp.asarray(images), "label": jnp.arange(b) % K}


def run(spec, batch, seed=0):
    return jax.tree.map(np.asarray, jax.jit(augment.make_augmentation(spec, K))(jax.random.key(seed), batch))


def previous(x):
    return np.roll(np.asarray(x), 1, axis=0)


def share_of_first(out, batch):
    """The weight of each example's own class; neighbours have different classes here."""
    return out["label"][np.arange(len(batch["label"])), batch["label"]]


@pytest.mark.parametrize("per_example", [False, True])
def test_mixup_blends_images_and_labels_alike(per_example):
    batch = make_batch()
    out = run(f"mixup(1.0, per_example={per_example})", batch)
    lam = share_of_first(out, batch)
    assert len(np.unique(lam)) == (6 if per_example else 1)
    weight = lam[:, None, None, None]
    expected = weight * np.asarray(batch["image"]) + (1 - weight) * previous(batch["image"])
    np.testing.assert_allclose(out["image"], expected, atol=1e-6)
    onehot = np.eye(K)[batch["label"]]
    np.testing.assert_allclose(out["label"], lam[:, None] * onehot + (1 - lam[:, None]) * previous(onehot), atol=1e-6)


@pytest.mark.parametrize("per_example", [False, True])
def test_cutmix_label_share_is_the_pixel_share(per_example):
    batch, fn = make_batch(), jax.jit(augment.make_augmentation(f"cutmix(1.0, per_example={per_example})", K))
    for seed in range(5):
        out = jax.tree.map(np.asarray, fn(jax.random.key(seed), batch))
        unmixed = (out["image"] == np.asarray(batch["image"])).all(-1)
        other = (out["image"] == previous(batch["image"])).all(-1)
        assert (unmixed ^ other).all()
        np.testing.assert_allclose(share_of_first(out, batch), unmixed.mean((1, 2)), atol=1e-6)
        for mask in other:
            assert_is_box(mask)


def assert_is_box(mask):
    rows, columns = mask.any(1), mask.any(0)
    np.testing.assert_array_equal(mask, rows[:, None] & columns[None, :])
    for line in (rows, columns):
        assert (np.diff(np.flatnonzero(line)) == 1).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_lambda_is_beta(alpha):
    batch = {"image": jnp.zeros((4000, 1, 1, 3)), "label": jnp.arange(4000) % K}
    lam = share_of_first(run(f"mixup({alpha}, per_example=True)", batch), batch)
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(lam.mean() - 0.5) < 4 * np.sqrt(variance / 4000)
    assert abs(lam.var() - variance) < 0.01


@pytest.mark.parametrize("op", ["mixup(0)", "cutmix(0)", "mixup_or_cutmix(0, 0)"])
def test_alpha_zero_mixes_nothing(op):
    batch = make_batch()
    out = run(op, batch)
    np.testing.assert_array_equal(out["image"], batch["image"])
    np.testing.assert_array_equal(out["label"], np.eye(K)[batch["label"]])


@pytest.mark.parametrize(("switch", "cut"), [(0.0, False), (1.0, True)])
def test_switch_chooses_between_mixup_and_cutmix(switch, cut):
    batch = make_batch()
    out = run(f"mixup_or_cutmix(1.0, 1.0, {switch})", batch, seed=3)
    unmixed = out["image"] == np.asarray(batch["image"])
    assert unmixed.any() == cut


def test_switch_share():
    batch, fn = make_batch(), jax.jit(augment.make_augmentation("mixup_or_cutmix(1.0, 1.0, 0.5)", K))
    images = jax.vmap(lambda key: fn(key, batch)["image"])(jax.random.split(jax.random.key(0), 400))
    pasted = ((images == batch["image"]) | (images == jnp.roll(batch["image"], 1, axis=0))).all(axis=(1, 2, 3, 4))
    assert abs(float(pasted.mean()) - 0.5) < 4 * 0.5 / np.sqrt(400)


def test_soft_labels_are_mixed_as_they_are():
    batch = make_batch()
    soft = jnp.full((6, K), 1 / K)
    np.testing.assert_allclose(run("mixup(1.0)", {**batch, "label": soft})["label"], soft, atol=1e-6)


@pytest.mark.parametrize("op", ["mixup(1.0, per_example=True)", "cutmix(1.0, per_example=True)"])
def test_views_of_an_example_are_mixed_alike(op):
    batch = make_batch()
    views = {**batch, "image": jnp.stack([batch["image"], 1 - batch["image"]], axis=1)}
    out, alone = run(op, views), run(op, batch)
    np.testing.assert_allclose(out["image"][:, 0], alone["image"], atol=1e-6)
    np.testing.assert_allclose(out["image"][:, 1], 1 - alone["image"], atol=1e-6)
    np.testing.assert_array_equal(out["label"], alone["label"])


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_alpha_may_be_traced(name):
    """As for runs that are trained as one program: the draws are those of a plain number, and 0 mixes nothing."""
    batch, alphas = make_batch(), [0.0, 0.2, 1.0]
    traced = jax.vmap(
        lambda alpha: augment.make_augmentation([Call(name, (Varied(alpha),))], K)(jax.random.key(3), batch)
    )
    out = jax.jit(traced)(jnp.array(alphas))
    for i, alpha in enumerate(alphas):
        alone = run(f"{name}({alpha})", batch, seed=3)
        np.testing.assert_allclose(out["image"][i], alone["image"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(out["label"][i], alone["label"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("flip_lr|mixup(0.2)", r"augmentation mixup\(0.2\) needs the field 'label'; the fields are image, mask"),
        ("cutmix(1.0)", r"augmentation cutmix\(1.0\) needs the field 'label'"),
        ("mixup_or_cutmix", "augmentation mixup_or_cutmix needs the field 'label'"),
        ("shuffle_captions", "augmentation shuffle_captions needs tokens: add 'tokens'"),
    ],
)
def test_a_field_that_the_batch_does_not_have_is_named(spec, message):
    batch = {"image": make_batch()["image"], "mask": jnp.ones(6, bool)}
    with pytest.raises(UserError, match=message):
        jax.eval_shape(augment.make_augmentation(spec, K), jax.random.key(0), batch)
