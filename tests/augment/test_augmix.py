"""AugMix: chains against Pillow, and how copies are weighted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxvision import augment
from jaxvision.augment import policy
from jaxvision.augment.augmix import COLOR_OPS, STRENGTHS
from jaxvision.errors import UserError

WEIGHTS, BLEND = (0.2, 0.3, 0.5), 0.75


def fix_weights(monkeypatch, weights, blend):
    monkeypatch.setattr(jax.random, "dirichlet", lambda key, alpha: jnp.array(weights))
    monkeypatch.setattr(jax.random, "beta", lambda key, a, b: jnp.float32(blend))


def run(spec, image, n, key=0):
    batch = {"image": jnp.tile(jnp.asarray(image), (n, 1, 1, 1))}
    return np.asarray(jax.jit(augment.make_augmentation(spec))(jax.random.key(key), batch)["image"])


def test_images_equal_a_mixture_of_pillow_chains(monkeypatch, draw, pillow, photo):
    n, spec = 12, "augmix(5, all_ops=True)"
    chains = []
    for i in range(3):  # with all weight on one copy, what is drawn is the chain of that copy
        fix_weights(monkeypatch, np.eye(3)[i], 1.0)
        chains.append(draw(spec, n, photo, key=3))
    fix_weights(monkeypatch, WEIGHTS, BLEND)
    for image, *drawn in zip(run(spec, photo, n, key=3) * 255, *chains):
        mixture = 0
        for weight, chain in zip(WEIGHTS, drawn):
            copy = photo
            for name, strength in chain:
                copy = pillow(name, strength, copy, fill=0, resample=Image.Resampling.BILINEAR)
            mixture = mixture + weight * copy.astype(np.float32)
        expected = (1 - BLEND) * photo + BLEND * mixture
        assert (abs(image - expected) > 12).mean() < 0.1, drawn


def test_chains_have_one_to_three_operations_of_uniform_level(monkeypatch, draw, photo):
    fix_weights(monkeypatch, (1.0, 0.0, 0.0), 1.0)
    drawn = draw("augmix(3)", 1500, photo)
    lengths = np.bincount([len(chain) for chain in drawn], minlength=4)
    assert lengths[0] == 0
    assert (abs(lengths[1:] / 1500 - 1 / 3) < 0.05).all()
    names = [name for chain in drawn for name, _ in chain]
    assert set(names) == set(STRENGTHS)
    assert all(abs(names.count(name) / len(names) - 1 / 9) < 0.025 for name in STRENGTHS)
    shears = np.array([abs(strength) for chain in drawn for name, strength in chain if name == "shear_x"])
    assert shears.min() >= 0.003  # levels of 0.1 to 3, in units of 0.3 / 10
    assert 0.08 < shears.max() <= 0.09
    assert abs(shears.mean() - 0.0465) < 0.005


def test_a_depth_is_kept_and_all_ops_adds_colour(monkeypatch, draw, photo):
    fix_weights(monkeypatch, (1.0, 0.0, 0.0), 1.0)
    drawn = draw("augmix(3, depth=5, all_ops=True)", 200, photo)
    assert {len(chain) for chain in drawn} == {5}
    assert {name for chain in drawn for name, _ in chain} == {*STRENGTHS, *COLOR_OPS}


def test_blend_has_the_moments_of_beta(monkeypatch):
    alpha = 4.0
    monkeypatch.setattr(
        policy, "apply_operation", lambda names, index, strength, rng, image, fill, method: jnp.zeros_like(image)
    )
    kept = run(f"augmix(3, alpha={alpha})", np.full((2, 2, 3), 255, np.uint8), 1000)[:, 0, 0, 0]  # 1 - w of the image
    assert abs(kept.mean() - 0.5) < 0.04
    assert kept.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)


def test_weights_have_the_moments_of_dirichlet(monkeypatch):
    def tint(names, index, strength, rng, image, fill, method):
        return jnp.broadcast_to(jax.random.uniform(rng), image.shape)

    monkeypatch.setattr(policy, "apply_operation", tint)
    monkeypatch.setattr(jax.random, "beta", lambda key, a, b: jnp.float32(1))
    mixed = run("augmix(3)", np.zeros((2, 2, 3), np.uint8), 2000)[:, 0, 0, 0]
    # The variance of sum w_i u_i is E[sum w_i^2] / 12, and E[sum w_i^2] = 2 / (width + 1) for Dirichlet(1).
    assert mixed.var() == pytest.approx(2 / 4 / 12, rel=0.15)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("augmix(11)", r"augmix: severity must be a number in \[0.1, 10\], not 11"),
        ("augmix(width=0)", r"augmix: width must be a whole number in \[1, 64\]"),
        ("augmix(depth=1.5)", "depth must be a whole number, not 1.5"),
        ("augmix(alpha=0)", "augmix: alpha"),
    ],
)
def test_wrong_arguments_are_named(spec, message):
    with pytest.raises(UserError, match=message):
        augment.make_augmentation(spec)
