"""Segmentation masks of a user's images: a folder of index PNGs with the names of the images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxvision.commands.image_files import printable
from jaxvision.errors import UserError, some

NAMES = "concepts.txt"
INDEX_MODES = ("1", "L", "P", "I", "I;16")  # of Pillow: one number for each pixel


def mask_of(folder: Path, file: str) -> Path:
    """Returns the mask of an image: the PNG of the same name in the folder of masks.

    Args:
      folder: Folder of the masks.
      file: Image file.

    Raises:
      UserError: There is no such mask.
    """
    path = folder / f"{Path(file).stem}.png"
    if path.is_file():
        return path
    if not folder.is_dir():
        raise UserError(f"--masks={folder} is no folder: give a folder of PNG files with the names of the images")
    there = sorted(one.name for one in folder.glob("*.png"))
    names = f"the folder has {some(there, most=3)}" if there else "the folder has no PNG files"
    raise UserError(f"--masks: {printable(file)} has no mask {printable(str(path))}; {names}")


def read_mask(path: Path) -> np.ndarray:
    """Reads a mask, whose pixels are numbers of concepts; of a PNG with a palette, the indices.

    Args:
      path: PNG file.

    Returns:
      int32 [h, w]: 0 for no concept, 255 for pixels that do not count.

    Raises:
      UserError: The file is no picture, or one of colours.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            mode, pixels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: a broken PNG
        raise UserError(f"--masks: {printable(str(path))} cannot be read: {error}") from None
    if mode not in INDEX_MODES:
        raise UserError(
            f"--masks: {printable(str(path))} is a picture of colours (mode {mode}), not of numbers of concepts: save "
            "it with one channel or with a palette (mode L or P)"
        )
    return pixels.astype(np.int32)


def read_names(folder: Path, masks: Sequence[np.ndarray]) -> tuple[str, ...]:
    """Reads the names of the concepts: line by line those of 0, 1, ... in the file concepts.txt, if it is there.

    Args:
      folder: Folder of the masks.
      masks: Masks, int [h, w]; their numbers must have names.

    Raises:
      UserError: The file is no text, or a number has no line.
    """
    path = folder / NAMES
    if not path.is_file():
        return ()
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--masks: {path} cannot be read: {error}") from None
    largest = max((int(mask[mask != 255].max(initial=0)) for mask in masks), default=0)
    if largest >= len(names):
        raise UserError(
            f"--masks: the masks hold the number {largest}, and {path} has {len(names)} lines, one for each number "
            "from 0 on (0 is the background): add the missing lines"
        )
    return tuple(name.strip() for name in names)
