"""Prepared TFDS sets, read from ArrayRecord without TensorFlow."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from jaxvision.data.sources.base import Info, Source, slices
from jaxvision.errors import UserError, nearest, unknown


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

    Raises:
      UserError: no such split, field or feature.
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
        # Decoding here instead of in TFDS skips the fields that nobody wants, most of the work in rich sets.
        self._records = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        self._paths = {f: paths[f].split("/") for f in fields or paths}
        self._features = tfds.features.FeaturesDict({top: features[top] for top, *_ in self._paths.values()})
        encoded = "image" in self._paths and isinstance(features.get(image), tfds.features.Image)
        self._decoders = {image: tfds.decode.SkipDecoding()} if encoded else None
        self._label_path = paths["label"].split("/") if "label" in paths else []
        classes, several = _leaf(builder.info.features, self._label_path, name)
        self._label_feature = features[self._label_path[0]] if self._label_path else None
        known = isinstance(classes, tfds.features.ClassLabel)
        names, count = (tuple(classes.names), classes.num_classes) if known else ((), None)
        self.info = Info(name, split, len(self._records), names, count, known and several)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._features.deserialize_example_np(self._records[index], decoders=self._decoders)
        example = {f: _texts(_walk(record, path)) for f, path in self._paths.items() if f != "image"}
        if "image" in self._paths:
            example["image"] = _walk(record, self._paths["image"])
        if self.info.multi_label and "label" in example:
            example["label"] = self._hot(example["label"])
        return example

    def _hot(self, numbers: np.ndarray) -> np.ndarray:
        hot = np.zeros(self.info.num_classes, np.float32)
        hot[np.asarray(numbers, np.int64)] = 1
        return hot

    def _read_labels(self) -> np.ndarray:
        features = tfds.features.FeaturesDict({self._label_path[0]: self._label_feature})
        n = len(self)
        chunks = (self._records.__getitems__(range(i, min(i + 1024, n))) for i in range(0, n, 1024))
        labels = [_walk(features.deserialize_example_np(r), self._label_path) for chunk in chunks for r in chunk]
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
        builder = read_only_builder.builder_from_files(name, **where)
    except tfds.core.DatasetNotFoundError:
        raise _not_prepared(name, where, kinds) from None
    except ValueError as error:
        raise UserError(f"cannot read the data set name {name!r}: {str(error).splitlines()[0]}") from None
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
