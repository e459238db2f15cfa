"""What the fields of an example are: images, segmentations, boxes, points, labels, texts, tokens, or something else.

A source says it of every field that it gives (`source.info.fields`), the checkpoint carries it, and operations read it:
one that moves pixels moves every field that has a place in the image.
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
PLACED = ("segmentation", "boxes", "points")  # kinds that lie in an image and move with it


class Field(NamedTuple):
    """A field of an example.

    Attributes:
      kind: Key of `KINDS`.
      shape: Lengths of the axes of one example, None where examples differ.
      dtype: NumPy's name of the type of its numbers, "bytes" for an encoded image, "str" for text.
      classes: Number of classes of a label or a segmentation, None where it has none.
      names: Names of the classes; empty where they are not known.
      of: Name of the field to which this one belongs: for a segmentation, boxes or points the image in which they lie,
        for the labels of boxes the boxes. None where it stands for itself.
      views: Number of views of an example, which stand on an axis before those of `shape`; 0 for no such axis.
    """

    kind: str
    shape: tuple[int | None, ...] = ()
    dtype: str = "float32"
    classes: int | None = None
    names: tuple[str, ...] = ()
    of: str | None = None
    views: int = 0


def to_json(fields: Mapping[str, Field]) -> dict[str, dict[str, Any]]:
    """The fields as plain values, as a checkpoint holds them."""
    return {name: field._asdict() for name, field in fields.items()}


def from_json(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Field]:
    """The inverse of `to_json`.

    Raises:
      UserError: An entry that is no field, or of an unknown kind.

    >>> fields = {"label": Field("label", (), "int32", classes=2, names=("cat", "dog"))}
    >>> from_json(to_json(fields)) == fields
    True
    """
    found = {}
    for name, values in fields.items():
        try:
            field = Field(**values)
        except TypeError as error:
            raise UserError(f"cannot read the field {name!r}: {error}") from None
        if field.kind not in KINDS:
            raise unknown(f"kind of the field {name!r}", field.kind, KINDS)
        found[name] = field._replace(shape=tuple(field.shape), names=tuple(field.names))
    return found


def placed(fields: Mapping[str, Field], image: str) -> dict[str, Field]:
    """The fields that lie in the image of that name, and so move with it."""
    return {name: field for name, field in fields.items() if field.kind in PLACED and field.of == image}
