"""What lies in an image moves with it on the host: compared with loops over pixels, boxes and points."""

import logging
import math

import numpy as np
import pytest

from jaxvision.data import host_ops, resident
from jaxvision.data.host_ops.resize import random_box
from jaxvision.data.sources import BadExample, Info, Source
from jaxvision.errors import UserError
from jaxvision.fields import Field

HEIGHT, WIDTH = 15, 22
FIELDS = {
    "image": Field("image", (HEIGHT, WIDTH, 3), "uint8"),
    "mask": Field("segmentation", (HEIGHT, WIDTH, 1), "uint8", of="image"),
    "flat": Field("segmentation", (HEIGHT, WIDTH), "uint16", of="image"),
    "boxes": Field("boxes", (None, 4), "float32", of="image"),
    "kinds": Field("label", (None,), "int32", 9, of="boxes"),
    "joints": Field("points", (None, 3), "float32", of="image"),
    "weight": Field("other", (), "float32"),
}


def example(seed=0, n=6):
    """An image whose colours are the coordinates, a mask that is one of them, and boxes of whole pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    corners = rng.integers(0, (WIDTH, HEIGHT), (n, 2))
    ends = corners + rng.integers(1, 9, (n, 2))
    return {
        "image": np.stack([columns + 1, rows + 1, 0 * rows], -1).astype(np.uint8),
        "mask": (columns + 1)[:, :, None].astype(np.uint8),
        "flat": (rows + 1).astype(np.uint16),
        "boxes": np.concatenate([corners, np.minimum(ends, (WIDTH, HEIGHT))], 1).astype(np.float32),
        "kinds": np.arange(n, dtype=np.int32),
        "joints": np.concatenate([rng.uniform(0, (WIDTH, HEIGHT), (n, 2)), np.full((n, 1), 2.0)], 1),
        "weight": np.float32(0.5),
    }


def run(spec, sample, seed=0, fields=FIELDS):
    chain = host_ops.make_chain(spec, fields=fields)
    out = chain(sample, np.random.default_rng(seed))
    for name, field in chain.fields.items():
        shape = np.shape(out[name])
        assert len(field.shape) == len(shape), name
        assert all(want in (None, has) for want, has in zip(field.shape, shape)), name
    return out


def naive(sample, top, left, height, width, size, share=0.1):
    """The mask, boxes, labels and points of a window, by the definition, one at a time."""
    down, across = size[0] / height, size[1] / width
    flat = np.zeros(size, np.uint16)
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = math.floor(top + (i + 0.5) / down), math.floor(left + (j + 0.5) / across)
            flat[i, j] = sample["flat"][y, x] if 0 <= y < HEIGHT and 0 <= x < WIDTH else 0
    boxes, kinds = [], []
    for (x1, y1, x2, y2), kind in zip(sample["boxes"].tolist(), sample["kinds"].tolist()):
        whole = [(x1 - left) * across, (y1 - top) * down, (x2 - left) * across, (y2 - top) * down]
        cut = [min(max(at, 0), size[1 - k % 2]) for k, at in enumerate(whole)]
        left_over = (cut[2] - cut[0]) * (cut[3] - cut[1]) / ((whole[2] - whole[0]) * (whole[3] - whole[1]))
        keep = left_over > 0 and left_over >= share
        boxes.append(cut if keep else [0, 0, 0, 0])
        kinds.append(kind if keep else -1)
    joints = []
    for x, y, seen in sample["joints"].tolist():
        x, y = (x - left) * across, (y - top) * down
        joints.append([x, y, seen if 0 <= x <= size[1] and 0 <= y <= size[0] else 0])
    return flat, np.array(boxes), np.array(kinds), np.array(joints)


def check(out, sample, window, share=0.1):
    flat, boxes, kinds, joints = naive(sample, *window, share)
    np.testing.assert_array_equal(out["flat"], flat)
    np.testing.assert_allclose(out["boxes"], boxes, atol=1e-5)
    np.testing.assert_array_equal(out["kinds"], kinds)
    np.testing.assert_allclose(out["joints"], joints, atol=1e-5)
    assert out["boxes"].dtype == out["joints"].dtype == np.float32
    assert out["kinds"].dtype == np.int32
    assert out["weight"] == 0.5


@pytest.mark.parametrize("spec", ["random_crop(9, 3)", "central_crop((8, 9))", "corner_crop(7)", "pad(2)"])
@pytest.mark.parametrize("seed", range(4))
def test_cuts_move_all_that_lies_in_the_image(spec, seed):
    sample = example(seed)
    out = run(spec, sample, seed)
    columns, rows = out["image"][:, :, 0].astype(int) - 1, out["image"][:, :, 1].astype(int) - 1
    np.testing.assert_array_equal(out["mask"][:, :, 0], columns + 1)  # padding is 0 in both
    np.testing.assert_array_equal(out["flat"], rows + 1)
    at = np.argwhere(rows >= 0)[0]  # the image itself tells the window
    top, left = rows[tuple(at)] - at[0], columns[tuple(at)] - at[1]
    check(out, sample, (top, left, *rows.shape, rows.shape))


@pytest.mark.parametrize("spec", ["resize((7, 40))", "resize_short(30)", "random_resize_short(8, 8)", "resize(11)"])
def test_resizes_move_all_that_lies_in_the_image(spec):
    sample = example()
    out = run(spec, sample)
    check(out, sample, (0, 0, HEIGHT, WIDTH, out["image"].shape[:2]))


@pytest.mark.parametrize("seed", range(8))
def test_random_resized_crop_moves_all_that_lies_in_the_image(seed):
    sample = example(seed)
    window = random_box((HEIGHT, WIDTH), (0.08, 1.0), (3 / 4, 4 / 3), np.random.default_rng(seed))
    check(run("random_resized_crop((12, 10))", sample, seed), sample, (*window, (12, 10)))


def test_pixels_and_draws_are_the_same_with_and_without_other_fields():
    sample, image = example(), {"image": FIELDS["image"]}
    for spec in ("random_crop(9, 3)", "random_resized_crop(8)", "random_resize_short(7, 30)|random_crop(6)"):
        alone = run(spec, {"image": sample["image"]}, 5, image)["image"]
        np.testing.assert_array_equal(run(spec, sample, 5)["image"], alone)


@pytest.mark.parametrize(("share", "left"), [(0.0, True), (0.24, True), (0.26, False), (1.0, False)])
def test_boxes_of_which_less_than_a_share_is_left_are_dropped(share, left):
    sample = example() | {"boxes": np.array([[5, 0, 9, 8]], np.float32), "kinds": np.array([7], np.int32)}
    sample["boxes"][0, 3] = 4
    out = run(f"placed({share})|corner_crop(6)", sample)  # 4 of its 16 pixels
    assert out["kinds"].tolist() == [7 if left else -1]
    assert out["boxes"].tolist() == [[5, 0, 6, 4] if left else [0, 0, 0, 0]]
    assert host_ops.host_ops.evaluation(f"placed({share})|random_crop(6)") == f"placed({share})|central_crop(6)"


def test_borders_of_segmentations_have_a_value_of_their_own():
    out = run("placed(fill=255)|pad(1, value=128)", example())
    assert (out["image"][0], out["flat"][0].tolist()) == (pytest.approx(128), [255] * (WIDTH + 2))


def test_frames_of_a_clip_and_images_of_a_pair_move_alike():
    one, two = example(0), example(1)
    clip = np.stack([one["image"], 255 - one["image"]])
    fields = {"clip": Field("image", (2, HEIGHT, WIDTH, 3), "uint8"), "other": FIELDS["image"]}
    for spec in ("decode|random_crop(9, 3)", "random_resized_crop((8, 7))"):
        sample = {"clip": clip, "other": two["image"]}
        out = run(spec, sample, 3, fields)
        for frame, moved in zip((*clip, two["image"]), (*out["clip"], out["other"])):
            alone = host_ops.make_chain(spec)({"image": frame}, np.random.default_rng(3))["image"]
            np.testing.assert_array_equal(moved, alone)
    with pytest.raises(BadExample, match="'clip' and 'other' are of 15x22 and 3x3 pixels"):
        run("random_crop(2)", {"clip": clip, "other": np.zeros((3, 3, 3), np.uint8)}, 0, fields)
    with pytest.raises(BadExample, match="its 'flat' is of 22x15 pixels, its 'image' of 15x22"):
        run("resize(9)", one | {"flat": one["flat"].T})


def test_boxes_are_padded_to_a_fixed_number(caplog):
    sample = example(n=3)
    out = run("pad_boxes(5)", sample)
    assert (out["boxes"].shape, out["boxes"].dtype, out["kinds"].dtype) == ((5, 4), np.float32, np.int32)
    np.testing.assert_array_equal(out["boxes"], np.concatenate([sample["boxes"], np.zeros((2, 4))]))
    assert out["kinds"].tolist() == [0, 1, 2, -1, -1]
    assert run("pad_boxes(2)", sample | {"boxes": np.zeros((0, 4)), "kinds": np.zeros(0)})["kinds"].tolist() == [-1, -1]

    sides = np.array([3, 1, 4, 2, 4], np.float32)
    many = sample | {"boxes": np.stack([0 * sides, 0 * sides, sides, sides], 1), "kinds": np.arange(5, dtype=np.uint8)}
    with caplog.at_level(logging.WARNING):
        chain = host_ops.make_chain("pad_boxes(3)", fields=FIELDS)
        kept = [chain(many, None)["kinds"].tolist() for _ in range(2)]
    assert kept == [[0, 2, 4]] * 2
    assert len(caplog.records) == 1
    with pytest.raises(BadExample, match="5 boxes, more than the 3"):
        run("pad_boxes(3, more='bad')", many)
    with pytest.raises(BadExample, match="3 boxes in 'boxes', but 2 of 'kinds'"):
        run("pad_boxes(3)", sample | {"kinds": np.arange(2)})


@pytest.mark.parametrize(
    ("spec", "names", "words"),
    [
        (
            "pad_boxes(3)",
            ["image", "mask"],
            r"pad_boxes\(3\) finds no boxes in the batch, only image, mask",
        ),
        (
            "pad_boxes(3, field='box')",
            ["boxes"],
            "pad_boxes.*did you mean 'boxes'",
        ),
        ("random_crop(3)", ["weight"], r"random_crop\(3\) needs an image"),
        ("resize(3)", ["mask"], r"resize\(3\) needs an image"),
        ("pad_boxes(0)", ["boxes"], "from 1 to 10,000, not 0"),
        ("pad_boxes(2, more='all')", ["boxes"], "'all'"),
        ("placed(2)|random_crop(3)", ["image"], "least_area"),
    ],
)
def test_operations_and_fields_that_do_not_go_together(spec, names, words):
    with pytest.raises(UserError, match=words):
        host_ops.make_chain(spec, fields={name: FIELDS[name] for name in names})


def test_own_operations_say_what_they_do_with_what_lies_in_an_image():
    def flip(example, rng):
        return {**example, "image": example["image"][:, ::-1]}

    with pytest.raises(UserError, match="mine.flip does not say how it moves the field 'mask'"):
        host_ops.base.bind(flip, "mine.flip", host_ops.Scene(FIELDS))
    assert host_ops.base.bind(flip, "mine.flip", host_ops.Scene({"image": FIELDS["image"]}))[0] is flip
    assert host_ops.base.bind(flip, "mine.flip", host_ops.Scene(FIELDS), keeps_places=True)[1].fields == FIELDS


class Scenes(Source):
    """Images with boxes, in a number of their own each."""

    def __init__(self):
        self.info = Info("scenes", "train", 20, (), None, fields=FIELDS)

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return example(index, n=index % 4)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["image", "boxes"], r"'boxes' holds boxes, whose number differs .*: add pad_boxes\(16\)"),
        (["image", "kinds"], r"'kinds' belongs to the boxes 'boxes', .*: name 'boxes' in data.fields too, and add pad"),
    ],
)
def test_boxes_without_padding_are_refused(names, words):
    with pytest.raises(UserError, match=words):
        resident.load_arrays(Scenes(), "decode", fields=names)


def test_a_batch_of_boxes_need_not_hold_the_image_that_moves_them():
    arrays = resident.load_arrays(
        Scenes(), "decode|resize((30, 44))|pad_boxes(3)", fields=["boxes", "kinds"], threads=0
    )
    assert arrays.keys() == {"boxes", "kinds", "mask"}
    for index in range(20):
        np.testing.assert_array_equal(arrays["boxes"][index, : index % 4], 2 * example(index, n=index % 4)["boxes"])
