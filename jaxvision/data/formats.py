"""The image formats that the project reads, defined once for sources, `predict`, `search` and the decoder."""

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
# Largest number of pixels that is decoded unless a config says otherwise: 67 million. As RGB they take 201 MB, and
# converting palettes or CMYK up to three times as much. The largest photograph of ImageNet has 61 million.
MAX_PIXELS = 2**26
MAX_SCANS = 250  # scans of a progressive JPEG; each takes as long as the whole picture, and cameras write about ten
IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)


def is_image_name(name: str | PurePath) -> bool:
    """Returns whether a file name ends like an image that can be read, in upper or lower case.

    Args:
      name: File name or path.

    >>> is_image_name("a/B.JPG"), is_image_name("notes.txt")
    (True, False)
    """
    return str(name).lower().endswith(IMAGE_SUFFIXES)
