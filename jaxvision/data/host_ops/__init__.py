"""What must be done on the host: decode a picture and bring it to a size. uint8 in, uint8 out.

A host spec is a chain such as `"decode|random_resized_crop(224)"`. Its operations change the images of an example, move
all fields that lie in them alike, and leave other fields as they are; everything that need not happen here (flips,
colour, mixing, normalisation) runs on the device, in `augment/`.

    base.py      what an operation is: a function of an example that says what it makes of the fields
    placing.py   how segmentations, boxes and points move with an image
    decode.py    from the bytes of image files to pixels
    crop.py      cutting and padding
    resize.py    resizing, with or without cutting; the default is Pillow's bilinear filter, whose support grows with
                 the reduction (antialiased), the one of torchvision on Pillow images
    boxes.py     which boxes are dropped, and boxes in any number as arrays of one shape
    sizes.py     their arguments

Operations on texts lie in `data/text/host.py`.
"""

from collections.abc import Collection, Mapping, Sequence

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
    "make",
    "moves",
    "serving",
]

CLASS_NAME = "/class_name"  # the field in which operations find the name of the class of an example; no set's own
STANDARD = {"image": Field("image", (None, None, 3), "bytes")}


class Chain:
    """The operations of a host spec, one after the other: `chain(example, rng) -> example`.

    Attributes:
      fields: The fields that come out, of those that went in.
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
        # A label beyond the names, like the -1 of a test split of TFDS that hides its labels, has no name.
        if self._classes and is_whole(label := example.get("label"), least=0) and label < len(self._classes):
            example = {**example, CLASS_NAME: self._classes[label]}
        for call, op in zip(self._calls, self._ops):
            with reading_fields(f"host operation {call}", example):
                example = op(example, rng)
        for name in self._images:
            if isinstance(image := example.get(name), Jpeg):
                example = {**example, name: image.pixels()}
        return example

    def check(self, names: Sequence[str]) -> None:
        """Raises UserError where a field of a batch has another number of rows in every example."""
        for name in names:
            field = self.fields.get(name)
            if field is None or not field.shape or field.shape[0] is not None:
                continue
            if field.kind == "boxes":
                what, needed = "holds boxes", ""
            elif field.of is not None and field.kind not in ("image", *PLACED):
                what = f"belongs to the boxes {field.of!r}"
                needed = "" if field.of in self.fields else f"name {field.of!r} in data.fields too, and "
            else:
                continue
            raise UserError(
                f"the field {name!r} {what}, of which every example has another number: {needed}add pad_boxes(16), or "
                "as many as there are, to the host spec"
            )


def make(spec: str, classes: Sequence[str] = (), fields: Mapping[str, Field] | None = None) -> Chain:
    """Builds the chain of a host spec: `fn(example, rng) -> example`, with uint8 [H, W, 3] images.

    Args:
      spec: operations joined by `|`.
      classes: names of the classes of the examples, for operations that make text of them.
      fields: Fields of the examples that are of concern; an encoded `image` by default.

    Raises:
      UserError: the spec cannot be read, or names an operation or arguments that there are not, or one of its
        operations and a field do not go together.

    >>> shrink = make("resize(8)|central_crop(4)")
    >>> shrink({"image": np.zeros((20, 30, 3), np.uint8)}, None)["image"].shape
    (4, 4, 3)
    """
    return Chain(spec, classes, STANDARD if fields is None else fields)


def serving(spec: str, kinds: Collection[str]) -> str:
    """A host spec without the operations that serve only fields of other kinds, as `pad_boxes` and `tokenize` do.

    >>> serving("decode|pad_boxes(3)|resize(4)", ["image"]), serving("decode|pad_boxes(3)", ["boxes"])
    ('decode|resize(4)', 'decode|pad_boxes(3)')
    """
    calls = [(call, host_ops.more(call, "serves")) for call in parse(spec)]
    return "|".join(str(call) for call, serves in calls if serves is None or set(serves) & set(kinds))


def moves(spec: str) -> bool:
    """Whether an operation of the spec may move pixels, and with them what lies in an image.

    >>> moves("decode"), moves("decode|resize(8)")
    (False, True)
    """
    calls = parse(spec)
    keep = [host_ops.more(call, "keeps_places", False) for call in calls]
    return any(getattr(op, "moves", not keeps) for op, keeps in zip(host_ops.build(spec), keep))
