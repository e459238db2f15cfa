"""Arguments of host operations: sizes in pixels, and their texts."""

import numbers

from jaxvision.arguments import MAX_SIDE, is_whole
from jaxvision.errors import UserError, shown


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width), from one number or two.

    Args:
      size: Side, or (height, width), in pixels.

    Raises:
      UserError: It is no such size.

    >>> pair(8), pair((4, 6))
    ((8, 8), (4, 6))
    """
    both = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(both) != 2 or not all(map(is_whole, both)) or max(both) > MAX_SIDE:
        raise UserError(
            f"a size is a whole number of pixels or two, (height, width), at most {MAX_SIDE:,}, not {shown(size)}"
        )
    return int(both[0]), int(both[1])


def side(op: str, size: int) -> int:
    """Checks and returns a number of pixels.

    Args:
      op: Name of the operation, for the message.
      size: Number of pixels.

    Raises:
      UserError: It is no number of pixels.
    """
    if not is_whole(size) or size > MAX_SIDE:
        raise UserError(f"{op}: size is a whole number of pixels, at most {MAX_SIDE:,}, not {shown(size)}")
    return int(size)  # an integer of NumPy may overflow


def is_range(value: object) -> bool:
    """Returns whether an argument is two numbers (low, high) with 0 < low <= high.

    Args:
      value: Argument.
    """
    both = value if isinstance(value, tuple | list) else ()
    return len(both) == 2 and all(isinstance(x, numbers.Real) for x in both) and 0 < both[0] <= both[1]


def free(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the number of rows and columns that a crop leaves.

    Args:
      height: Height of the image in pixels.
      width: Width of the image in pixels.
      size: (height, width) of the crop.

    Raises:
      UserError: The image is smaller.
    """
    rest = height - size[0], width - size[1]
    if min(rest) < 0:
        raise UserError(
            f"cannot cut {size[0]}x{size[1]} out of an image of {height}x{width} pixels: "
            "put resize, resize_short or pad before the crop in the host spec"
        )
    return rest


def further(method: str) -> str:
    """Returns the text of the argument `method` to append to others; empty for the default.

    Args:
      method: Filter, a key of `resizing.METHODS`.
    """
    return "" if method == "bilinear" else f", method={method!r}"
