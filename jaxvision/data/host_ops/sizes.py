"""Arguments of host operations: sizes in pixels, and what messages say of them."""

import numbers

from jaxvision.arguments import MAX_SIDE, is_whole
from jaxvision.errors import UserError, shown


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width, of one number or two."""
    both = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(both) != 2 or not all(map(is_whole, both)) or max(both) > MAX_SIDE:
        raise UserError(
            f"a size is a whole number of pixels or two, (height, width), at most {MAX_SIDE:,}, not {shown(size)}"
        )
    return int(both[0]), int(both[1])


def side(op: str, size: int) -> int:
    """A number of pixels."""
    if not is_whole(size) or size > MAX_SIDE:
        raise UserError(f"{op}: size is a whole number of pixels, at most {MAX_SIDE:,}, not {shown(size)}")
    return int(size)  # one of NumPy may overflow


def is_range(value: object) -> bool:
    """Whether an argument is two numbers, (low, high) with 0 < low <= high."""
    both = value if isinstance(value, tuple | list) else ()
    return len(both) == 2 and all(isinstance(x, numbers.Real) for x in both) and 0 < both[0] <= both[1]


def free(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """How many rows and columns a crop of `size` leaves.

    Raises:
      UserError: The image is smaller.
    """
    left = height - size[0], width - size[1]
    if min(left) < 0:
        raise UserError(
            f"cannot cut {size[0]}x{size[1]} out of an image of {height}x{width} pixels: "
            "put resize, resize_short or pad before the crop in the host spec"
        )
    return left


def further(method: str) -> str:
    """The argument of a method that is not the default, to be written behind others."""
    return "" if method == "bilinear" else f", method={method!r}"
