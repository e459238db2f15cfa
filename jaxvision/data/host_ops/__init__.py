"""Work that must be done on the host: decode a picture and bring it to a size. uint8 in, uint8 out.

A host spec is a chain such as `"decode|random_resized_crop(224)"`. Its operations change the images of an example, move
all fields that have a place in them in the same way, and leave other fields as they are. All else (flips, colour,
mixing, normalisation) runs on the device, in `augment/`.

    base.py      the interface of an operation: a function of an example, and its effect on the fields
    placing.py   how segmentations, boxes and points move with an image
    decode.py    from the bytes of image files to pixels
    crop.py      cutting and padding
    resize.py    resizing, with or without cutting; the default is Pillow's bilinear filter, whose support grows with
                 the reduction (antialiased), as torchvision uses it on Pillow images
    boxes.py     dropping boxes, and padding a variable number of boxes to arrays of one shape
    sizes.py     their arguments

Operations on texts are in `data/text/host.py`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxvision.arguments import is_whole
from jaxvision.data.decoding import BadImage, Jpeg
from jaxvision.data.host_ops.base import HostOp, Moving, Scene, Still, bind, host_ops
from jaxvision.errors import UserError, reading_fields
from jaxvision.fields import PLACED, Field
from jaxvision.specs import parse

__all__ = [
    "CLASS_NAME",
    "BadImage",
    "Chain",
    "HostOp",
    "Moving",
    "Scene",
    "Still",
    "host_ops",
    "make_chain",
    "moves",
    "serving",
]

CLASS_NAME = "/class_name"  # field with the name of the class of an example, for operations; no set has it
STANDARD = {"image": Field("image", (None, None, 3), "bytes")}


class Chain:
    """The operations of a host spec, one after the other: `chain(example, rng) -> example`.

    Args:
      spec: Host spec.
      classes: Names of the classes of the examples.
      fields: Fields of the examples.

    Attributes:
      fields: Fields of the result.
    """

    def __init__(self, spec: str, classes: Sequence[str], fields: Mapping[str, Field]):
        self._classes, self._calls = tuple(classes), parse(spec)
        self._ops, scene = [], Scene(fields)
        for call, op in zip(self._calls, host_ops.build(spec)):
            apply, scene = bind(op, str(call), scene, host_ops.more(call, "keeps_places", False))
            self._ops.append(apply)
        self.fields = dict(scene.fields)
        self._images = scene.images()

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        label: Any = example.get("label")
        # A label out of range, like the -1 of a test split of TFDS that hides its labels, has no name.
        if self._classes and is_whole(label, least=0) and label < len(self._classes):
            example = {**example, CLASS_NAME: self._classes[label]}
        for call, op in zip(self._calls, self._ops):
            with reading_fields(f"host operation {call}", example):
                example = op(example, rng)
        for name in self._images:
            if isinstance(image := example.get(name), Jpeg):
                example = {**example, name: image.pixels()}
        return example

    def check(self, names: Sequence[str]) -> None:
        """Checks that no field of a batch has a number of rows that differs between examples.

        Args:
          names: Names of the fields of a batch.

        Raises:
          UserError: A field has.
        """
        for name in names:
            field = self.fields.get(name)
            if field is None or not field.shape or field.shape[0] is not None:
                continue
            if field.kind == "boxes":
                reason, needed = "holds boxes", ""
            elif field.of is not None and field.kind not in ("image", *PLACED):
                reason = f"belongs to the boxes {field.of!r}"
                needed = "" if field.of in self.fields else f"name {field.of!r} in data.fields too, and "
            else:
                continue
            raise UserError(
                f"the field {name!r} {reason}, whose number differs between examples: {needed}add pad_boxes(16), or "
                "the largest number of boxes, to the host spec"
            )


def make_chain(spec: str, classes: Sequence[str] = (), fields: Mapping[str, Field] | None = None) -> Chain:
    """Builds the chain of a host spec: `chain(example, rng) -> example`, with uint8 [h, w, 3] images.

    Args:
      spec: Operations joined by `|`.
      classes: Names of the classes of the examples, for operations that make text from them.
      fields: Fields of the examples that matter; an encoded `image` by default.

    Raises:
      UserError: The spec cannot be parsed, names an operation or argument that does not exist, or has an operation that
        does not fit a field.

    >>> shrink = make_chain("resize(8)|central_crop(4)")
    >>> shrink({"image": np.zeros((20, 30, 3), np.uint8)}, None)["image"].shape
    (4, 4, 3)
    """
    return Chain(spec, classes, STANDARD if fields is None else fields)


def serving(spec: str, kinds: Collection[str]) -> str:
    """Returns a host spec without the operations that serve only other kinds of fields, as `pad_boxes` does.

    Args:
      spec: Host spec.
      kinds: Kinds of fields that are needed, keys of `fields.KINDS`.

    >>> serving("decode|pad_boxes(3)|resize(4)", ["image"]), serving("decode|pad_boxes(3)", ["boxes"])
    ('decode|resize(4)', 'decode|pad_boxes(3)')
    """
    calls = [(call, host_ops.more(call, "serves")) for call in parse(spec)]
    return "|".join(str(call) for call, serves in calls if serves is None or set(serves) & set(kinds))


def moves(spec: str) -> bool:
    """Returns whether an operation of the spec may move pixels, and with them the fields that have a place in an image.

    Args:
      spec: Host spec.

    >>> moves("decode"), moves("decode|resize(8)")
    (False, True)
    """
    calls = parse(spec)
    keep = [host_ops.more(call, "keeps_places", False) for call in calls]
    return any(getattr(op, "moves", not keeps) for op, keeps in zip(host_ops.build(spec), keep))
