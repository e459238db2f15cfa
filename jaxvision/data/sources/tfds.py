"""Prepared TFDS sets, read from ArrayRecord without TensorFlow."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder

from jaxvision.data.sources.base import BadExample, Info, Source, slices
from jaxvision.data.sources.labels import read_classes
from jaxvision.data.sources.texts import one_or_several
from jaxvision.errors import UserError, nearest, shown, unknown
from jaxvision.reading import reading


class TfdsSource(Source):
    """A split of a prepared TFDS builder, read from ArrayRecord.

    The image stays encoded, if it is stored so. Texts come as str, lists of texts as tuples of str.

    Args:
      builder: of a set that is prepared as ArrayRecord.
      name: what the set is called in messages.
      split: in the syntax of TFDS.
      fields: of an example, which are decoded; None for all.
      image, label, text: the features that become these fields, where they have other names: `label="coarse_label"`,
        `text="captions/text"`. A label that is a list of classes makes a multi-label set.
      classes: of a label that is a whole number and no ClassLabel: a file with one name a line, a tuple of names, or
        their number.

    Raises:
      UserError: no such split, field or feature; a feature that cannot be what it should become; records that are not
        there.
      BadExample (when read): a record that is damaged, has no text, or whose label is none of `classes`.
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
        classes: str | Sequence[str] | int | None = None,
    ):
        sizes = {s: info.num_examples for s, info in builder.info.splits.items()}
        slices(split, sizes, f"the data set {name!r}")
        features = dict(builder.info.features.items())
        paths = {f: f for f in features if f not in ("image", "label", "text")}
        for field, path in {"image": image, "label": label, "text": text}.items():
            if path in features or path != field:
                _leaf(builder.info.features, path.split("/"), name)
                paths[field] = path
        for field in fields or ():
            if field not in paths:
                raise unknown(f"field of the data set {name!r}", field, paths)
        self._paths = {f: paths[f].split("/") for f in fields or paths}
        for field, check in {"image": _check_image, "text": _check_text}.items():
            if field in self._paths:
                check(
                    f"the feature {paths[field]!r} of {name!r}", *_leaf(builder.info.features, self._paths[field], name)
                )
        # Decoding here instead of in TFDS skips the fields that nobody wants, most of the work in rich sets.
        with reading(f"the records of {name!r} in {builder.data_path}"):
            self._records = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        self._features = tfds.features.FeaturesDict({top: features[top] for top, *_ in self._paths.values()})
        encoded = "image" in self._paths and isinstance(features.get(image), tfds.features.Image)
        self._decoders = {image: tfds.decode.SkipDecoding()} if encoded else None
        self._label_path = paths["label"].split("/") if "label" in paths else []
        feature, several = _leaf(builder.info.features, self._label_path, name)
        self._label_feature = features[self._label_path[0]] if self._label_path else None
        names, count = (), None
        if isinstance(feature, tfds.features.ClassLabel):
            names, count = tuple(feature.names), feature.num_classes
        self._given = read_classes(classes, builder.data_path)
        if self._given is not None:
            _check_label(f"the feature {paths.get('label', label)!r} of {name!r}", feature, count)
            names = () if isinstance(self._given, int) else self._given
            count = self._given if isinstance(self._given, int) else len(self._given)
        self.info = Info(name, split, len(self._records), names, count, count is not None and several)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with reading("its record", BadExample):
            record = self._features.deserialize_example_np(self._records[index], decoders=self._decoders)
        example = {f: _texts(_walk(record, path)) for f, path in self._paths.items() if f != "image"}
        if "image" in self._paths:
            example["image"] = _walk(record, self._paths["image"])
        if "text" in example:
            example["text"] = one_or_several(_walk(record, self._paths["text"]), "its text")
        if "label" in example and self._given is not None:
            self._check_numbers(example["label"], "its label", BadExample)
        if self.info.multi_label and "label" in example:
            example["label"] = self._hot(example["label"])
        return example

    def _check_numbers(self, label: Any, where: str, error: type[Exception]) -> None:
        """Raises `error` where a label, or one of several, is none of the classes that the option gives."""
        for number in np.ravel(label).tolist():
            if not 0 <= number < self.info.num_classes:
                raise error(f"{where} {number} is none of the {self.info.num_classes} classes")

    def _hot(self, numbers: np.ndarray) -> np.ndarray:
        hot = np.zeros(self.info.num_classes, np.float32)
        hot[np.asarray(numbers, np.int64)] = 1
        return hot

    def _read_labels(self) -> np.ndarray:
        features = tfds.features.FeaturesDict({self._label_path[0]: self._label_feature})
        n = len(self)
        chunks = (self._records.__getitems__(range(i, min(i + 1024, n))) for i in range(0, n, 1024))
        with reading(f"the labels of {self.info.name} {self.info.split}"):
            labels = [_walk(features.deserialize_example_np(r), self._label_path) for chunk in chunks for r in chunk]
        if self._given is not None:
            for index, label in enumerate(labels):
                self._check_numbers(label, f"{self.describe(index)}: the label", UserError)
        return np.stack([self._hot(x) for x in labels]) if self.info.multi_label else np.array(labels, np.int32)


def _walk(record: Any, path: list[str]) -> Any:
    for key in path:
        record = record[key]
    return record


def _leaf(feature: Any, path: list[str], name: str) -> tuple[Any, bool]:
    """The feature at the end of a path, and whether an example holds any number of it."""
    several = False
    for key in [*path, None]:
        while isinstance(feature, tfds.features.Sequence):
            feature, several = feature.feature, True
        if key is not None:
            choices = feature.keys() if isinstance(feature, tfds.features.FeaturesDict) else ()
            if key not in choices:
                raise unknown(f"feature of the data set {name!r}", key, choices)
            feature = feature[key]
    return feature, several


def _check_image(where: str, feature: Any, several: bool) -> None:
    """Raises a UserError unless a feature is an image an example: of 8 or 16 bits, encoded or not."""
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


def _check_text(where: str, feature: Any, several: bool) -> None:
    """Raises a UserError unless a feature is a text, or several."""
    if not (isinstance(feature, tfds.features.Tensor) and feature.np_dtype == np.object_):
        raise UserError(f"{where} is {shown(feature)}, not a text or a list of texts")


def _check_label(where: str, feature: Any, count: int | None) -> None:
    """Raises a UserError unless `classes` may be given: the feature is a whole number and no ClassLabel."""
    if count is not None:
        raise UserError(f"{where} has {count} classes of its own: leave the option classes out")
    if (
        not isinstance(feature, tfds.features.Tensor)
        or feature.shape != ()
        or np.dtype(feature.np_dtype).kind not in "iu"
    ):
        raise UserError(f"{where} is {shown(feature)}, not a whole number, so classes= cannot say what it means")


def _texts(value: Any) -> Any:
    """Bytes as str, a list of bytes as a tuple of str; anything else as it is."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype == object):
        return tuple(_texts(x) for x in value)
    if isinstance(value, dict):
        return {key: _texts(x) for key, x in value.items()}
    return value


def prepared_builder(name: str, data_dir: str | None, kinds: Sequence[str]) -> tfds.core.DatasetBuilder:
    """The builder of a set that is prepared on disk. Never asks the network: TFDS would retry for minutes.

    Raises:
      UserError: it is not there, or not as ArrayRecord. Where `name` means nothing, `kinds` are the other choices.
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
