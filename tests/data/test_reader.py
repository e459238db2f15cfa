import io
import logging
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxvision.data import sources
from jaxvision.data.loader import train_batches
from jaxvision.data.reader import Reader, first_arrays, stack
from jaxvision.errors import UserError


def read_all(reader, source):
    return [reader.read(i, 0, i) for i in range(len(source))]


def test_a_bad_image_is_replaced_by_the_next_and_named_once(pictures, caplog):
    pictures.images[4] = pictures.images[5] = b"broken"
    reader = Reader(pictures, "decode", ["image", "label", "weight"], max_bad_fraction=0.1)
    with caplog.at_level(logging.WARNING):
        examples = read_all(reader, pictures) + read_all(reader, pictures)
    assert [i for i, (_, readable) in enumerate(examples[:23]) if not readable] == [4, 5]
    for i in (4, 5):
        assert examples[i][0]["weight"] == 3.0
        np.testing.assert_array_equal(examples[i][0]["image"], examples[6][0]["image"])
    assert [r.message.split(" (")[0] for r in caplog.records] == [
        "cannot read example 4 of pictures train",
        "cannot read example 5 of pictures train",
    ]


def test_one_bad_image_is_always_allowed_unless_none_is(pictures):
    pictures.images[22] = b"broken"
    example, readable = Reader(pictures, "decode", ["weight"]).read(22, 0, 22)
    assert (example["weight"], readable) == (0, False)
    with pytest.raises(UserError, match="example 22 of pictures train"):
        Reader(pictures, "decode", ["weight"], max_bad_fraction=0).read(22, 0, 22)


def test_too_many_bad_images_stop_with_their_names(pictures):
    pictures.images[1] = pictures.images[7] = b"broken"
    with pytest.raises(UserError, match=r"2 examples .* more than the 1 .*example 1 .*, example 7"):
        read_all(Reader(pictures, "decode", ["image"]), pictures)


def test_nothing_readable(pictures):
    pictures.images = [b"broken"]
    with pytest.raises(UserError, match="none of the 1 examples"):
        Reader(pictures, "decode", ["image"]).read(0, 0, 0)


def test_dtypes(pictures):
    example, _ = Reader(pictures, "decode", ["image", "label", "weight"]).read(3, 0, 0)
    assert [example[f].dtype for f in ("image", "label", "weight")] == [np.uint8, np.int32, np.float32]


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"weight": "heavy"}, "its field 'weight' is 'heavy', not an array of numbers"),
        ({"weight": [1.0, 2.0]}, r"its field 'weight' is float32 of shape \(2,\), in others float32 of \(\)"),
        ({"weight": [[1], [2, 3]]}, "not an array of numbers"),
        ({"weight": None}, "its field 'weight' is None"),
        ({"weight": {"a": 1}}, "not an array of numbers"),
        ({"label": 1.5}, r"its field 'label' is float32 of shape \(\), in others int32"),
        ({"label": [0, 1]}, r"its field 'label' is int32 of shape \(2,\)"),
        ({"image": np.zeros((8, 8, 3), np.float32)}, "an array of float32, not uint8"),
        ({"image": np.zeros((8, 8, 4), np.uint8)}, r"shape \(8, 8, 4\)"),
        ({"image": None}, "is a NoneType, not the bytes"),
    ],
)
@pytest.mark.parametrize("at", [0, 4])
def test_a_field_that_is_another_thing_in_one_example_is_bad(pictures, caplog, odd, words, at):
    class Odd(type(pictures)):
        def __getitem__(self, index):
            return super().__getitem__(index) | (odd if index == at else {})

    source = Odd(pictures.images)
    reader = Reader(source, "decode", ["image", "label", "weight"], max_bad_fraction=0.01)
    assert [i for i, (_, good) in enumerate(read_all(reader, source)) if not good] == [at]
    assert len(caplog.records) == 1
    assert f"cannot read example {at} of pictures train" in caplog.text
    assert re.search(words, caplog.text)
    batch = next(train_batches(source, "decode|resize(8)", batch_size=23, seed=0, start=0, stop=1, threads=0))
    assert batch["image"].shape == (23, 8, 8, 3)


def test_a_field_that_one_example_lacks(pictures, caplog):
    class Lacking(type(pictures)):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            return example if index else {"image": example["image"]}

    reader = Reader(Lacking(pictures.images), "decode", ["label"])
    assert reader.read(0, 0, 0)[0]["label"] == 1
    assert "(it has no field 'label')" in caplog.text


def test_looks_at_the_first_example_pass_bad_ones_over(pictures, caplog):
    whole = first_arrays(pictures, "decode|resize(8)", ["image", "label"])
    pictures.images[:5] = [b"broken"] * 5
    first = first_arrays(pictures, "decode|resize(8)", ["image", "label"])
    assert (first["label"], first["image"].shape) == (5 % 3, whole["image"].shape)
    assert not caplog.records, "who reads the set names them"
    pictures.images[:] = [b""] * 23
    with pytest.raises(UserError, match=r"none of the 23 .*example 0 of pictures train: the file is empty"):
        first_arrays(pictures, "decode|resize(8)", ["image"])


def test_unknown_field(pictures):
    with pytest.raises(UserError, match="did you mean 'label'"):
        Reader(pictures, "decode", ["labels"]).read(0, 0, 0)


def test_sizes_that_differ():
    examples = [{"image": np.zeros((4, n, 3), np.uint8)} for n in (4, 5)]
    with pytest.raises(UserError, match="resize"):
        stack(examples)


def png_of_400_megapixels():
    """A valid header over hardly any data."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(20_000 * 3 + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


BAD = {"missing", "cut_jpeg", "cut_png", "no_image", "huge"}


@pytest.fixture
def odd_images(tmp_path, photo, encode):
    """A manifest of five bad files and seven odd ones, with the pixels that the odd ones show."""
    picture = Image.fromarray(photo(1))
    turned = Image.Exif()
    turned[0x0112] = 6  # stored on its side: turn it by 90 degrees clockwise
    shown = {
        "plain": np.asarray(picture),
        "grey": np.repeat(np.asarray(picture.convert("L"))[..., None], 3, axis=2),
        "palette": np.asarray(picture.quantize(16).convert("RGB")),
        "alpha": np.asarray(picture),
        "cmyk": np.asarray(picture.convert("CMYK").convert("RGB")),
        "exif": np.asarray(picture),
        "pixel": np.full((1, 1, 3), (9, 8, 7), np.uint8),
    }
    alpha = Image.merge("RGBA", [*picture.split(), Image.fromarray(np.full((60, 80), 40, np.uint8))])
    files = {
        "plain": saved(picture),
        "grey": saved(picture.convert("L")),
        "cut_jpeg": encode(photo(2), "JPEG")[:-300],
        "palette": saved(picture.quantize(16)),
        "no_image": b"<html>404</html>",
        "alpha": saved(alpha),
        "cmyk": saved(picture.convert("CMYK"), "JPEG", quality=100, subsampling=0),
        "huge": png_of_400_megapixels(),
        "exif": saved(picture.rotate(90, expand=True), "PNG", exif=turned),
        "pixel": saved(Image.fromarray(shown["pixel"])),
        "cut_png": saved(picture)[:2000],
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    names = ["plain", "missing", *(n for n in files if n != "plain")]
    (tmp_path / "train.csv").write_text("path,label\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    return sources.open_source("manifest", "train", data_dir=str(tmp_path)), names, shown


def test_odd_images_are_shown_right_and_bad_ones_replaced(odd_images, caplog):
    source, names, shown = odd_images
    reader = Reader(source, "decode", ["image", "label"], max_bad_fraction=0.5)
    examples = read_all(reader, source)
    assert {name for name, (_, good) in zip(names, examples) if not good} == BAD
    for i, (example, _) in enumerate(examples):
        stand_in = next(j % len(names) for j in range(i, 2 * len(names)) if names[j % len(names)] not in BAD)
        assert example["label"] == stand_in
        tolerance = 3 if names[stand_in] == "cmyk" else 0  # a JPEG
        np.testing.assert_allclose(example["image"].astype(int), shown[names[stand_in]].astype(int), atol=tolerance)
    reasons = {record.args[0].rsplit("/", 1)[1]: str(record.args[1]) for record in caplog.records}
    assert reasons.keys() == BAD
    assert "pixels" in reasons["huge"], "refused for another reason than its size"


def test_the_stream_with_bad_images_is_the_same_for_any_threads(odd_images):
    source, _, _ = odd_images

    def labels(threads):
        options = dict(batch_size=4, seed=0, start=0, stop=9, threads=threads, max_bad_fraction=0.5)
        return [batch["label"].tolist() for batch in train_batches(source, "decode|resize(8)", **options)]

    assert labels(1) == labels(8)


def test_warnings_and_names_are_bounded(pictures, caplog):
    pictures.images = [b"broken"] * 300 + pictures.images[:1]
    reader = Reader(pictures, "decode", ["label"], max_bad_fraction=1.0)
    assert reader.read(0, 0, 0)[0]["label"] == 0
    assert len(caplog.records) == 100
    assert caplog.messages[-1].endswith("bad example 100; no more are named")


def test_strings_do_not_go_into_a_batch(pictures):
    class Captioned(type(pictures)):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"text": ("one", "two")[: 1 + index] if index else "one"}

    for index in (0, 1):
        with pytest.raises(UserError, match="the field 'text' is a string: add tokenize to the host spec"):
            Reader(Captioned(pictures.images), "decode", ["image", "text"]).read(index, 0, 0)
    with pytest.raises(UserError, match="the field 'image' is still encoded: add decode"):
        Reader(pictures, "", ["image"]).read(0, 0, 0)
