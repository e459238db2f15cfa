"""What the fields of an example are: images, segmentations, boxes, points, labels, texts, tokens, or something else.

A source describes every field that it gives (`source.info.fields`), and a checkpoint stores the descriptions.
Operations read them: one that moves pixels also moves every field that has a place in the image.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxvision.errors import UserError, unknown

KINDS = {
    "image": "colours: uint8 [H, W, 3], or the bytes of a file",
    "segmentation": "a class or an instance for every pixel: integers [H, W] or [H, W, 1]",
    "boxes": "float32 [n, 4] in pixels, x1 y1 x2 y2 from the upper left corner of the image",
    "points": "float32 [n, 2] in pixels, x y, or [n, 3] with the visibility",
    "label": "int32 [] or [n], -1 for none; or float32 [K], a share of each class",
    "text": "a str, or several that say the same",
    "tokens": "int32 [L] or [n, L]",
    "other": "any numbers, which operations leave as they are",
}
PLACED = ("segmentation", "boxes", "points")  # kinds that have a place in an image and move with it


class Field(NamedTuple):
    """A field of an example.

    Attributes:
      kind: Key of `KINDS`.
      shape: Lengths of the axes of one example, None where examples differ.
      dtype: NumPy's name of the type of its numbers, "bytes" for an encoded image, "str" for text.
      classes: Number of classes of a label or a segmentation, None if it has none.
      names: Names of the classes; empty if they are unknown.
      of: Name of the field to which this one belongs: the image for a segmentation, boxes or points, the boxes for the
        labels of boxes. None for a field that belongs to no other.
      views: Number of views of an example, an axis before those of `shape`; 0 for no such axis.
    """

    kind: str
    shape: tuple[int | None, ...] = ()
    dtype: str = "float32"
    classes: int | None = None
    names: tuple[str, ...] = ()
    of: str | None = None
    views: int = 0


def to_json(fields: Mapping[str, Field]) -> dict[str, dict[str, Any]]:
    """Returns the fields as plain values, as a checkpoint stores them.

    Args:
      fields: Fields by name.
    """
    return {name: field._asdict() for name, field in fields.items()}


def from_json(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Field]:
    """Returns the fields that `to_json` wrote as plain values.

    Args:
      fields: Attributes of each field, by the name of the field.

    Raises:
      UserError: An entry is no field, or its kind is unknown.

    >>> fields = {"label": Field("label", (), "int32", classes=2, names=("cat", "dog"))}
    >>> from_json(to_json(fields)) == fields
    True
    """
    parsed = {}
    for name, values in fields.items():
        try:
            field = Field(**values)
        except TypeError as error:
            raise UserError(f"cannot read the field {name!r}: {error}") from None
        if field.kind not in KINDS:
            raise unknown(f"kind of the field {name!r}", field.kind, KINDS)
        parsed[name] = field._replace(shape=tuple(field.shape), names=tuple(field.names))
    return parsed


def placed_fields(fields: Mapping[str, Field], image: str) -> dict[str, Field]:
    """Returns the fields that have a place in one image, and so move with it.

    Args:
      fields: Fields of an example by name.
      image: Name of the image.

    >>> boxes = Field("boxes", (None, 4), of="image")
    >>> list(placed_fields({"boxes": boxes, "label": Field("label")}, "image"))
    ['boxes']
    """
    return {name: field for name, field in fields.items() if field.kind in PLACED and field.of == image}
