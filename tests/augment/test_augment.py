"""Chains: dtypes, labels, keys, evaluation specs and the messages of wrong specs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.errors import UserError

# Every operation with arguments that change a batch of 16 px images.
SPECS = [
    "flip_lr",
    "resize(12)",
    "central_crop(12)",
    "random_crop(16, 2)",
    "random_resized_crop(12)",
    "normalize",
    "normalize_imagenet",
    "color_jitter(0.4, 0.4, 0.4, 0.1, p=0.8)",
    "mixup(0.2)",
    "cutmix(1.0, per_example=True)",
    "mixup_or_cutmix",
    "cutout(6)",
    "randaugment(2, 9, std=0.5)",
]


def make_batch(b=8, side=16):
    images = np.random.default_rng(0).integers(0, 256, (b, side, side, 3), np.uint8)
    return {"image": jnp.asarray(images), "label": jnp.arange(b) % 5, "mask": jnp.arange(b) > 0}


def test_every_operation_is_listed_here():
    assert {spec.split("(")[0] for spec in SPECS} == set(augment.ops.factories)


@pytest.mark.parametrize("spec", SPECS)
def test_operation_is_pure_and_the_same_under_jit(spec):
    fn, batch, key = augment.make(spec, num_classes=5), make_batch(), jax.random.key(1)
    eager, jitted, again = fn(key, batch), jax.jit(fn)(key, batch), jax.jit(fn)(key, batch)
    assert eager["image"].dtype == jnp.float32
    assert eager["image"].shape[0] == 8
    np.testing.assert_allclose(eager["image"], jitted["image"], atol=1e-5)
    np.testing.assert_allclose(eager["label"], jitted["label"], atol=1e-6)
    np.testing.assert_array_equal(jitted["image"], again["image"])
    np.testing.assert_array_equal(eager["mask"], batch["mask"])
    assert batch["image"].dtype == jnp.uint8  # the caller's batch is not changed


@pytest.mark.parametrize("spec", [s for s in SPECS if not s.startswith("normalize")])
def test_images_stay_in_unit_range(spec):
    out = augment.make(spec, num_classes=5)(jax.random.key(2), make_batch())["image"]
    assert 0 <= out.min() < out.max() <= 1


def test_empty_spec_makes_floats():
    batch = make_batch()
    out = augment.make("")(jax.random.key(0), batch)
    np.testing.assert_allclose(out["image"], np.asarray(batch["image"]) / 255, atol=1e-7)
    assert out["label"].dtype == jnp.int32


def test_float_images_are_taken_as_they_are():
    batch = {"image": jnp.full((2, 4, 4, 3), 0.25), "label": jnp.zeros(2, int)}
    np.testing.assert_array_equal(augment.make("")(jax.random.key(0), batch)["image"], batch["image"])


def test_a_batch_without_labels_passes():
    assert set(augment.make("flip_lr")(jax.random.key(0), {"image": make_batch()["image"]})) == {"image"}


@pytest.mark.parametrize("spec", [s for s in SPECS if augment.ops.is_random(s) and "flip" not in s])
def test_another_key_gives_another_batch(spec):
    fn, batch = jax.jit(augment.make(spec, num_classes=5)), make_batch()
    first, second = fn(jax.random.key(0), batch), fn(jax.random.key(1), batch)
    assert not np.array_equal(first["image"], second["image"])


@pytest.mark.parametrize("spec", ["random_crop(16, 2)", "random_resized_crop(12)", "cutout(6)", "color_jitter(0.5)"])
def test_examples_of_a_batch_draw_on_their_own(spec):
    batch = {"image": jnp.tile(make_batch()["image"][:1], (8, 1, 1, 1))}
    out = augment.make(spec)(jax.random.key(0), batch)["image"]
    assert len({np.asarray(image).tobytes() for image in out}) > 4


def test_a_repeated_operation_draws_anew():
    batch = {"image": jnp.ones((64, 8, 8, 3))}
    once = augment.make("cutout(2)")(jax.random.key(0), batch)["image"]
    twice = augment.make("cutout(2)|cutout(2)")(jax.random.key(0), batch)["image"]
    assert twice.sum() < once.sum()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", ""),
        ("random_crop(32, 4)|flip_lr|mixup(0.2)|normalize(0.5, 0.5)", "central_crop(32)|normalize(0.5, 0.5)"),
        ("random_resized_crop(224, method='cubic')|normalize_imagenet", "resize(224, 'cubic')|normalize_imagenet"),
        ("randaugment(2, 10)|color_jitter(0.4)|cutout(8)|cutmix(1.0)|mixup_or_cutmix", ""),
    ],
)
def test_evaluation(spec, expected):
    assert augment.evaluation(spec) == expected
    assert not augment.ops.is_random(expected)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("flip_rl", "unknown augmentation 'flip_rl'; did you mean 'flip_lr'?"),
        ("flip_lr(1.5)", r"flip_lr: p must be a number in \[0, 1\], not 1.5"),
        ("flip_lr('a')", "flip_lr: p must be a number"),
        ("flip_lr(q=1)", r"Usage: flip_lr\(p"),
        ("random_crop(0)", "random_crop: size must be a positive whole number or a pair"),
        ("random_crop(32, -1)", "random_crop: padding must be a whole number of at least 0, not -1"),
        ("random_crop(32, 4, 'wrap')", "padding mode of random_crop 'wrap'. Choices: reflect, zero"),
        ("random_resized_crop(32, area=(0.5, 0.1))", r"area must be a pair \(a, b\) of numbers with 0 < a <= b <= 1"),
        ("random_resized_crop(32, area=(0, 1))", "random_resized_crop: area"),
        ("random_resized_crop(32, ratio=1)", "random_resized_crop: ratio"),
        ("random_resized_crop(32, method='nearest')", "method of random_resized_crop 'nearest'"),
        ("resize(32, 'bilinear')", "unknown method of resize 'bilinear'"),
        ("mixup(-1)", "mixup: alpha must be a number of at least 0, not -1"),
        ("mixup_or_cutmix(switch=2)", "mixup_or_cutmix: switch"),
        ("cutout(2.5)", "cutout: size must be a whole number"),
        ("normalize(0.5, 0)", "normalize: std must be above 0"),
        ("normalize((0.5, 0.5))", "normalize: mean must be a number or three numbers"),
        ("color_jitter(hue=0.6)", r"color_jitter: hue must be a number in \[0, 0.5\]"),
        ("color_jitter(contrast=-1)", "color_jitter: contrast"),
        ("randaugment(2, 11)", r"randaugment: magnitude must be a number in \[0, 10\], not 11"),
        ("randaugment(variant='inc')", "unknown variant of randaugment 'inc'"),
    ],
)
def test_wrong_specs_name_the_mistake(spec, message):
    with pytest.raises(UserError, match=message):
        augment.make(spec, num_classes=5)


def test_mixing_needs_the_number_of_classes():
    with pytest.raises(UserError, match="needs the number of classes"):
        augment.make("flip_lr|mixup(0.2)")


@pytest.mark.parametrize("spec", ["central_crop(32)", "random_crop(32, 4)"])
def test_crops_larger_than_the_image_name_both_sizes(spec):
    with pytest.raises(UserError, match="cannot cut 32x32 out of"):
        augment.make(spec)(jax.random.key(0), make_batch())
