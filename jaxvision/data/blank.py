"""A stand-in for a set that is absent: one example made from the description of its fields."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxvision.arguments import is_whole
from jaxvision.data.host_ops import CLASS_NAME
from jaxvision.data.sources.base import Info, Source, standard_fields
from jaxvision.fields import Field

SIDE = 256  # pixels, the side of an image if nothing is known of it


class Blank(Source):
    """One example whose numbers are all 0, with a few words as its texts: a black image of the first class.

    Args:
      info: Description of the set. Where lengths of a field are unknown, those of images and of what covers them are
        `side`, and others 1.
      side: Side of images in pixels, or (height, width); `SIDE` if None.
    """

    def __init__(self, info: Info, side: int | tuple[int, int] | None = None):
        self.info = info
        size = (side, side) if is_whole(side) else side or (SIDE, SIDE)
        self._size: tuple[int, ...] = tuple(size)  # type: ignore[arg-type]  # `is_whole` is no type guard

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        fields = {**standard_fields(self.info), **self.fields}
        fields.setdefault("label", Field("label", (), "int32"))
        return {name: self._value(name, fields) for name in fields} | {CLASS_NAME: "class"}

    def _value(self, name: str, fields: Mapping[str, Field]) -> Any:
        field = fields[name]
        if field.kind == "text":
            return "a text"
        shape = list(field.shape)
        if field.kind in ("image", "segmentation"):
            size: Sequence[int] = self._size
            if field.kind == "segmentation" and field.of is not None and field.of in fields:
                size = [of or side for of, side in zip(_spatial(fields[field.of]), size)]
            at = 0 if field.kind == "segmentation" or len(shape) == 2 else len(shape) - 3
            shape[at : at + 2] = [length or side for length, side in zip(shape[at : at + 2], size)]
        dtype = np.uint8 if field.dtype == "bytes" else field.dtype
        return np.zeros([length or 1 for length in shape], dtype)[()]  # scalars as numbers, as sources give them


def _spatial(image: Field) -> tuple[int | None, ...]:
    return image.shape[-3:-1] if len(image.shape) >= 3 else image.shape
