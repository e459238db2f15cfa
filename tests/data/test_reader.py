import logging

import numpy as np
import pytest

from jaxvision.data.reader import Reader, stack
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
        "cannot decode example 4 of pictures train",
        "cannot decode example 5 of pictures train",
    ]


def test_one_bad_image_is_always_allowed_unless_none_is(pictures):
    pictures.images[22] = b"broken"
    example, readable = Reader(pictures, "decode", ["weight"]).read(22, 0, 22)
    assert (example["weight"], readable) == (0, False)
    with pytest.raises(UserError, match="example 22 of pictures train"):
        Reader(pictures, "decode", ["weight"], max_bad_fraction=0).read(22, 0, 22)


def test_too_many_bad_images_stop_with_their_names(pictures):
    pictures.images[1] = pictures.images[7] = b"broken"
    with pytest.raises(UserError, match=r"2 images .* more than the 1 .*example 1 .*, example 7"):
        read_all(Reader(pictures, "decode", ["image"]), pictures)


def test_nothing_readable(pictures):
    pictures.images = [b"broken"]
    with pytest.raises(UserError, match="none of the 1 images"):
        Reader(pictures, "decode", ["image"]).read(0, 0, 0)


def test_dtypes(pictures):
    example, _ = Reader(pictures, "decode", ["image", "label", "weight"]).read(3, 0, 0)
    assert [example[f].dtype for f in ("image", "label", "weight")] == [np.uint8, np.int32, np.float32]


def test_unknown_field(pictures):
    with pytest.raises(UserError, match="did you mean 'label'"):
        Reader(pictures, "decode", ["labels"]).read(0, 0, 0)


def test_sizes_that_differ():
    examples = [{"image": np.zeros((4, n, 3), np.uint8)} for n in (4, 5)]
    with pytest.raises(UserError, match="resize"):
        stack(examples)
