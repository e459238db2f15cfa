"""What lies in an image moves with it: masks and boxes against the pixels of rectangles that are painted and moved."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import OPTIMISED
from jax.sharding import NamedSharding, PartitionSpec

from jaxvision import augment
from jaxvision.augment import autoaugment, policy, randaugment, trivialaugment, warps
from jaxvision.errors import UserError
from jaxvision.fields import Field

SIDE, B = 32, 6
FIELDS = {
    "image": Field("image", (SIDE, SIDE, 3), "uint8"),
    "mask": Field("segmentation", (SIDE, SIDE), "uint8", of="image"),
    "boxes": Field("boxes", (3, 4), of="image"),
    "kinds": Field("label", (3,), "int32", classes=5, of="boxes"),
    "points": Field("points", (2, 3), of="image"),
    "label": Field("label", (), "int32", classes=5),
}
BOXES = np.array([[4, 6, 15, 12], [18, 14, 29, 31], [0, 0, 0, 0]], np.float32)


def make_batch(b=B):
    """Two rectangles on black: red is 255 in the first and green in the second; points are their middles."""
    image, mask = np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(BOXES[:2].astype(int)):
        image[y1:y2, x1:x2, i], mask[y1:y2, x1:x2] = 255, i + 1
    points = np.concatenate([(BOXES[:2, :2] + BOXES[:2, 2:]) / 2, np.ones((2, 1), np.float32)], 1)
    one = {"image": image, "mask": mask, "boxes": BOXES, "kinds": np.array([3, 1, -1], np.int32), "points": points}
    batch = {name: jnp.asarray(np.tile(x, (b, *(1,) * x.ndim))) for name, x in one.items()}
    return {**batch, "label": jnp.arange(b) % 5}


@functools.cache
def compiled(spec):
    """The jitted operations, each compiled once for all tests."""
    return jax.jit(augment.make_augmentation(spec, fields=FIELDS))


def run(spec, batch=None, fields=FIELDS, seed=0):
    fn = compiled(spec) if fields is FIELDS else jax.jit(augment.make_augmentation(spec, fields=fields))
    return jax.tree.map(np.asarray, fn(jax.random.key(seed), make_batch() if batch is None else batch))


def box_of(pixels):
    """The box around the true pixels of [H, W]: x1, y1, x2, y2, or None."""
    if not pixels.any():
        return None
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


EXACT = [
    "flip_lr",
    "flip_ud",
    "rotate90",
    "pad((3, 5))",
    "pad(4, 'edge')",
    "central_crop((26, 28))",
    "random_crop(32, 8)",
    "random_crop((24, 16))",
    "flip_lr|rotate90|random_crop(24, 2)|flip_ud",
]
NEAREST = [
    "resize((40, 24), 'nearest')",
    "resize_short(16, 'nearest')",
    "rotate(60, method='nearest', p=0.8)",
    "translate(0.3, 0.3, method='nearest')",
    "shear(0.4, 0.4, method='nearest')",
    "scale((0.5, 2.0), method='nearest')",
    "lens_distortion((0.2, 0.4), method='nearest')",
    "lens_distortion((-0.25, -0.1), method='nearest', p=0.5)",
    "rotate(40, method='nearest')|random_crop(32, 4)|scale((0.7, 1.4), method='nearest')",
]
LINEAR = [
    "resize((40, 24))",
    "random_resized_crop(32, area=(0.2, 0.9))",
    "random_short_side_crop(24, (26, 40))",
    "rotate(60)",
    "lens_distortion((0.2, 0.4))",
]


@pytest.mark.parametrize("spec", EXACT + NEAREST)
def test_a_mask_shows_what_its_image_shows(spec):
    batch = make_batch()
    batch["mask"] = jnp.asarray(np.random.default_rng(0).integers(0, 9, (B, SIDE, SIDE), np.uint8))
    batch["image"] = jnp.repeat(batch["mask"][..., None], 3, axis=-1)
    out = run(spec, batch)
    assert out["mask"].dtype == np.uint8
    np.testing.assert_array_equal(np.rint(out["image"][..., 0] * 255), out["mask"])


@pytest.mark.parametrize("spec", LINEAR)
def test_a_mask_is_the_nearest_neighbour_of_an_image_that_is_interpolated(spec):
    out = run(spec)
    assert set(np.unique(out["mask"])) <= {0, 1, 2}
    for i in (0, 1):  # where the image is clearly in or out
        value = out["image"][..., i]
        assert ((out["mask"] == i + 1)[value > 0.75]).all()
        assert not ((out["mask"] == i + 1)[value < 0.25]).any()


@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_a_resized_mask_takes_the_pixel_at_its_middle(method):
    batch = make_batch(1)
    batch["mask"] = jnp.asarray(np.random.default_rng(1).integers(0, 255, (1, SIDE, SIDE), np.uint8))
    out = run(f"resize((21, 50), '{method}')", batch)["mask"][0]
    for i, j in np.ndindex(21, 50):
        assert out[i, j] == batch["mask"][0, int((i + 0.5) * SIDE / 21), int((j + 0.5) * SIDE / 50)]


@pytest.mark.parametrize("spec", EXACT + NEAREST + LINEAR)
def test_boxes_and_points_lie_around_and_in_what_they_mark(spec):
    # A box is around what the corners become, and of a turned rectangle whose corner is outside, that is more than is
    # seen; so boxes are compared where the rectangle is seen whole.
    seen = 0
    for seed in range(3):
        out = run(spec, seed=seed)
        sides = out["image"].shape[1:3][::-1]
        slack = 0 if spec in EXACT[:3] + EXACT[5:] else 1.5
        for row in range(B):
            for i in (0, 1):
                pixels = box_of(out["mask"][row] == i + 1)
                box, kind = out["boxes"][row, i], out["kinds"][row, i]
                if pixels is None:
                    continue
                cut = (pixels[:2] == 0).any() or (pixels[2:] == sides).any()
                if spec in EXACT and kind >= 0 and "edge" not in spec:
                    np.testing.assert_array_equal(box, pixels)
                if cut or "edge" in spec:
                    continue
                seen += 1
                assert kind == (3, 1)[i]
                np.testing.assert_allclose(box, pixels, atol=slack)
                x, y, visible = out["points"][row, i]
                assert visible == 1
                assert out["mask"][row, int(y), int(x)] == i + 1
    assert seen or "edge" in spec
    np.testing.assert_array_equal(out["boxes"][:, 2], 0)
    np.testing.assert_array_equal(out["kinds"][:, 2], -1)


def test_every_geometric_operation_is_tested_here():
    text = "|".join(EXACT + NEAREST + LINEAR)
    geometry = "flip_lr flip_ud rotate90 pad resize resize_short central_crop random_crop random_resized_crop "
    geometry += "random_short_side_crop rotate translate shear scale lens_distortion"
    assert all(f"{name}(" in text or f"{name}|" in text or name in EXACT for name in geometry.split())


@pytest.mark.parametrize("spec", ["randaugment(1, 8)", "trivialaugment", "autoaugment('cifar10')"])
def test_policies_move_masks_and_boxes(spec, monkeypatch):
    """Where a policy is left its geometric operations, the white of an image is where its mask is."""

    def places(table):
        return {n: s for n, s in table.items() if n in policy.GEOMETRIC}

    monkeypatch.setitem(randaugment.VARIANTS, "increasing", places(randaugment.VARIANTS["increasing"]))
    monkeypatch.setitem(trivialaugment.SPACES, "wide", places(trivialaugment.SPACES["wide"]))
    pairs = "\n".join(["rotate 9 4 + translate_x 9 3", "shear_x 8 4 + shear_y 9 3", "translate_y 9 4 + rotate 9 3"] * 9)
    monkeypatch.setitem(autoaugment.POLICIES, "cifar10", pairs)
    batch = make_batch(32)
    batch["image"] = batch["image"].max(-1, keepdims=True).repeat(3, -1)
    out = jax.tree.map(np.asarray, jax.jit(augment.make_augmentation(spec, fields=FIELDS))(jax.random.key(0), batch))
    np.testing.assert_array_equal(out["image"][..., 0] == 1, out["mask"] > 0)
    assert len({mask.tobytes() for mask in out["mask"]}) > 5
    for mask, boxes, kinds in zip(out["mask"], out["boxes"], out["kinds"]):
        pixels = box_of(mask == 1)
        if pixels is not None and (pixels[:2] > 0).all() and (pixels[2:] < SIDE).all() and kinds[0] == 3:
            assert (boxes[0][:2] <= pixels[:2] + 1).all()
            assert (boxes[0][2:] >= pixels[2:] - 1).all()
            if spec != "autoaugment('cifar10')":  # of two turns in a row the box is around the box around the first
                np.testing.assert_allclose(boxes[0], pixels, atol=2)


@pytest.mark.parametrize(
    "spec",
    [
        "random_crop(32, 4)|flip_lr|randaugment(1, 9)|normalize",
        "views(2, 'random_resized_crop(16)|rotate(30)')|lens_distortion",
        "multi_crop('random_resized_crop(16)', 'random_crop(8)')|flip_lr",
    ],
)
def test_images_are_the_same_bit_for_bit_with_what_lies_in_them_and_without(spec):
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (B, SIDE, SIDE, 3), np.uint8))
    with_all, alone = (
        jax.jit(augment.make_augmentation(spec, fields=fields), compiler_options=OPTIMISED)(jax.random.key(0), batch)
        for fields, batch in ((FIELDS, {**make_batch(), "image": images}), (None, {"image": images}))
    )
    np.testing.assert_array_equal(with_all["image"], alone["image"])
    if "local_image" in alone:
        np.testing.assert_array_equal(with_all["local_image"], alone["local_image"])


def test_draws_are_those_of_the_key_of_each_image():
    """Written out: an operation's key is folded with its place, split over the images, and used by each."""
    batch, key = make_batch(), jax.random.key(5)
    keys = jax.random.split(jax.random.fold_in(key, 1), B)
    flipped = [bool(jax.random.bernoulli(k, 0.5)) for k in keys]
    assert len(set(flipped)) == 2
    out = run("none|normalize(0, 1)|flip_lr", batch, seed=5)
    for i, turned in enumerate(flipped):
        step = -1 if turned else 1
        np.testing.assert_array_equal(out["mask"][i], batch["mask"][i, :, ::step])
        np.testing.assert_allclose(out["image"][i] * 255, batch["image"][i, :, ::step], atol=1e-4)
    corners = [np.asarray(jax.random.randint(k, (2,), 0, jnp.array([9, 9]))) for k in keys]
    out = run("normalize(0, 1)|random_crop(32, 4)", batch, seed=5)
    for i, (top, left) in enumerate(corners):
        padded = np.pad(batch["mask"][i], 4)
        np.testing.assert_array_equal(out["mask"][i], padded[top : top + 32, left : left + 32])


def test_boxes_are_dropped_by_the_share_of_their_area_that_is_left():
    batch = make_batch(1)
    batch["boxes"] = jnp.array([[[0.0, 0, 20, 10], [0, 0, 11, 10], [0, 0, 0, 0]]])  # 8 to 28 columns are kept
    kept = {share: run(f"placed({share})|central_crop((32, 16))", batch) for share in (0.0, 0.1, 0.2, 0.3, 0.7)}
    for share, out in kept.items():
        # 12 of 20 columns of the first are left, 3 of 11 of the second.
        expected = [[0, 0, 12, 10], [0, 0, 3, 10]]
        for i, left in enumerate((12 / 20, 3 / 11)):
            dropped = left < share
            np.testing.assert_array_equal(out["boxes"][0, i], [0] * 4 if dropped else expected[i])
            assert out["kinds"][0, i] == (-1 if dropped else (3, 1)[i])
    default = run("central_crop((32, 16))", batch)
    np.testing.assert_array_equal(default["kinds"], kept[0.1]["kinds"])


def test_points_that_leave_the_image_are_not_visible():
    out = run("central_crop(16)")
    np.testing.assert_array_equal(out["points"][0], [[9.5 - 8, 9 - 8, 1], [23.5 - 8, 22.5 - 8, 1]])
    out = run("central_crop((32, 14))")
    np.testing.assert_array_equal(out["points"][0, 0], [0.5, 9, 1])
    np.testing.assert_array_equal(out["points"][0, 1], [14.5, 22.5, 0])
    plain = {**FIELDS, "points": Field("points", (2, 2), of="image")}
    out = run("central_crop((32, 14))", {**make_batch(), "points": make_batch()["points"][..., :2]}, plain)
    np.testing.assert_array_equal(out["points"][0], [[0.5, 9], [14.5, 22.5]])


@pytest.mark.parametrize("op", ["pad(2)", "random_crop(32, 16)", "rotate(180)", "translate(0.5, 0.5)", "shear(1, 1)"])
def test_new_pixels_of_a_mask_have_the_value_that_is_set(op):
    batch = make_batch()
    batch["mask"] = jnp.ones_like(batch["mask"])
    assert set(np.unique(run(f"placed(fill=255)|{op}", batch)["mask"])) == {1, 255}
    assert set(np.unique(run(op, batch)["mask"])) == {0, 1}


def test_lens_distortion_of_points_is_the_inverse_of_its_map():
    points = np.random.default_rng(0).uniform(0, 1, (200, 2)).astype(np.float32) * [30, 20]
    middle = np.array([15.0, 10.0])
    for k1, k2 in ((0.3, 0.1), (-0.25, 0.0), (0.0, -0.15)):
        there = np.asarray(warps.bend_points(jnp.asarray(points), k1, k2, (20, 30))) - middle
        square = (there**2).sum(1, keepdims=True) / (middle**2).sum()
        back = there * (1 + square * (k1 + square * k2)) + middle
        inside = square[:, 0] <= 1
        assert inside.mean() > 0.5
        np.testing.assert_allclose(back[inside], points[inside], atol=1e-3)


@pytest.mark.parametrize("channel", [False, True])
def test_cutmix_takes_the_mask_from_where_it_takes_the_image(channel):
    batch = make_batch()
    batch["mask"] = jnp.arange(B, dtype=jnp.uint8)[:, None, None] * jnp.ones((1, SIDE, SIDE), jnp.uint8)
    batch["image"] = jnp.repeat(batch["mask"][..., None], 3, axis=-1)
    fields = {name: FIELDS[name] for name in ("image", "mask", "label")}
    if channel:
        batch["mask"] = batch["mask"][..., None]
        fields["mask"] = fields["mask"]._replace(shape=(SIDE, SIDE, 1))
    batch = {name: batch[name] for name in fields}
    out = run("cutmix(1.0, per_example=True)", batch, fields)
    shown = out["mask"][..., 0] if channel else out["mask"]
    np.testing.assert_array_equal(np.rint(out["image"][..., 0] * 255), shown)
    assert out["mask"].dtype == np.uint8
    assert len(np.unique(shown[1])) == 2
    np.testing.assert_allclose(out["label"][np.arange(B), np.arange(B) % 5][1:5], [
        (shown[i] == i).mean() for i in range(1, 5)
    ], atol=1e-6)  # fmt: skip
    without = {name: fields[name] for name in ("image", "mask")}
    again = run("cutmix(1.0, per_example=True)", {name: batch[name] for name in without}, without)
    np.testing.assert_array_equal(again["mask"], out["mask"])


def test_views_carry_what_lies_in_them():
    fn = augment.make_augmentation("views(2, 'random_crop(24)|flip_lr')", fields=FIELDS)
    out = run("views(2, 'random_crop(24)|flip_lr')")
    for name, field in fn.fields.items():
        assert field.views == (0 if name == "label" else 2)
        assert out[name].shape == (B, *[2] * bool(field.views), *field.shape)
    for row in range(B):
        for view in range(2):
            for i in (0, 1):
                if out["kinds"][row, view, i] >= 0:
                    pixels = box_of(out["mask"][row, view] == i + 1)
                    np.testing.assert_array_equal(out["boxes"][row, view, i], pixels)


def test_multi_crop_names_what_lies_in_local_images():
    spec = "multi_crop('random_crop(24)', 'random_crop(16)', num_local=3)|flip_lr(1.0)"
    fields, out = augment.make_augmentation(spec, fields=FIELDS).fields, run(spec)
    assert (fields["image"].views, fields["local_image"].views, fields["local_mask"].of) == (2, 3, "local_image")
    assert fields["local_kinds"].of == "local_boxes"
    assert out["local_mask"].shape == (B, 3, 16, 16)
    np.testing.assert_array_equal(out["local_mask"] == 1, out["local_image"][..., 0] == 1)  # not flipped
    np.testing.assert_array_equal(out["mask"] == 1, out["image"][..., 0] == 1)


def test_ten_crop_moves_masks_and_boxes():
    out = run("ten_crop(20)")
    assert out["image"].shape == (B, 10, 20, 20, 3)
    np.testing.assert_array_equal(out["mask"] == 2, out["image"][..., 1] == 1)
    for view in range(10):
        if out["kinds"][0, view, 1] >= 0:
            np.testing.assert_array_equal(out["boxes"][0, view, 1], box_of(out["mask"][0, view] == 2))


def test_sharded_equals_unsharded_without_talk_between_devices(mesh):
    split = NamedSharding(mesh(devices=8), PartitionSpec("data"))
    batch, key = make_batch(16), jax.random.key(0)
    fn = augment.make_augmentation("random_resized_crop(16)|flip_lr|rotate(20)", fields=FIELDS)
    apply = lambda key, batch: fn(key, batch)
    sharded = jax.jit(apply, in_shardings=(None, split), out_shardings=split).lower(key, batch).compile()
    expected, got = jax.jit(apply)(key, batch), sharded(key, jax.device_put(batch, split))
    for name in batch:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-4)
    assert not any(word in sharded.as_text() for word in ("all-gather(", "all-reduce(", "all-to-all(", "permute("))


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        (
            "flip_lr|augmix",
            ("image", "mask"),
            r"augmix cannot be used with the field 'mask' \(segmentation\)",
        ),
        ("mixup(0.2)", ("image", "mask", "label"), r"mixup\(0.2\) cannot mix the field 'mask'.*cutmix mixes"),
        ("cutmix(1.0)", ("image", "boxes", "kinds", "label"), r"cutmix\(1.0\) cannot mix the field 'boxes' \(boxes\)"),
        ("multi_crop('flip_lr', 'flip_ud')|mixup(0.2)", ("image", "label"), "cannot mix the field 'local_image'"),
        ("mixup(0.2)", ("image",), r"mixup\(0.2\) mixes labels with their images, and the fields are image"),
        ("flip_lr|cutmix(1.0)", ("image",), r"cutmix\(1.0\) mixes labels with their images"),
        ("flip_lr", ("label",), "flip_lr needs an image, and the fields are label"),
        ("views(2, 'flip_lr')", ("label",), "flip_lr needs an image"),
        ("placed(fill=300)|flip_lr", ("image", "mask"), "the fill 300 does not fit the segmentation 'mask', .* uint8"),
        ("placed(2)", ("image", "mask"), r"placed: least_area must be a number in \[0, 1\], not 2"),
        ("central_crop(40)", ("image", "mask"), "cannot cut 40x40 out of 32x32"),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_chain_is_built(spec, fields, message):
    with pytest.raises(UserError, match=message):
        augment.make_augmentation(spec, fields={name: FIELDS[name] for name in fields})


def test_labels_without_a_number_of_classes_are_named():
    fields = {"image": FIELDS["image"], "age": Field("label", (), "int32")}
    with pytest.raises(UserError, match="needs the number of classes of 'age'"):
        augment.make_augmentation("mixup(0.2)", fields=fields)
    out = augment.make_augmentation("mixup(0.2)", 7, fields=fields).fields["age"]
    assert (out.shape, out.dtype) == ((7,), "float32")


def test_masks_of_another_size_are_an_error():
    batch = {**make_batch(), "mask": jnp.zeros((B, 16, 16), jnp.uint8)}
    with pytest.raises(UserError, match="flip_lr moves .* of one size, not image of 32x32, mask of 16x16"):
        run("flip_lr", batch)


def test_a_batch_may_lack_what_the_fields_name():
    photos = {"image": make_batch()["image"]}
    assert set(run("flip_lr|random_crop(32, 4)", photos)) == {"image"}


def test_a_batch_without_images_passes():
    batch = {"label": jnp.arange(4)}
    out = run("", batch, {"label": FIELDS["label"]})
    np.testing.assert_array_equal(out["label"], batch["label"])
