import numpy as np
import pytest

from jaxvision.data.sources.base import BadExample
from jaxvision.data.sources.texts import one_or_several


@pytest.mark.parametrize(
    ("value", "captions"),
    [
        ("a cat\n", "a cat\n"),
        ("42", "42"),
        ("käse".encode(), "käse"),
        (np.str_("a"), "a"),
        (["a", "", None, "b"], ("a", "b")),
        (("a",), ("a",)),
        (np.array([b"a", b" "], object), ("a",)),
        (["a", float("nan")], ("a",)),  # pandas
    ],
)
def test_captions(value, captions):
    texts = one_or_several(value, "it")
    assert texts == captions
    assert type(texts) is type(captions)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "no caption"),
        ("", "no caption"),
        (" \n", "no caption"),
        ([], "no caption"),
        (["", None], "no caption"),
        (np.array([], object), "no caption"),
        (float("nan"), "no caption"),
        (3, "holds 3, which is not a text"),
        (True, "holds True"),
        (["a", 3], "holds 3"),
        ([["a"]], r"holds \['a'\]"),
        ({"en": "a"}, "holds {'en': 'a'}"),
        (b"\xff\xfe a", "UTF-16"),
        (b"caf\xe9", "not UTF-8"),
        ("half \ud83d", "half a character"),
    ],
)
def test_what_is_no_caption(value, words):
    with pytest.raises(BadExample, match=f"^it .*{words}"):
        one_or_several(value, "it")
