"""Where examples come from: one file a kind of source.

A source has a length, gives the example dict at an index, and knows its classes. Images come out
encoded where they are stored encoded; `host_ops.decode` reads them. docs/data.md shows each in use.

    base.py         Info and Source, and the texts of splits
    folder.py       image files in a tree of class folders
    webdataset.py   tar shards, read in place; tar_index.py: what lies where in them
    parquet.py      Parquet files of the Hugging Face Hub; parquet_schema.py: what they say of their columns;
                    row_groups.py: what is kept in memory of them
    manifest.py     a list of image files, labels and texts, as CSV, TSV or JSON lines; rows.py: what a line says;
                    columns.py: what other programs call the columns
    cifar.py        CIFAR-10 and CIFAR-100, binary or python version; plain_pickle.py reads that without running it
    idx.py          MNIST and its relatives
    tfds.py         prepared TFDS sets; the embedded set `shapes` is one; tfds_features.py: what their features are
    compositions.py scenes of `shapes` chosen by the colours and kinds they show
    mixture.py      several sources in one stream, each with its share
    files.py        which files make up which split; labels.py: class numbers from what files state;
                    passed_over.py: what lies beside the examples and is not read; texts.py: what is a caption
"""

import inspect
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision import arguments, storage
from jaxvision.data import shapes, subsets
from jaxvision.data.sources.base import BadExample, Info, Source, check_classes
from jaxvision.data.sources.cifar import CifarSource
from jaxvision.data.sources.compositions import open_scenes
from jaxvision.data.sources.folder import FolderSource
from jaxvision.data.sources.idx import IdxSource
from jaxvision.data.sources.manifest import ManifestSource
from jaxvision.data.sources.mixture import Mixture
from jaxvision.data.sources.parquet import ParquetSource
from jaxvision.data.sources.tfds import TfdsSource, prepared_builder
from jaxvision.data.sources.webdataset import WebDatasetSource
from jaxvision.errors import UserError, unknown
from jaxvision.reading import reading

_log = logging.getLogger(__name__)

__all__ = ["KINDS", "BadExample", "Info", "Source", "check_classes", "open_source"]


def open_source(
    name: str,
    split: str,
    *,
    data_dir: str | None = None,
    options: Mapping[str, Any] | None = None,
    fields: Sequence[str] | None = None,
) -> Source:
    """Opens one split of a data set.

    Args:
      name: one of `KINDS`, or the TFDS name of a prepared set: `cifar10`, `imagenet2012:5.1.0`, `coco/2017`.
      split: a split in the syntax of TFDS: `train`, `train[:90%]`, `train[1000:]`, `train+validation`, `all`.
        Percentages round as in TFDS, to the nearest example.
      data_dir: the directory of the set; for a TFDS set, TFDS's data_dir (default `~/tensorflow_datasets`); for
        `shapes`, where it is cached (default: the environment variable JAXVISION_DATA, else `~/.cache/jaxvision`).
      options: further arguments of the kind of source, such as `image_size` of `shapes`.
      fields: of an example, which are wanted; all if None. Fewer may be read several times faster.

    Raises:
      UserError: no such data set, split, directory, option or field; a set that is damaged, or not prepared.
        Nothing is ever downloaded.
    """
    options = dict(options or {})
    if data_dir is not None:
        storage.local(data_dir, "data_dir", "sets are read from files")
    if name in KINDS:
        _check_options(f"the data set {name!r}", options, KINDS[name])
        with reading(f"the data set {name!r} in {data_dir}", only=OSError):
            source = KINDS[name](data_dir, split, fields, **options)
        if source.passed_over:
            _log.warning("%s %s passes over: %s", source.info.name, split, source.passed_over)
        return source
    builder = prepared_builder(name, data_dir, tuple(KINDS))  # first, for it tells a misspelt name
    _check_options(f"the data set {name!r}", options, TfdsSource)
    return TfdsSource(builder, name, split, fields, **options)


def _check_options(where: str, options: Mapping[str, Any], kind: Callable) -> None:
    parameters = inspect.signature(kind).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for key in options:
        if key not in known:
            raise unknown(f"option of {where}", key, known) if known else UserError(f"{where} takes no options")
        if options[key] == "" and inspect.signature(kind).parameters[key].default != "":
            raise UserError(f"{where}: the option {key} is empty: give it a value or leave it out")
    arguments.check(kind, options, f"{where}: ")


def _open_shapes(
    data_dir: str | Path | None,
    split: str,
    fields: Sequence[str] | None = None,
    *,
    image_size: int = 32,
    train: int = 60_000,
    validation: int = 5_000,
    test: int = 5_000,
    text: str = "text",
    label: str = "kind",
    scenes: str = "all",
    features: Mapping[str, str] | None = None,
) -> Source:
    cache = Path(data_dir or os.environ.get("JAXVISION_DATA", "~/.cache/jaxvision")).expanduser()
    builder = shapes.prepare(cache, image_size=image_size, train=train, validation=validation, test=test)
    return open_scenes(builder, split, fields, text=text, label=label, scenes=scenes, features=features)


def _open_mixture(
    data_dir: str | Path | None, split: str, fields: Sequence[str] | None = None, **parts: Mapping[str, Any]
) -> Source:
    opened, weights = {}, {}
    for part, section in parts.items():
        where = f"the part {part!r} of the mixture"
        _check_options(where, section, _open_part)
        if "name" not in section:
            raise UserError(f"{where} has no name, the kind of its source. Choices: {', '.join(KINDS)}, or a TFDS name")
        opened[part] = _open_part(where, split, fields, **{"data_dir": data_dir, **section})
        weights[part] = section.get("weight", 1.0)
    return Mixture(opened, split, weights)


def _open_part(
    where: str,
    mixture_split: str,
    fields: Sequence[str] | None,
    *,
    name: str,
    split: str | Mapping[str, str] | None = None,
    data_dir: str | None = None,
    options: Mapping[str, Any] | None = None,
    subset: Mapping[str, int] | None = None,
    weight: float = 1.0,
) -> Source:
    splits = {"train": split} if isinstance(split, str) else split
    if splits is not None and mixture_split not in splits:
        raise UserError(
            f"{where} does not say what its split {mixture_split!r} is, only {', '.join(splits)}: "
            "give split=dict(train=..., validation=...)"
        )
    own = mixture_split if splits is None else splits[mixture_split]
    source = open_source(name, own, data_dir=data_dir, options=options, fields=fields)
    return source if subset is None else subsets.take(source, **subset)


# Each is called with data_dir, split and fields; its options are its keyword-only parameters.
KINDS: dict[str, Callable[..., Source]] = {
    "shapes": _open_shapes,
    "folder": FolderSource,
    "webdataset": WebDatasetSource,
    "parquet": ParquetSource,
    "manifest": ManifestSource,
    "cifar": CifarSource,
    "idx": IdxSource,
    "mixture": _open_mixture,
}
