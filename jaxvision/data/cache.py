"""`jaxvision data cache`: a copy of a set with its images resized and encoded again, for runs of many epochs."""

import functools
import io
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import dataset_info, example_serializer, naming

from jaxvision import arguments, path_names
from jaxvision.arguments import is_whole
from jaxvision.data import host_ops
from jaxvision.data.sources import KINDS, BadExample, Source, open_source
from jaxvision.data.sources.base import first_readable
from jaxvision.data.staging import set_folder, staged, write_shard
from jaxvision.errors import UserError, shown, unknown
from jaxvision.progress import Progress
from jaxvision.reading import reading
from jaxvision.specs import parse

FORMATS = ("jpeg", "png")
SHARD = 10_000  # examples per file
AHEAD = 256  # examples processed at once, enough to keep the threads busy

_log = logging.getLogger(__name__)


def cache_set(
    name: str,
    splits: str,
    host: str,
    out: str | Path,
    *,
    data_dir: str | None = None,
    options: Mapping[str, Any] | None = None,
    image_format: str = "jpeg",
    quality: int = 95,
    max_bad_fraction: float = 0.001,
) -> tuple[str, Path]:
    """Writes a processed copy of a set as a prepared TFDS set; an interrupted call resumes at the last shard.

    Example i of a split of the copy is example i of the original, so the training stream has the same order. The copy
    contains the image, the label with its class names, texts, and single numbers; boxes and masks would not fit the new
    image. An example that cannot be read gets an empty image: loaders skip and count it, as in the original.

    Args:
      name: Name of the set, as for `open_source`.
      splits: Names of whole splits, separated by commas.
      host: Host spec that decodes and draws nothing at random, such as "decode|resize_short(256)".
      out: Folder of prepared sets; the copy becomes `out/name[/config]/version`.
      data_dir: Folder of the set, as for `open_source`.
      options: Options of the set, as for `open_source`.
      image_format: "jpeg", or "png" to lose nothing.
      quality: Quality of JPEG, 1 to 100. Chroma is halved in both directions, as is usual.
      max_bad_fraction: Share of the examples of a split that may be unreadable, in [0, 1]; rounded up to a whole
        example.

    Returns:
      The name under which `open_source(name, split, data_dir=out)` reads the copy, and its folder.

    Raises:
      UserError: An argument makes no sense, too many examples are unreadable, or the copy exists already.
    """
    if name == "mixture":
        raise UserError("a mixture is not copied, since its weights would be lost: copy its parts, and mix the copies")
    _check(splits, host, image_format, quality)
    arguments.check_value("max_bad_fraction", max_bad_fraction, arguments.SHARE)
    sources = {s: open_source(name, s, data_dir=data_dir, options=options) for s in splits.split(",")}
    identity = _identity(name, next(iter(sources.values())))
    encode = functools.partial(_jpeg, quality=quality) if image_format == "jpeg" else _png
    recipe = {
        "made_by": "jaxvision data cache",
        "source": {"name": name, "data_dir": data_dir, "options": dict(options or {})},
        "splits": {split: len(source) for split, source in sources.items()},
        "host": host,
        "image": f"jpeg, quality {quality}" if image_format == "jpeg" else "png",
    }
    target = set_folder(
        path_names.expanded(out, "the output folder"), identity.name, identity.config_name, str(identity.version)
    )
    progress = Progress(f"caching {name}", sum(map(len, sources.values())))
    with progress, staged(target, recipe) as folder:
        features = _features(next(iter(sources.values())), image_format)
        infos = []
        for split, source in sources.items():
            copy = _Copy(source, host_ops.make_chain(host), encode, features, math.ceil(max_bad_fraction * len(source)))
            infos.append(copy.write(split, folder, identity.name, progress))
        info = dataset_info.DatasetInfo(
            builder=identity, description=f"A copy of {name}, its images processed by {host}", features=features
        )
        info.set_file_format("array_record")
        info.set_splits(tfds.core.splits.SplitDict(infos))
        info.write_to_directory(folder)
    return "/".join(filter(None, (identity.name, identity.config_name))), target


class _Copy:
    """Writes the copy of one split."""

    def __init__(
        self,
        source: Source,
        host: host_ops.HostOp,
        encode: Callable[[np.ndarray], bytes],
        features: tfds.features.FeaturesDict,
        allowed: int,
    ):
        self._source, self._host, self._encode, self._features = source, host, encode, features
        self._serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
        self._allowed = allowed
        self._bad: list[str] = []

    def write(self, split: str, folder: Path, name: str, progress: Progress) -> tfds.core.SplitInfo:
        n = len(self._source)
        starts = range(0, n, SHARD)
        template = naming.ShardedFileTemplate(folder, dataset_name=name, split=split, filetype_suffix="array_record")
        paths = [Path(path) for path in template.sharded_filepaths(len(starts))]
        for path, start in zip(paths, starts):
            count = min(SHARD, n - start)
            write_shard(path, self._records(start, start + count, progress))
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[min(SHARD, n - start) for start in starts],
            num_bytes=sum(path.stat().st_size for path in paths),
            filename_template=template,
        )

    def _records(self, start: int, stop: int, progress: Progress) -> Iterator[bytes]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(start, stop, AHEAD):
                indices = range(first, min(first + AHEAD, stop))
                for index, (record, error) in zip(indices, pool.map(self._record, indices)):
                    if error is not None:
                        self._note(index, error)
                    progress.advance()
                    yield record

    def _record(self, index: int) -> tuple[bytes, Exception | None]:
        """Returns the serialized example, and the error if it could not be read."""
        example = {}
        try:
            example = self._source[index]
            image = self._host(example, None)["image"]
            example = {**example, "image": self._encode(image)}
            return self._serialized(example), None
        except (host_ops.BadImage, BadExample, OSError) as reason:
            error = reason
        try:
            return self._serialized({**example, "image": b""}), error
        except BadExample:  # its other fields are bad, too
            return self._serialized({"image": b""}), error

    def _serialized(self, example: Mapping[str, Any]) -> bytes:
        """Returns the example as TFDS stores it; raises BadExample if a field is of another kind than in the first."""
        with reading("its fields", BadExample):
            values = {field: _value(field, feature, example.get(field)) for field, feature in self._features.items()}
            return self._serializer.serialize_example(self._features.encode_example(values))

    def _note(self, index: int, error: Exception) -> None:
        self._bad.append(self._source.describe(index))
        _log.warning("cannot read %s (%s): bad example %d", self._bad[-1], error, len(self._bad))
        if len(self._bad) > self._allowed:
            raise UserError(
                f"{len(self._bad)} examples of {self._source.info.name} {self._source.info.split} cannot be read, more "
                f"than the {self._allowed} that max_bad_fraction allows: {', '.join(self._bad[-10:])}"
            )


def _check(splits: str, host: str, image_format: str, quality: int) -> None:
    for split in splits.split(","):
        if not re.fullmatch(r"\w+", split):
            raise UserError(f"whole splits are copied, like 'train,validation', not {split!r}: slice the copy instead")
    if host_ops.host_ops.is_random(host):
        raise UserError(
            f"the host spec {host!r} draws at random, but a copy would store one draw for all epochs: "
            "cache with resize_short(...), and crop when the copy is read"
        )
    host_ops.make_chain(host)
    if [call.name for call in parse(host)][:1] != ["decode"]:
        raise UserError(f"the host spec of a copy starts with decode, not {host!r}")
    if image_format not in FORMATS:
        raise unknown("format of images", image_format, FORMATS)
    if not (is_whole(quality) and quality <= 100):
        raise UserError(f"the quality of JPEG is a number from 1 to 100, not {quality!r}")


def _identity(name: str, source: Source) -> dataset_info.DatasetIdentity:
    """Names the copy like the original, so that a config changes only its data_dir; kinds like "folder" are renamed."""
    match = re.match(r"([^/:]+)(?:/([^:]+))?(?::(\d+\.\d+\.\d+)$)?", name)
    assert match is not None  # the source is open, so its name is one
    base, config, version = match.groups()
    if name in KINDS:
        base = re.sub(r"\W+", "_", source.info.name).strip("_").lower()
        base = f"{base}_copy" if base in KINDS else base
    return dataset_info.DatasetIdentity(
        name=base, version=tfds.core.Version(version or "1.0.0"), data_dir="", module_name=__name__, config_name=config
    )


def _features(source: Source, image_format: str) -> tfds.features.FeaturesDict:
    """Returns the features of the copy, from the first example that can be read."""
    example = first_readable(source)
    if "image" not in example:
        raise UserError(f"{source.info.name} {source.info.split} has no field 'image', only {', '.join(example)}")
    features: dict[str, Any] = {"image": tfds.features.Image(shape=(None, None, 3), encoding_format=image_format)}
    dropped = []
    for field, value in example.items():
        if field == "label" and source.info.num_classes is not None:
            info = source.info
            names = {"names": info.classes} if info.classes else {"num_classes": info.num_classes}
            label = tfds.features.ClassLabel(**names)
            features["label"] = tfds.features.Sequence(label) if info.multi_label else label
        elif "/" in field:  # a nested feature: its path cannot be a name
            dropped.append(field)
        elif isinstance(value, str):
            features[field] = tfds.features.Text()
        elif isinstance(value, tuple) and all(isinstance(v, str) for v in value):
            features[field] = tfds.features.Sequence(tfds.features.Text())
        elif field != "image" and np.ndim(value) == 0 and np.asarray(value).dtype.kind in "biuf":
            features[field] = tfds.features.Scalar(np.asarray(value).dtype)
        elif field != "image":
            dropped.append(field)
    if dropped:
        _log.warning("left out of the copy, since they may not fit its images: %s", ", ".join(dropped))
    return tfds.features.FeaturesDict(features)


def _value(field: str, feature: tfds.features.FeatureConnector, value: Any) -> Any:
    """Returns the value that TFDS encodes for a field; something empty if the example could not be read."""
    several = isinstance(feature, tfds.features.Sequence)
    if value is None:
        return [] if several else "" if isinstance(feature, tfds.features.Text) else 0
    if several and isinstance(feature.feature, tfds.features.ClassLabel):
        return np.flatnonzero(value)  # multi-hot to numbers
    if isinstance(feature, tfds.features.Text) and not isinstance(value, str):
        raise BadExample(f"its field {field!r} is {shown(value)}, in the first example a text")
    return [value] if several and isinstance(value, str) else value


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420")


def _png(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()
