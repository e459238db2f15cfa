"""Says in words what bytes are that a decoder cannot read: a web page, a pointer of Git LFS, a photo of an iPhone."""

import re

_MARKS = (
    (
        b"version https://git-lfs",
        "it is a pointer of Git LFS, not the file itself: run `git lfs pull` in its repository",
    ),
    (b"%!PS", "it is PostScript (EPS), which is not read, since that would run another program: convert it to PNG"),
    (b"%PDF", "it is a PDF, not an image: convert its pages to PNG"),
    (b"\x00\x00\x00\x0cJXL ", "it is JPEG XL, which is not read: convert it to JPEG or PNG"),
    (b"\xff\x0a", "it is JPEG XL, which is not read: convert it to JPEG or PNG"),
    (b"8BPS", "it is a Photoshop file, which is not read: convert it to PNG"),
    (b"\x00\x00\x01\x00", "it is an icon (ICO), which is not read: convert it to PNG"),
    (b"PK\x03\x04", "it is a ZIP archive: unpack it"),
    (b"\x1f\x8b", "it is compressed by gzip: unpack it"),
)
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_PAGE = re.compile(rb"\s*<(!doctype|html|head|body|\?xml|svg|error)", re.IGNORECASE)
_TEXT = re.compile(rb"[\t\n\r -~]+")
_SHOWN = 40  # bytes of a text that a message quotes


def describe_bytes(data: bytes) -> str:
    """Says what bytes are that are not what they should be.

    Args:
      data: Content of a file.

    Returns:
      The words; empty if the kind of the bytes is unknown.

    >>> describe_bytes(b"")
    'the file is empty'
    >>> describe_bytes(b"<!DOCTYPE html><title>404</title>")
    'it is a web page (HTML), as a failed download leaves it: download it again'
    """
    if not data:
        return "the file is empty"
    for mark, words in _MARKS:
        if data.startswith(mark):
            return words
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        return "it is HEIC, which is not read: convert it to JPEG or PNG"
    if words := describe_page(data):
        return words
    text = data.removeprefix(b"\xef\xbb\xbf")[:256]
    if _TEXT.fullmatch(text):
        shown = " ".join(text[:_SHOWN].decode("ascii").split())
        return f"it is a text that begins with {shown!r}"
    if not data.strip(b"\0"):
        return f"all its {len(data):,} bytes are 0, as an unfinished copy leaves it: copy it again"
    return ""


def describe_page(data: bytes) -> str:
    """Says whether bytes are a web page or XML, whatever the name of the file.

    Args:
      data: Content of a file.

    Returns:
      The words; empty if the bytes are neither.
    """
    match = _PAGE.match(data.removeprefix(b"\xef\xbb\xbf")[:256])
    if not match:
        return ""
    if match[1].lower() == b"svg" or b"<svg" in data[:1024]:
        return "it is a drawing in SVG, which is not read: convert it to PNG"
    kind = "XML, such as the message of a server" if match[1].lower() in (b"?xml", b"error") else "a web page (HTML)"
    return f"it is {kind}, as a failed download leaves it: download it again"
