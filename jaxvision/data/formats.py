"""The image formats that the project reads, said once: sources, `predict`, `search` and the decoder go by them."""

from pathlib import PurePath

# Pillow's name of a format -> the suffixes of its files. Formats of Pillow that are not here are refused: some run
# another program (EPS starts Ghostscript), some read other files, and none of them holds photographs.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),
}
# Pixels of the largest image that is decoded unless a config says otherwise: 67 million, of which RGB takes 201 MB, and
# the conversion of palettes and CMYK up to three times as much. The largest photograph of ImageNet has 61 million.
MAX_PIXELS = 2**26
MAX_SCANS = 250  # of a progressive JPEG; each takes the time of the whole picture, and cameras write some ten
IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)


def is_image_name(name: str | PurePath) -> bool:
    """True where a file name ends like an image that can be read, in upper or lower case.

    >>> is_image_name("a/B.JPG"), is_image_name("notes.txt")
    (True, False)
    """
    return str(name).lower().endswith(IMAGE_SUFFIXES)
