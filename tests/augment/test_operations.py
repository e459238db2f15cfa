"""Clips, several images, and operations of a user's own: what an operation does to the fields of a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import augment
from jaxvision.augment import exact_move, geometric, image_only, ops, photometric
from jaxvision.errors import UserError
from jaxvision.fields import Field

B, T, H, W = 4, 3, 12, 10
CLIPS = np.random.default_rng(0).integers(0, 256, (B, T, H, W, 3), np.uint8)
CLIP = {"image": Field("image", (T, H, W, 3), "uint8"), "label": Field("label", (), "int32", classes=4)}
IMAGE = {**CLIP, "image": Field("image", (H, W, 3), "uint8")}
STATISTICS = {"color_values": np.array([0.3, 0.2, 0.1], np.float32), "color_vectors": np.eye(3, dtype=np.float32)}


def run(spec, batch, fields=None, seed=0):
    out = jax.jit(augment.make_augmentation(spec, 4, STATISTICS, fields))(jax.random.key(seed), batch)
    return jax.tree.map(np.asarray, out)


@pytest.mark.parametrize(
    "spec",
    [
        "normalize|flip_lr|pad(2)|random_crop((12, 10))",
        "random_resized_crop(8)|rotate(30)|cutout(4)",
        "color_jitter(0.4, 0.4, 0.4, 0.1)|gaussian_blur|random_erasing",
        "randaugment(2, 9)|pca_lighting(0.2)",
        "mixup(0.4)|cutmix(1.0)",
        "resize(8)|flip_both",
        "views(2, 'random_crop(8)|flip_lr')",
    ],
)
def test_all_frames_of_a_clip_are_changed_by_one_draw(spec):
    """Frame t of the clips is what the operation makes of the images that are frame t, with the same key."""
    label = jnp.arange(B)
    clips = run(spec, {"image": jnp.asarray(CLIPS), "label": label}, CLIP)
    for t in range(T):
        frames = run(spec, {"image": jnp.asarray(CLIPS[:, t]), "label": label}, IMAGE)
        np.testing.assert_allclose(clips["image"][..., t, :, :, :], frames["image"], atol=1e-5)
        np.testing.assert_allclose(clips["label"], frames["label"], atol=1e-6)


def test_clips_have_fields_without_views_and_views_of_clips_have():
    fn = augment.make_augmentation("random_crop(8)", fields=CLIP)
    assert (fn.fields["image"].shape, fn.fields["image"].views) == ((T, 8, 8, 3), 0)
    fn = augment.make_augmentation("views(2, 'random_crop(8)')|flip_lr|normalize", fields=CLIP)
    assert (fn.fields["image"].shape, fn.fields["image"].views) == ((T, 8, 8, 3), 2)
    out = run("views(2, 'random_crop(8)')|flip_lr", {"image": jnp.asarray(CLIPS)}, CLIP)["image"]
    assert out.shape == (B, 2, T, 8, 8, 3)


@pytest.mark.parametrize("channel", [False, True])
def test_masks_boxes_and_points_of_the_frames_of_a_clip_move_with_it(channel):
    fields = {
        **CLIP,
        "mask": Field("segmentation", (T, H, W, 1) if channel else (T, H, W), "uint8", of="image"),
        "boxes": Field("boxes", (T, 2, 4), of="image"),
        "kinds": Field("label", (T, 2), "int32", of="boxes"),
    }
    mask = CLIPS[..., :1] if channel else CLIPS[..., 0]
    boxes = np.tile(np.array([[1, 2, 5, 9], [0, 0, 0, 0]], np.float32), (B, T, 1, 1))
    batch = {"image": CLIPS, "mask": mask, "boxes": boxes, "kinds": np.tile([[2, -1]], (B, T, 1)).astype(np.int32)}
    out = run("flip_lr|flip_ud", jax.tree.map(jnp.asarray, batch), fields)
    shown = out["mask"][..., 0] if channel else out["mask"]
    np.testing.assert_array_equal(np.rint(out["image"][..., 0] * 255), shown)
    flipped = {(x1, y1) for x1, y1, _, _ in out["boxes"][:, :, 0].reshape(-1, 4)}
    assert flipped <= {(1, 2), (W - 5, 2), (1, H - 9), (W - 5, H - 9)}
    assert len(flipped) > 1
    assert all(len(np.unique(of_clip, axis=0)) == 1 for of_clip in out["boxes"][:, :, 0])
    np.testing.assert_array_equal(out["kinds"], batch["kinds"])


def test_several_images_are_changed_by_the_same_draws():
    fields = {"left": Field("image", (H, W, 3), "uint8"), "right": Field("image", (H, W, 3), "uint8")}
    images = jnp.asarray(CLIPS[:, 0])
    out = run("flip_lr|color_jitter(0.5, 0.5)|random_crop(8)", {"left": images, "right": images}, fields)
    np.testing.assert_array_equal(out["left"], out["right"])
    alone = run("flip_lr|color_jitter(0.5, 0.5)|random_crop(8)", {"image": images})
    np.testing.assert_array_equal(out["left"], alone["image"])
    with pytest.raises(UserError, match="'mask' .* does not say in which image it lies, left or right"):
        augment.make_augmentation("flip_lr", fields={**fields, "mask": Field("segmentation", (H, W), "uint8")})


def test_what_lies_in_the_only_image_need_not_say_so():
    fields = {"photo": IMAGE["image"], "mask": Field("segmentation", (H, W), "uint8")}
    batch = {"photo": jnp.asarray(CLIPS[:, 0]), "mask": jnp.asarray(CLIPS[:, 0, ..., 0])}
    out = run("flip_lr(1.0)", batch, fields)
    np.testing.assert_array_equal(out["mask"], batch["mask"][:, :, ::-1])


def test_fields_without_their_lengths_come_out_without_them():
    fields = {**IMAGE, "image": Field("image", (None, None, 3), "uint8")}
    after = augment.make_augmentation("resize(8)|mixup(0.2)", fields=fields).fields
    assert after["image"] == Field("image", (None, None, 3), "float32")
    assert (after["label"].shape, after["label"].dtype) == ((4,), "float32")


def transpose(p=0.5):
    def draw(rng, size):
        turned = jax.random.bernoulli(rng, p)
        return exact_move(
            lambda image: jnp.where(turned, image.swapaxes(0, 1), image),
            lambda points: jnp.where(turned, points[..., ::-1], points),
        )

    return geometric(draw)


def darken(share=0.5):
    return photometric(lambda rng, image: image * share)


def shuffle_rows():
    return image_only(lambda rng, image: jax.random.permutation(rng, image), "it tears images apart")


def undeclared(share=0.5):
    return lambda rng, batch: {**batch, "image": batch["image"] * share}


@pytest.fixture
def own_folder(monkeypatch):
    for factory in (transpose, darken, shuffle_rows, undeclared):
        monkeypatch.setitem(ops.factories, factory.__name__, factory)
        ops.register(evaluation="")(factory)
    yield
    for factory in (transpose, darken, shuffle_rows, undeclared):
        ops.factories.pop(factory.__name__, None)


def test_an_own_operation_moves_what_lies_in_an_image(own_folder):
    side = 8
    fields = {
        "image": Field("image", (side, side, 3), "uint8"),
        "mask": Field("segmentation", (side, side), "uint8", of="image"),
        "boxes": Field("boxes", (1, 4), of="image"),
    }
    images = np.random.default_rng(1).integers(0, 256, (B, side, side, 3), np.uint8)
    batch = {"image": images, "mask": images[..., 0], "boxes": np.tile(np.float32([[1, 2, 4, 8]]), (B, 1, 1))}
    out = run("transpose(1.0)|darken(0.5)", jax.tree.map(jnp.asarray, batch), fields)
    np.testing.assert_array_equal(out["mask"], images[..., 0].swapaxes(1, 2))
    np.testing.assert_allclose(out["image"] * 510, images.swapaxes(1, 2), atol=1e-3)
    np.testing.assert_array_equal(out["boxes"][0], [[2, 1, 8, 4]])


def test_an_own_operation_that_declares_nothing_is_refused_beside_what_lies_in_an_image(own_folder):
    batch = {"image": jnp.asarray(CLIPS[:, 0])}
    np.testing.assert_allclose(run("undeclared", batch, IMAGE)["image"] * 510, CLIPS[:, 0], atol=1e-3)
    fields = {**IMAGE, "boxes": Field("boxes", (2, 4), of="image")}
    with pytest.raises(UserError, match=r"undeclared\(0.4\) cannot be used with the field 'boxes' .* geometric"):
        augment.make_augmentation("flip_lr|undeclared(0.4)", fields=fields)
    with pytest.raises(UserError, match="shuffle_rows cannot be used with the field 'boxes' .* it tears images apart"):
        augment.make_augmentation("views(2, 'shuffle_rows')", fields=fields)
