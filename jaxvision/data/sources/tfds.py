"""Prepared TFDS sets, read from ArrayRecord without TensorFlow."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder

from jaxvision.data import decoding
from jaxvision.data.sources import tfds_features as of_tfds
from jaxvision.data.sources.base import BadExample, Info, Source, parse_split
from jaxvision.data.sources.labels import read_classes
from jaxvision.data.sources.texts import one_or_several
from jaxvision.errors import UserError, nearest, unknown
from jaxvision.fields import Field
from jaxvision.reading import reading


class TfdsSource(Source):
    """A split of a prepared TFDS builder, read from ArrayRecord.

    Every feature that has no inner features is a field; a nested one has its path as its name (`objects/bbox`). The
    image stays encoded if it is stored so. Texts are str, lists of texts are tuples of str, boxes are in pixels of the
    upright image.

    Args:
      builder: Builder of a set that is prepared as ArrayRecord.
      name: Name of the set in messages.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Names of the fields that are decoded; None for all.
      image: Path of the feature that becomes the field `image`.
      label: Path of the feature that becomes the field `label`, such as "coarse_label". A list of classes makes a
        multi-label set.
      text: Path of the feature that becomes the field `text`, such as "captions/text".
      features: Paths of the features that become further fields, by their names: `dict(boxes="objects/bbox")`.
      kinds: Kinds of fields, each one of `fields.KINDS`, if the features do not show them: `dict(joints="points")`.
      classes: Classes of a label that is a whole number and no ClassLabel: a file with one name per line, a tuple of
        names, or their number.

    Raises:
      UserError: There is no such split, field or feature; a feature cannot become what it should; or records are
        missing.
      BadExample: (When an example is read.) Its record is damaged, has no text, or its label is none of `classes`.
      BadImage: (When an example is read.) It has boxes, and the size of its image cannot be read.
    """

    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        name: str,
        split: str,
        fields: Sequence[str] | None = None,
        *,
        image: str = "image",
        label: str = "label",
        text: str = "text",
        features: Mapping[str, str] | None = None,
        kinds: Mapping[str, str] | None = None,
        classes: str | Sequence[str] | int | None = None,
    ):
        sizes = {s: info.num_examples for s, info in builder.info.splits.items()}
        parse_split(split, sizes, f"the data set {name!r}")
        top = dict(builder.info.features.items())
        leaves = of_tfds.leaves(builder.info.features)
        paths = _paths(name, leaves, {"image": image, "label": label, "text": text}, features or {})
        for field in fields or ():
            if field not in paths:
                _refuse(field, name, paths, leaves)
        wanted = list(fields or paths)
        for field, check in {"image": of_tfds.check_image, "text": of_tfds.check_text}.items():
            if field in wanted:
                check(f"the feature {paths[field]!r} of {name!r}", leaves[paths[field]])
        labels = leaves[paths["label"]] if "label" in paths else None
        names: tuple[str, ...] = ()
        count: int | None = None
        if labels and isinstance(labels.feature, tfds.features.ClassLabel):
            names, count = tuple(labels.feature.names), labels.feature.num_classes
        self._classes_option = read_classes(classes, builder.data_path)
        if self._classes_option is not None:
            of_tfds.check_label(f"the feature {paths.get('label', label)!r} of {name!r}", labels, count)
            names = () if isinstance(self._classes_option, int) else self._classes_option
            count = self._classes_option if isinstance(self._classes_option, int) else len(self._classes_option)
        several = count is not None and labels is not None and bool(labels.lengths)
        described = of_tfds.describe_fields(paths, leaves, kinds or {}, (count, names, several))
        self._leaves = {field: leaves[paths[field]] for field in wanted}
        self._boxes = [field for field in wanted if isinstance(leaves[paths[field]].feature, tfds.features.BBoxFeature)]
        self._image = leaves[paths["image"]] if "image" in paths else None
        if self._boxes and self._image is None:
            raise UserError(f"the data set {name!r} has boxes, {self._boxes[0]!r}, but no image to which they belong")
        # Decoding here instead of in TFDS skips the fields that are not wanted, most of the work in rich sets.
        with reading(f"the records of {name!r} in {builder.data_path}"):
            self._records = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        used = [*self._leaves.values(), *([self._image] if self._boxes and self._image else [])]
        self._features = tfds.features.FeaturesDict({leaf.path[0]: top[leaf.path[0]] for leaf in used})
        encoded = self._image in used and isinstance(top.get(image), tfds.features.Image)
        self._decoders = {image: tfds.decode.SkipDecoding()} if encoded else None
        self._label = labels
        self._label_feature = top[labels.path[0]] if labels else None
        self.info = Info(name, split, len(self._records), names, count, several, described)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with reading("its record", BadExample):
            record = self._features.deserialize_example_np(self._records[index], decoders=self._decoders)
        example = {field: _walk(record, leaf.path) for field, leaf in self._leaves.items()}
        for field, value in example.items():
            if field == "text":
                example[field] = one_or_several(value, "its text")
            elif field != "image":
                example[field] = of_tfds.typed_value(_texts(value), self._leaves[field])
        if self._boxes:
            assert self._image is not None
            size = _size(_walk(record, self._image.path))
            for field in self._boxes:
                where, feature = f"the field {field!r} of {self.info.name}", self._leaves[field].feature
                example[field] = of_tfds.boxes_in_pixels(example[field], feature, size, where)
        if "label" in example and self._classes_option is not None:
            self._check_numbers(example["label"], "its label", BadExample)
        if self.info.multi_label and "label" in example:
            example["label"] = self._hot(example["label"])
        return example

    def _check_numbers(self, label: Any, where: str, error: type[Exception]) -> None:
        """Raises `error` if a label, or one of several, is none of the classes that the option gives."""
        assert self.info.num_classes is not None
        for number in np.ravel(label).tolist():
            if not 0 <= number < self.info.num_classes:
                raise error(f"{where} {number} is none of the {self.info.num_classes} classes")

    def _hot(self, numbers: np.ndarray) -> np.ndarray:
        assert self.info.num_classes is not None
        hot = np.zeros(self.info.num_classes, np.float32)
        hot[np.asarray(numbers, np.int64)] = 1
        return hot

    def _read_labels(self) -> np.ndarray:
        leaf, n = self._label, len(self)
        assert leaf is not None  # a set with classes has a label
        features = tfds.features.FeaturesDict({leaf.path[0]: self._label_feature})
        chunks = (self._records.__getitems__(range(i, min(i + 1024, n))) for i in range(0, n, 1024))
        with reading(f"the labels of {self.info.name} {self.info.split}"):
            labels = [_walk(features.deserialize_example_np(r), leaf.path) for chunk in chunks for r in chunk]
        if self._classes_option is not None:
            for index, label in enumerate(labels):
                self._check_numbers(label, f"{self.describe(index)}: the label", UserError)
        return np.stack([self._hot(x) for x in labels]) if self.info.multi_label else np.array(labels, np.int32)


def of_features(
    features: tfds.features.FeaturesDict, name: str, *, text: str = "text", others: Mapping[str, str] | None = None
) -> dict[str, Field]:
    """Returns the fields of a set with these features, whether or not the set is prepared.

    Args:
      features: Features of an example.
      name: Name of the set, for messages.
      text: Path of the feature that becomes the field `text`, as for `TfdsSource`.
      others: Paths of further features by the names of their fields, the option `features` of `TfdsSource`.
    """
    leaves = of_tfds.leaves(features)
    paths = _paths(name, leaves, {"image": "image", "label": "label", "text": text}, others or {})
    label = leaves[paths["label"]].feature if "label" in paths else None
    classes = getattr(label, "num_classes", None), tuple(getattr(label, "names", None) or ()), False
    return of_tfds.describe_fields(paths, leaves, {}, classes)


def _paths(
    name: str, leaves: Mapping[str, of_tfds.Leaf], usual: Mapping[str, str], others: Mapping[str, str]
) -> dict[str, str]:
    """Returns the paths of the features by the names of their fields.

    Args:
      name: Name of the set.
      leaves: Features by path.
      usual: Paths of image, label and text; one that equals the name of its field may be absent.
      others: Paths that the option features gives.
    """
    for field in others:
        if field in usual:
            raise UserError(f"the field {field!r} is named by the option {field}, not by the option features")
    paths = {}
    for field, path in {**usual, **others}.items():
        if path in leaves or path != field or field in others:
            of_tfds.find_feature(leaves, path, name)
            paths[field] = path
    return paths | {path: path for path in leaves if path not in usual and path not in others}


def _refuse(field: str, name: str, paths: Mapping[str, str], leaves: Mapping[str, of_tfds.Leaf]) -> None:
    """Raises the UserError for a field that does not exist."""
    if any(path.startswith(f"{field}/") for path in leaves):
        of_tfds.find_feature(leaves, field, name)
    raise unknown(f"field of the data set {name!r}", field, paths)


def _size(image: Any) -> tuple[int, int]:
    """Returns (height, width) of an image as it is stored, upright."""
    return image.shape[:2] if isinstance(image, np.ndarray) else decoding.image_size(image)


def _walk(record: Any, path: Sequence[str]) -> Any:
    for key in path:
        record = record[key]
    return record


def _texts(value: Any) -> Any:
    """Converts bytes to str, and a list of bytes to a tuple of str; anything else stays as it is."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype == object):
        return tuple(_texts(x) for x in value)
    if isinstance(value, dict):
        return {key: _texts(x) for key, x in value.items()}
    return value


def prepared_builder(name: str, data_dir: str | None, kinds: Sequence[str]) -> tfds.core.DatasetBuilder:
    """Returns the builder of a set that is prepared on disk. It never uses the network: TFDS would retry for minutes.

    Args:
      name: TFDS name of the set, such as `coco/2017`.
      data_dir: Folder of prepared sets; TFDS's default if None.
      kinds: Other names that a user may choose, for the message if `name` is unknown.

    Raises:
      UserError: The set is not prepared, or not as ArrayRecord.
    """
    where = {} if data_dir is None else {"data_dir": os.path.expanduser(data_dir)}
    try:
        naming.parse_builder_name_kwargs(name)
    except ValueError as error:
        raise UserError(f"cannot read the data set name {name!r}: {str(error).splitlines()[0]}") from None
    with reading(f"what TFDS wrote of the data set {name!r} in {where.get('data_dir', tfds.core.constants.DATA_DIR)}"):
        try:
            builder = read_only_builder.builder_from_files(name, **where)
        except tfds.core.DatasetNotFoundError:
            raise _not_prepared(name, where, kinds) from None
    formats = {f.value for f in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise UserError(
            f"{name} is prepared in {builder.data_path} as {', '.join(sorted(formats))}, which has no random access. "
            f"Convert it, without TensorFlow: jaxvision data convert {builder.data_path} OUT"
        )
    return builder


def _not_prepared(name: str, where: dict[str, str], kinds: Sequence[str]) -> UserError:
    catalog = tfds.list_builders(with_community_datasets=False)
    base = name.split(":")[0].split("/")[0]
    if base not in catalog:
        return UserError(
            f"unknown data set {name!r}{nearest(base, [*kinds, *catalog]) or '.'} Choices: {', '.join(kinds)}, or a "
            "name of https://www.tensorflow.org/datasets/catalog that is prepared"
        )
    there = f" --data_dir={where['data_dir']}" if where else ""
    return UserError(
        f"the data set {name!r} is not prepared in {where.get('data_dir', tfds.core.constants.DATA_DIR)}. "
        f"Prepare it once:\n"
        f"  jaxvision data prepare {name}{there}\n"
        f"which downloads it, or convert a copy in TFRecord: jaxvision data convert DIR OUT"
    )
