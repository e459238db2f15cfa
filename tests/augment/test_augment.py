"""Chains: dtypes, labels, keys, evaluation specs and the messages of wrong specs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment, specs
from jaxvision.augment import gallery
from jaxvision.data import statistics
from jaxvision.errors import UserError

SIDE = 16
EXAMPLES = gallery.example_specs(SIDE)
STRONGEST = {name: specs[-1] for name, specs in EXAMPLES.items()}
LEAVE_UNIT_RANGE = {
    *("normalize", "normalize_imagenet", "standardize", "standardize_image"),
    *("subtract_mean_image", "whiten", "pca_lighting"),
}
ALWAYS_THE_SAME_AT_P_1 = {
    *("flip_lr", "flip_ud", "grayscale", "solarize", "posterize", "equalize", "autocontrast", "invert"),
}
RANDOM = sorted(name for name, spec in STRONGEST.items() if augment.ops.is_random(spec))


def make_batch(b=8, side=SIDE):
    images = np.random.default_rng(0).integers(0, 256, (b, side, side, 3), np.uint8)
    return {"image": jnp.asarray(images), "label": jnp.arange(b) % 5, "mask": jnp.arange(b) > 0}


@functools.cache
def numbers():
    batch = jax.tree.map(np.asarray, make_batch())
    return statistics.compute_statistics([batch], {"pixel_values", "pixel_vectors"})._asdict()


def make(spec):
    return augment.make_augmentation(spec, num_classes=5, statistics=numbers())


@functools.cache
def runs(name):
    """The jitted operation of a name and its outputs for keys 1, 1 and 2; each is compiled once for all tests."""
    fn, batch = jax.jit(make(STRONGEST[name])), make_batch()
    return [jax.tree.map(np.asarray, fn(jax.random.key(seed), batch)) for seed in (1, 1, 2)]


def test_every_operation_has_examples():
    assert set(EXAMPLES) == set(augment.ops.factories) - {"pick_caption", "shuffle_captions", "placed"}
    assert all(specs.parse(spec)[0].name == name for name, several in EXAMPLES.items() for spec in several)


@pytest.mark.parametrize("side", [16, 96])
@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"whiten", "subtract_mean_image"}))  # these take one size
def test_examples_fit_images_of_any_side(name, side):
    batch = {"image": jax.ShapeDtypeStruct((2, side, side, 3), jnp.uint8), "label": jax.ShapeDtypeStruct((2,), int)}
    for spec in gallery.example_specs(side)[name]:
        out = jax.eval_shape(make(spec), jax.eval_shape(lambda: jax.random.key(0)), batch)
        assert out["image"].dtype == jnp.float32
        assert out["image"].shape[0] == 2


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_operation_is_a_function_of_key_and_batch_and_changes_no_other_field(name):
    first, again, _ = runs(name)
    batch = make_batch()
    assert first["image"].dtype == jnp.float32
    assert first["image"].shape[0] == 8
    np.testing.assert_array_equal(first["image"], again["image"])
    np.testing.assert_array_equal(first["mask"], batch["mask"])
    assert set(first) - {"local_image"} == set(batch)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {"flip_both"}))  # which keeps the image beside its mirror
def test_example_acts_on_every_image(name):
    out, images = runs(name)[0]["image"], np.asarray(make_batch()["image"]) / 255
    if out.shape == images.shape:
        assert (abs(out - images) > 1e-3).any(axis=(1, 2, 3)).mean() > 0.5


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - LEAVE_UNIT_RANGE))
def test_images_stay_in_unit_range(name):
    for out in runs(name):
        assert -1e-6 < out["image"].min() < out["image"].max() < 1 + 1e-6


@pytest.mark.parametrize("name", ["rotate", "color_jitter", "gaussian_blur", "random_erasing", "cutmix", "views"])
def test_operation_is_the_same_without_jit(name):
    eager = make(STRONGEST[name])(jax.random.key(1), make_batch())
    np.testing.assert_allclose(eager["image"], runs(name)[0]["image"], atol=1e-5)
    np.testing.assert_allclose(eager["label"], runs(name)[0]["label"], atol=1e-6)


def test_the_batch_of_the_caller_is_not_changed():
    batch = make_batch()
    make("normalize|mixup(0.2)")(jax.random.key(0), batch)
    assert batch["image"].dtype == jnp.uint8
    assert batch["label"].dtype == jnp.int32


def test_empty_spec_makes_floats():
    batch = make_batch()
    out = augment.make_augmentation("")(jax.random.key(0), batch)
    np.testing.assert_allclose(out["image"], np.asarray(batch["image"]) / 255, atol=1e-7)
    assert out["label"].dtype == jnp.int32


def test_float_images_are_taken_as_they_are():
    batch = {"image": jnp.full((2, 4, 4, 3), 0.25), "label": jnp.zeros(2, int)}
    np.testing.assert_array_equal(augment.make_augmentation("")(jax.random.key(0), batch)["image"], batch["image"])


def test_a_batch_without_labels_passes():
    assert set(augment.make_augmentation("flip_lr")(jax.random.key(0), {"image": make_batch()["image"]})) == {"image"}


@pytest.mark.parametrize("name", RANDOM)
def test_another_key_gives_another_batch(name):
    first, _, second = runs(name)
    assert np.array_equal(first["image"], second["image"]) == (name in ALWAYS_THE_SAME_AT_P_1)


@pytest.mark.parametrize("spec", ["random_crop(16, 2)", "random_resized_crop(12)", "cutout(6)", "color_jitter(0.5)"])
def test_examples_of_a_batch_draw_on_their_own(spec):
    batch = {"image": jnp.tile(make_batch()["image"][:1], (8, 1, 1, 1))}
    out = jax.jit(augment.make_augmentation(spec))(jax.random.key(0), batch)["image"]
    assert len({np.asarray(image).tobytes() for image in out}) > 4


def test_a_repeated_operation_draws_anew():
    batch = {"image": jnp.ones((64, 8, 8, 3))}
    once = jax.jit(augment.make_augmentation("cutout(2)"))(jax.random.key(0), batch)["image"]
    twice = jax.jit(augment.make_augmentation("cutout(2)|cutout(2)"))(jax.random.key(0), batch)["image"]
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
        ("flip_lr('a')", "p must be a number, not 'a'"),
        ("flip_lr(q=1)", r"Usage: flip_lr\(p"),
        ("random_crop(0)", "random_crop: size must be a positive whole number or a pair"),
        ("random_crop(32, -1)", r"random_crop: padding must be a whole number in \[0, 16384\], not -1"),
        ("random_crop(32, 4, 'wrap')", "padding mode of random_crop 'wrap'. Choices: edge, reflect, zero"),
        ("rotate90(4)", "rotate90: turns must be a tuple of whole numbers from 0 to 3, not 4"),
        ("pad(-1)", r"pad: padding must be a whole number in \[0, 16384\], not -1"),
        ("pad(1, 'wrap')", "unknown fill of pad 'wrap'"),
        (
            "random_short_side_crop(224, (200, 256))",
            r"random_short_side_crop: short must be a whole number in \[224, 16384\], not 200",
        ),
        ("rotate(200)", r"rotate: degrees must be a number in \[0, 180\]"),
        ("shear(method='cubic')", "unknown method of shear 'cubic'"),
        ("scale((1.2, 0.8))", r"scale: factor must be a pair \(a, b\) of numbers with 0 < a <= b, not"),
        ("translate(fill='grey')", "translate: fill must be a number or three numbers, not 'grey'"),
        ("lens_distortion((-0.4, 0.0))", "lens_distortion: .* fold the image over"),
        (
            "gaussian_blur(kernel=1.5)",
            r"gaussian_blur: kernel must be a share of the side in \(0, 1\) or a whole number",
        ),
        ("gaussian_blur((0, 1))", "gaussian_blur: sigma"),
        ("sharpness(0.5)", r"sharpness: factor must be a pair \(a, b\) of numbers with 0 <= a <= b"),
        ("posterize(0)", r"posterize: bits must be a whole number in \[1, 8\]"),
        ("solarize(300)", r"solarize: threshold must be a number in \[0, 256\]"),
        ("random_erasing(fill='noise')", "unknown fill of random_erasing 'noise'"),
        ("random_resized_crop(32, area=(0.5, 0.1))", r"area must be a pair \(a, b\) of numbers with 0 < a <= b <= 1"),
        ("random_resized_crop(32, area=(0, 1))", "random_resized_crop: area"),
        ("random_resized_crop(32, ratio=1)", "random_resized_crop: ratio"),
        ("random_resized_crop(32, method='nearest')", "method of random_resized_crop 'nearest'"),
        ("resize(32, 'bilinear')", "unknown method of resize 'bilinear'"),
        ("mixup(-1)", "mixup: alpha must be a number of at least 0, not -1"),
        ("mixup_or_cutmix(switch=2)", "mixup_or_cutmix: switch"),
        ("cutout(2.5)", "size must be a whole number, not 2.5"),
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
        augment.make_augmentation(spec, num_classes=5)


def test_mixing_needs_the_number_of_classes():
    with pytest.raises(UserError, match="needs the number of classes"):
        augment.make_augmentation("flip_lr|mixup(0.2)")


@pytest.mark.parametrize("spec", ["central_crop(32)", "random_crop(32, 4)"])
def test_crops_larger_than_the_image_name_both_sizes(spec):
    with pytest.raises(UserError, match="cannot cut 32x32 out of"):
        augment.make_augmentation(spec)(jax.random.key(0), make_batch())
