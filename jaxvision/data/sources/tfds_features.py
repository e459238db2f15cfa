"""What the features of a TFDS set are as fields: their kinds, shapes and classes, nested ones under their paths."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.features.bounding_boxes import bb_utils

from jaxvision.data.sources.base import label_field
from jaxvision.errors import UserError, shown, unknown
from jaxvision.fields import KINDS, PLACED, Field

_Format = bb_utils.BBoxFormat
# By format: which stored columns are x1 y1 x2 y2, and whether they are shares of the image. A set that TFDS wrote
# before it knew of formats names none.
BOX_FORMATS = {
    None: ((1, 0, 3, 2), True),
    _Format.REL_YXYX: ((1, 0, 3, 2), True),
    _Format.REL_XYXY: ((0, 1, 2, 3), True),
    _Format.YXYX: ((1, 0, 3, 2), False),
    _Format.XYXY: ((0, 1, 2, 3), False),
}


class Leaf(NamedTuple):
    """A feature that holds no others.

    Attributes:
      path: Names from the outside in.
      feature: The feature itself.
      lengths: Lengths of the sequences around it, None where examples differ.
    """

    path: tuple[str, ...]
    feature: Any
    lengths: tuple[int | None, ...] = ()


def leaves(features: Any, path: tuple[str, ...] = (), lengths: tuple[int | None, ...] = ()) -> dict[str, Leaf]:
    """The features that hold no others, by their paths with slashes between: `objects/bbox`."""
    while isinstance(features, tfds.features.Sequence):
        length = getattr(features, "_length", None)
        features, lengths = features.feature, (*lengths, length)
    if not isinstance(features, tfds.features.FeaturesDict):
        return {"/".join(path): Leaf(path, features, lengths)}
    found = {}
    for name, feature in features.items():
        found |= leaves(feature, (*path, name), lengths)
    return found


def find(known: Mapping[str, Leaf], path: str, name: str) -> Leaf:
    """The leaf of that path.

    Raises:
      UserError: There is no such feature in the set `name`, or it holds others.
    """
    if path in known:
        return known[path]
    inner = [other for other in known if other.startswith(f"{path}/")]
    if inner:
        variable = any(None in known[other].lengths for other in inner)
        padding = ", and pad what is there in any number with pad_boxes(n) in data.host" if variable else ""
        raise UserError(
            f"{path!r} of the data set {name!r} is no field but holds several: {', '.join(inner)}. Name those in its "
            f"place{padding}"
        )
    above = "/".join(path.split("/")[:-1])
    choices = [other for other in known if other.startswith(f"{above}/")] if above else []
    top = dict.fromkeys(leaf.path[0] for leaf in known.values())
    raise unknown(f"feature of the data set {name!r}", path, choices or {**top, **known})


def describe(
    paths: Mapping[str, str],
    known: Mapping[str, Leaf],
    kinds: Mapping[str, str],
    info: tuple[int | None, tuple[str, ...], bool],
) -> dict[str, Field]:
    """The fields of a set.

    Args:
      paths: Paths of the features by the names of their fields.
      known: The features of the set.
      kinds: Kinds by field or path, where the features do not tell them.
      info: Number of the classes of `label`, their names, and whether an example may be of several.

    Raises:
      UserError: A kind that there is not, or of a field that there is not.
    """
    for name, kind in kinds.items():
        if name not in paths and name not in paths.values():
            raise unknown("field of the option kinds", name, paths)
        if kind not in KINDS:
            raise unknown(f"kind of the field {name!r}", kind, KINDS)
    image = paths.get("image")
    fields = {}
    for name, path in paths.items():
        kind = kinds.get(name, kinds.get(path))
        fields[name] = _field(name, known[path], known.get(image), kind)
    if "label" in fields and fields["label"].kind == "label":
        count, names, several = info
        if count is not None or not known[paths["label"]].lengths:
            fields["label"] = label_field(count, names, several)
    for name, field in fields.items():
        if field.kind in PLACED:
            fields[name] = field._replace(of="image" if image else None)
        elif boxes := _boxes_beside(name, paths, known, fields):
            fields[name] = field._replace(of=boxes)
    return fields


def _boxes_beside(name: str, paths: Mapping[str, str], known: Mapping[str, Leaf], fields: Mapping[str, Field]) -> str:
    """The field of the boxes that stand in one sequence with another feature, or ""."""
    leaf = known[paths[name]]
    if not leaf.lengths:
        return ""
    for other, field in fields.items():
        beside = known[paths[other]]
        if field.kind == "boxes" and beside.path[:-1] == leaf.path[:-1] and beside.lengths == leaf.lengths[:1]:
            return other
    return ""


def _field(name: str, leaf: Leaf, image: Leaf | None, kind: str | None) -> Field:
    feature, lengths = leaf.feature, leaf.lengths
    shape = (*lengths, *(getattr(feature, "shape", None) or ()))
    dtype = np.dtype(getattr(feature, "np_dtype", np.float32))
    if kind is not None:
        classes = getattr(feature, "num_classes", None)
        return Field(kind, shape, "str" if kind == "text" else str(dtype), classes)
    if isinstance(feature, tfds.features.ClassLabel):
        return Field("label", lengths, "int32", feature.num_classes, tuple(feature.names or ()))
    if isinstance(feature, tfds.features.LabeledImage):
        return Field("segmentation", shape, str(dtype), feature.num_classes, tuple(feature.names or ()))
    if isinstance(feature, tfds.features.Image):
        if name != "image" and shape[-1] == 1:
            return Field("segmentation", shape, str(dtype))
        return Field("image", shape, "bytes" if name == "image" and not lengths else str(dtype))
    if isinstance(feature, tfds.features.BBoxFeature):
        return Field("boxes", shape if lengths else (1, 4), "float32")
    if dtype == np.object_:
        bytes_of_image = name == "image" and not isinstance(feature, tfds.features.Text)
        return Field("image", (None, None, 3), "bytes") if bytes_of_image else Field("text", (), "str")
    if name == "image":
        return Field("image", shape, str(dtype))
    if image is not None and dtype.kind in "iu" and _covers(shape, getattr(image.feature, "shape", None)):
        return Field("segmentation", shape, str(dtype))
    if name == "label" and dtype.kind in "iu":
        return Field("label", shape, "int32")
    return Field("other", shape, str(dtype))


def _covers(shape: Sequence[int | None], image: Sequence[int | None] | None) -> bool:
    """Whether an array of that shape has a value for every pixel of an image."""
    return image is not None and len(image) == 3 and tuple(shape) in (tuple(image[:2]), (*image[:2], 1))


def pixels(boxes: np.ndarray, feature: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Boxes as TFDS stores them, in pixels of an image.

    Args:
      boxes: float [n, 4] or [4].
      feature: The `BBoxFeature`, which says what its numbers are.
      size: Height and width of the image.
      where: The field, for messages.

    Returns:
      float32 [n, 4], x1 y1 x2 y2 from the upper left corner.

    Raises:
      UserError: Boxes in a format that is not read.

    >>> pixels(np.array([[0.25, 0.5, 0.75, 1.0]]), tfds.features.BBoxFeature(), (20, 40), "bbox")
    array([[20.,  5., 40., 15.]], dtype=float32)
    """
    form = getattr(feature, "bbox_format", None)
    if form not in BOX_FORMATS:
        raise UserError(f"{where} holds boxes in the format {form}, want {', '.join(f.name for f in BOX_FORMATS if f)}")
    columns, relative = BOX_FORMATS[form]
    found = np.asarray(boxes, np.float64).reshape(-1, 4)[:, columns]
    height, width = size
    return (found * (width, height, width, height) if relative else found).astype(np.float32)


def typed(value: Any, leaf: Leaf) -> Any:
    """A value as it is, but none of a sequence as an array of the type and shape of one: TFDS gives float64 [0]."""
    dtype = np.dtype(getattr(leaf.feature, "np_dtype", np.float32))
    if len(leaf.lengths) != 1 or dtype == np.object_ or np.size(value):
        return value
    return np.zeros((0, *leaf.feature.shape), dtype)


def check_image(where: str, leaf: Leaf) -> None:
    """Raises a UserError unless a feature is an image an example: of 8 or 16 bits, encoded or not."""
    feature, several = leaf.feature, bool(leaf.lengths)
    dtype = getattr(feature, "np_dtype", None)
    if isinstance(feature, tfds.features.Image):
        fits = dtype in (np.uint8, np.uint16)
    else:
        plain = isinstance(feature, tfds.features.Tensor)
        is_bytes = plain and dtype == np.object_ and feature.shape == () and not isinstance(feature, tfds.features.Text)
        fits = plain and (is_bytes or (dtype == np.uint8 and len(feature.shape) in (2, 3)))
    if several or not fits:
        raise UserError(
            f"{where} is {shown(feature)}{', any number of it' if several else ''}, not an image an example"
        )


def check_text(where: str, leaf: Leaf) -> None:
    """Raises a UserError unless a feature is a text, or several."""
    feature = leaf.feature
    if not (isinstance(feature, tfds.features.Tensor) and feature.np_dtype == np.object_):
        raise UserError(f"{where} is {shown(feature)}, not a text or a list of texts")


def check_label(where: str, leaf: Leaf | None, count: int | None) -> None:
    """Raises a UserError unless `classes` may be given: the feature is a whole number and no ClassLabel."""
    feature = leaf.feature if leaf else None
    if count is not None:
        raise UserError(f"{where} has {count} classes of its own: leave the option classes out")
    if (
        not isinstance(feature, tfds.features.Tensor)
        or feature.shape != ()
        or np.dtype(feature.np_dtype).kind not in "iu"
    ):
        raise UserError(f"{where} is {shown(feature)}, not a whole number, so classes= cannot say what it means")
