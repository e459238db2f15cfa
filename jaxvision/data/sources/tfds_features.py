"""From the features of a TFDS set to fields: their kinds, shapes and classes; nested features under their paths."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.features.bounding_boxes import bb_utils

from jaxvision.data.sources.base import label_field
from jaxvision.errors import UserError, shown, unknown
from jaxvision.fields import KINDS, PLACED, Field

_Format = bb_utils.BBoxFormat
# For each format the stored columns of x1 y1 x2 y2, and whether they are fractions of the image. Sets that old versions
# of TFDS wrote name no format.
BOX_FORMATS = {
    None: ((1, 0, 3, 2), True),
    _Format.REL_YXYX: ((1, 0, 3, 2), True),
    _Format.REL_XYXY: ((0, 1, 2, 3), True),
    _Format.YXYX: ((1, 0, 3, 2), False),
    _Format.XYXY: ((0, 1, 2, 3), False),
}


class Leaf(NamedTuple):
    """A feature that has no inner features.

    Attributes:
      path: Names from the outside in.
      feature: Feature itself.
      lengths: Lengths of the sequences around it, None where examples differ.
    """

    path: tuple[str, ...]
    feature: tfds.features.FeatureConnector
    lengths: tuple[int | None, ...] = ()


def leaves(
    features: tfds.features.FeatureConnector, path: tuple[str, ...] = (), lengths: tuple[int | None, ...] = ()
) -> dict[str, Leaf]:
    """Returns the features that have no inner features, by their paths separated by slashes: `objects/bbox`.

    Args:
      features: Feature, or a nest of them.
      path: Names around it, from the outside in.
      lengths: Lengths of the sequences around it.

    >>> objects = tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()})
    >>> list(leaves(tfds.features.FeaturesDict({"objects": objects})))
    ['objects/bbox']
    """
    while isinstance(features, tfds.features.Sequence):
        length = getattr(features, "_length", None)
        features, lengths = features.feature, (*lengths, length)
    if not isinstance(features, tfds.features.FeaturesDict):
        return {"/".join(path): Leaf(path, features, lengths)}
    inner: dict[str, Leaf] = {}
    for name, feature in features.items():
        inner |= leaves(feature, (*path, name), lengths)
    return inner


def find_feature(features: Mapping[str, Leaf], path: str, name: str) -> Leaf:
    """Returns the feature of a path.

    Args:
      features: Features of the set by path.
      path: Path of the feature.
      name: Name of the set, for messages.

    Raises:
      UserError: The set has no such feature, or the feature has inner features.
    """
    if path in features:
        return features[path]
    inner = [other for other in features if other.startswith(f"{path}/")]
    if inner:
        variable = any(None in features[other].lengths for other in inner)
        padding = ", and pad those whose number varies with pad_boxes(n) in data.host" if variable else ""
        raise UserError(
            f"{path!r} of the data set {name!r} is not a field but holds several: {', '.join(inner)}. Name those "
            f"instead{padding}"
        )
    above = "/".join(path.split("/")[:-1])
    choices = [other for other in features if other.startswith(f"{above}/")] if above else []
    top = dict.fromkeys(leaf.path[0] for leaf in features.values())
    raise unknown(f"feature of the data set {name!r}", path, choices or [*dict.fromkeys([*top, *features])])


def describe_fields(
    paths: Mapping[str, str],
    features: Mapping[str, Leaf],
    kinds: Mapping[str, str],
    info: tuple[int | None, tuple[str, ...], bool],
) -> dict[str, Field]:
    """Returns the fields of a set.

    Args:
      paths: Paths of the features by the names of their fields.
      features: Features of the set by path.
      kinds: Kinds by field or path, if the features do not show them.
      info: Number of the classes of `label`, their names, and True if an example may have several.

    Raises:
      UserError: A kind is unknown, or is given for a field that does not exist.
    """
    for name, kind in kinds.items():
        if name not in paths and name not in paths.values():
            raise unknown("field of the option kinds", name, paths)
        if kind not in KINDS:
            raise unknown(f"kind of the field {name!r}", kind, KINDS)
    image = paths.get("image")
    fields = {}
    for name, path in paths.items():
        of_image = None if image is None else features.get(image)
        fields[name] = _field(name, features[path], of_image, kinds.get(name, kinds.get(path)))
    if "label" in fields and fields["label"].kind == "label":
        count, names, several = info
        if count is not None or not features[paths["label"]].lengths:
            fields["label"] = label_field(count, names, several)
    for name, field in fields.items():
        if field.kind in PLACED:
            fields[name] = field._replace(of="image" if image else None)
        elif boxes := _boxes_beside(name, paths, features, fields):
            fields[name] = field._replace(of=boxes)
    return fields


def _boxes_beside(
    name: str, paths: Mapping[str, str], features: Mapping[str, Leaf], fields: Mapping[str, Field]
) -> str:
    """Returns the field of the boxes that are in one sequence with another feature, or ""."""
    leaf = features[paths[name]]
    if not leaf.lengths:
        return ""
    for other, field in fields.items():
        candidate = features[paths[other]]
        same_sequence = candidate.path[:-1] == leaf.path[:-1] and candidate.lengths == leaf.lengths[:1]
        if field.kind == "boxes" and same_sequence:
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
    """Returns whether an array of that shape has a value for every pixel of an image."""
    return image is not None and len(image) == 3 and tuple(shape) in (tuple(image[:2]), (*image[:2], 1))


def boxes_in_pixels(
    boxes: np.ndarray, feature: tfds.features.FeatureConnector, size: tuple[int, int], where: str
) -> np.ndarray:
    """Converts boxes from the form in which TFDS stores them to pixels of an image.

    Args:
      boxes: Boxes, float [n, 4] or [4].
      feature: Feature (`BBoxFeature`) of the boxes, which states their format.
      size: (height, width) of the image in pixels.
      where: Name of the field, for messages.

    Returns:
      float32 [n, 4], x1 y1 x2 y2 from the upper left corner.

    Raises:
      UserError: The format of the boxes is not supported.

    >>> boxes_in_pixels(np.array([[0.25, 0.5, 0.75, 1.0]]), tfds.features.BBoxFeature(), (20, 40), "bbox")
    array([[20.,  5., 40., 15.]], dtype=float32)
    """
    form = getattr(feature, "bbox_format", None)
    if form not in BOX_FORMATS:
        raise UserError(f"{where} holds boxes in the format {form}, want {', '.join(f.name for f in BOX_FORMATS if f)}")
    columns, relative = BOX_FORMATS[form]
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)[:, columns]
    height, width = size
    return (corners * (width, height, width, height) if relative else corners).astype(np.float32)


def typed_value(value: Any, leaf: Leaf) -> Any:
    """Returns a value as it is, but an empty sequence with the dtype and shape of its feature: TFDS gives float64 [0].

    Args:
      value: Value of a feature.
      leaf: Feature.
    """
    dtype = np.dtype(getattr(leaf.feature, "np_dtype", np.float32))
    if len(leaf.lengths) != 1 or dtype == np.object_ or np.size(value):
        return value
    return np.zeros((0, *leaf.feature.shape), dtype)


def check_image(where: str, leaf: Leaf) -> None:
    """Checks that a feature is one image per example, of 8 or 16 bits, encoded or not.

    Args:
      where: Name of the feature, for the message.
      leaf: Feature.

    Raises:
      UserError: It is not.
    """
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
            f"{where} is {shown(feature)}{', any number of them' if several else ''}, not one image per example"
        )


def check_text(where: str, leaf: Leaf) -> None:
    """Checks that a feature is a text, or several.

    Args:
      where: Name of the feature, for the message.
      leaf: Feature.

    Raises:
      UserError: It is not.
    """
    feature = leaf.feature
    if not (isinstance(feature, tfds.features.Tensor) and feature.np_dtype == np.object_):
        raise UserError(f"{where} is {shown(feature)}, not a text or a list of texts")


def check_label(where: str, leaf: Leaf | None, count: int | None) -> None:
    """Checks that the option `classes` may be given for a feature: a whole number that is no ClassLabel.

    Args:
      where: Name of the feature, for the message.
      leaf: Feature, None if the set has no label.
      count: Number of classes that the set itself states, None if it states none.

    Raises:
      UserError: The set states its classes, or the feature is not a whole number.
    """
    feature = leaf.feature if leaf else None
    if count is not None:
        raise UserError(f"{where} has {count} classes of its own: leave the option classes out")
    if (
        not isinstance(feature, tfds.features.Tensor)
        or feature.shape != ()
        or np.dtype(feature.np_dtype).kind not in "iu"
    ):
        raise UserError(f"{where} is {shown(feature)}, not a whole number, so classes= cannot say what it means")
