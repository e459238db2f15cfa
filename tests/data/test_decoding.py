"""What comes out of files that decoders stumble over: the picture, or a reason in words."""

import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from jaxvision.data import decoding, formats, signatures
from jaxvision.data.decoding import BadImage


def pixels(data, max_pixels=10**6):
    image = decoding.read_image(data, max_pixels)
    return image.pixels(fast=False) if isinstance(image, decoding.Jpeg) else image


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def frame_header(data):
    """Where the SOF segment of a JPEG begins."""
    at = 2
    while not (0xC0 <= data[at + 1] <= 0xC3):
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def jpeg(picture, sampling, changes):
    """A JPEG with bytes of its frame header changed: {offset in the SOF segment: byte}."""
    data = bytearray(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), 95, "RGB", sampling))
    for offset, byte in changes.items():
        data[frame_header(data) + offset] = byte
    return bytes(data)


@pytest.mark.parametrize(
    ("sampling", "changes"),
    [
        ("411", {11: 0x14}),  # 4:4:1, which simplejpeg decodes and has no name for
        ("420", {11: 0x21, 14: 0x12}),  # the colours sampled differently, which it does not decode
        ("411", {}),
        ("440", {}),
    ],
)
def test_samplings_of_jpeg_are_those_of_pillow(photo, sampling, changes):
    data = jpeg(photo(0, 64, 64), sampling, changes)  # as many blocks, whichever way a block lies
    np.testing.assert_array_equal(pixels(data), by_pillow(data))


def test_a_damaged_jpeg_of_an_unnamed_sampling_is_refused(photo):
    data = jpeg(photo(0, 64, 64), "411", {11: 0x14})
    with pytest.raises(BadImage, match="Premature end"):
        pixels(data[:-200])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({4: 12}, "precision 12"),
        ({5: 0, 6: 0}, "begins like JPEG, but is damaged"),  # no rows
        ({1: 0xC3}, "color conversion|broken data stream"),  # lossless
    ],
)
def test_kinds_of_jpeg_that_are_not_read(photo, changes, words):
    with pytest.raises(BadImage, match=words):
        pixels(jpeg(photo(0, 64, 64), "444", changes))


def bmp_of_no_width(photo):
    data = bytearray(saved(Image.fromarray(photo(0)), "BMP"))
    data[18:22] = struct.pack("<i", 0)
    return bytes(data)


WORDS = {
    b"": "^the file is empty$",
    b"\n<!doctype HTML>\n<p>404": "web page",
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>": "it is XML",
    b"<?xml version='1.0'?>\n<svg width='3'/>": "SVG",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n": "git lfs pull",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic": "HEIC, which is not read: convert it",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n": "PostScript",
    b'{"error": "quota"}': r"a text that begins with '\{\"error\": \"quota\"\}'",
    bytes(4096): "all its 4,096 bytes are 0",
    b"\x89\x50\x01\x02" * 9: "none of the formats that are read: JPEG, PNG",
    b"PK\x03\x04....": "ZIP",
}


@pytest.mark.parametrize("data", WORDS, ids=range(len(WORDS)))
def test_what_is_no_image_is_said_in_words(data):
    with pytest.raises(BadImage, match=WORDS[data]):
        pixels(data)


@pytest.mark.parametrize("kind", formats.FORMATS)
@pytest.mark.parametrize("share", [0.03, 0.6])
def test_a_truncated_file_of_any_format_is_said_to_be_one(photo, kind, share):
    data = saved(Image.fromarray(photo(0)), kind)
    with pytest.raises(BadImage, match="damaged or truncated|Premature end"):
        pixels(data[: int(share * len(data))])


def test_only_the_formats_of_the_project_are_tried(monkeypatch):
    Image.init()
    tried = []

    def factory(kind):
        return lambda file, name: tried.append(kind)

    for kind in Image.OPEN:
        if kind not in formats.FORMATS:
            monkeypatch.setitem(Image.OPEN, kind, (factory(kind), lambda prefix: True))
    for data in (b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", saved(Image.new("L", (4, 4)), "PCX")):
        with pytest.raises(BadImage):
            pixels(data)
    assert not tried, "EPS would start Ghostscript"


@pytest.mark.parametrize(
    "error", [KeyError(6), MemoryError(), Image.DecompressionBombError("bomb"), SystemError("nil")]
)
def test_whatever_a_decoder_raises_is_a_bad_image_with_words(photo, monkeypatch, error):
    def fails(*_, **__):
        raise error

    jpeg, png = saved(Image.fromarray(photo(0)), "JPEG"), saved(Image.fromarray(photo(0)).convert("L"), "PNG")
    monkeypatch.setattr(simplejpeg, "decode_jpeg", fails)
    with pytest.raises(BadImage, match=r"\w{3}"):
        pixels(jpeg)
    monkeypatch.setattr(Image.Image, "convert", fails)
    with pytest.raises(BadImage, match=r"the PNG is damaged or truncated: \w{3}"):
        pixels(png)


def test_sizes_are_checked_before_room_is_made(monkeypatch):
    Image.init()
    body = (
        b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + (2**20).to_bytes(3, "little") + (99).to_bytes(3, "little")
    )
    monkeypatch.setitem(Image.OPEN, "WEBP", (lambda *_: pytest.fail("opened"), Image.OPEN["WEBP"][1]))
    with pytest.raises(BadImage, match=r"1048577x100 pixels, and decode\(max_pixels=1000000\)"):
        pixels(b"RIFF" + struct.pack("<I", len(body)) + body)


@pytest.mark.parametrize(
    "before", [b"", b"\xff\x01", b"\xff\xff", b"\xff\xda\0\x08\3\0\0\0\0\0", b"\xff\xe0\0\x04\xff\xda"]
)
def test_a_jpeg_of_too_many_scans_is_refused_whatever_comes_before(before):
    data = saved(Image.new("RGB", (16, 16)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    many = data[:2] + before + data[2:last] + data[last:-2] * 300 + b"\xff\xd9"
    with pytest.raises(decoding.BadImage):
        decoding.read_image(many, 1000).cut((0, 0, 16, 16), (8, 8))


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"comment": b"\xff\xda"}, {"progressive": True}])
def test_scans_are_counted_only_where_the_header_does_not_say_that_there_is_one(photo, options):
    data = saved(Image.fromarray(photo(0, 64, 64)), "JPEG", **options)
    assert decoding._has_one_scan(data) == ("progressive" not in options)
    assert not decoding._has_one_scan(data[:30])


def test_an_image_of_no_pixels(photo):
    with pytest.raises(BadImage):
        pixels(bmp_of_no_width(photo))
    with pytest.raises(BadImage, match="0x5 pixels, so there is nothing in it"):
        decoding._check_size(0, 5, 9)


@pytest.mark.parametrize(
    "mode_and_kind", ["CMYK TIFF", "P TIFF", "1 TIFF", "LAB TIFF", "1 BMP", "P BMP", "LA TIFF", "L PPM"]
)
def test_odd_modes_are_those_of_pillow(photo, mode_and_kind):
    mode, kind = mode_and_kind.split()
    data = saved(Image.fromarray(photo(0)).convert(mode), kind)
    np.testing.assert_array_equal(pixels(data), by_pillow(data))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_frames_or_pages_the_first_is_taken(photo, kind):
    first, second = (Image.fromarray(photo(i)) for i in range(2))
    options = {"lossless": True} if kind == "WEBP" else {}
    alone = saved(first, "JPEG" if kind == "MPO" else kind, **options)
    both = saved(first, kind, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(pixels(both), by_pillow(alone))


GREY = np.arange(65536, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG2000", "PPM"])
def test_sixteen_bits_keep_their_high_byte(kind):
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(GREY), kind))[..., 0], GREY >> 8)


def test_a_tiff_whose_white_is_zero_is_inverted():
    data = saved(Image.fromarray(GREY), "TIFF")
    entry = struct.pack("<HHI", 262, 3, 1)  # photometric interpretation, a short
    at = data.index(entry) + len(entry)
    assert data[at] == 1
    np.testing.assert_array_equal(pixels(data[:at] + b"\0" + data[at + 1 :])[..., 0], 255 - (GREY >> 8))


@pytest.mark.parametrize(("dtype", "words"), [(np.float32, "floating-point"), (np.int32, "32 bits")])
def test_pixels_without_a_known_range_are_refused(dtype, words):
    with pytest.raises(BadImage, match=words):  # Pillow would clip them at 255: all black, or all white
        pixels(saved(Image.fromarray((GREY / 65535).astype(dtype)), "TIFF"))


def test_a_damaged_exif_costs_no_more_than_the_way_up(photo):
    picture = Image.fromarray(photo(0))
    junk = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(9)
    for data in (saved(picture, "JPEG", exif=junk), saved(picture, "WEBP", lossless=True, exif=junk)):
        np.testing.assert_array_equal(pixels(data), by_pillow(data))
    png = saved(picture, "PNG")
    body = b"eXIf" + b"zz*zzzzz"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    np.testing.assert_array_equal(pixels(png[:33] + chunk + png[33:]), photo(0))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "an array of float32, not uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
    ],
)
def test_arrays_that_are_no_pictures(array, words):
    with pytest.raises(BadImage, match=words):
        decoding.three_channels(array)


def test_what_is_no_bytes():
    for value in ("a.jpg", None, 3):
        with pytest.raises(BadImage, match="not the bytes of an image file"):
            decoding.read_image(value, 9)


def test_described_says_nothing_of_an_image(photo):
    assert signatures.describe_bytes(saved(Image.fromarray(photo(0)), "PNG")) == ""
