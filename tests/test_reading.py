import json

import pytest

from jaxvision.errors import UserError
from jaxvision.reading import decode_text, parse_json, read_json, read_text, reading


class Bad(Exception):
    pass


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (FileNotFoundError(2, "No such file or directory"), "cannot read a.bin: No such file or directory"),
        (KeyError(6), "cannot read a.bin: KeyError 6"),
        (MemoryError(), "cannot read a.bin: MemoryError"),
        (TypeError("a\n  b"), "cannot read a.bin: a b"),
    ],
)
def test_whatever_is_raised_names_the_file(raised, message):
    with pytest.raises(UserError) as caught, reading("a.bin"):
        raise raised
    assert str(caught.value) == message
    assert caught.value.__cause__ is raised


def test_errors_of_the_project_pass_as_they_are():
    with pytest.raises(UserError, match="^mine$"), reading("a.bin"):
        raise UserError("mine")
    with pytest.raises(Bad, match="^mine$"), reading("a.bin", Bad):
        raise Bad("mine")
    with pytest.raises(KeyboardInterrupt), reading("a.bin"):
        raise KeyboardInterrupt


def test_text_of_another_encoding_names_byte_and_line(tmp_path):
    (tmp_path / "latin").write_bytes("path,label\na,caf\xe9\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin is not UTF-8 \(byte 16, line 2\): save it as UTF-8"):
        read_text(tmp_path / "latin")
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfcaf\xe9")
    with pytest.raises(UserError, match=r"byte 6, line 1"):
        read_text(tmp_path / "bom")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named(encoding):
    mark = {"utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    with pytest.raises(UserError, match=f"names is {encoding.upper()[:6]}, not UTF-8"):
        decode_text(mark + "cat".encode(encoding), "names")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", r"holds \[1\], not an object"),
        (b"null", "holds None"),
        (b"{", "is not JSON: Expecting property name"),
        (b"[" * 100_000, "cannot be read as JSON|is not JSON"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_json_that_is_not_what_is_wanted(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json.*" + message):
        read_json(tmp_path / "a.json")


def test_json_that_is(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([1, "caf\u00e9"]))
    assert read_json(tmp_path / "a.json", list) == [1, "caf\u00e9"]
    assert parse_json(b'{"a": null}', "here") == {"a": None}
