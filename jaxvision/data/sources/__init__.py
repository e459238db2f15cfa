"""Sources of examples: one file per kind of source, which registers itself with `@part("data set", "NAME")`.

A source has a length, gives the example dict at an index, and knows its classes. Images that are stored encoded stay
encoded; `host_ops.decode` decodes them. docs/data.md shows each source in use.

    base.py         Info and Source, and the syntax of splits
    folder.py       image files in a tree of class folders
    webdataset.py   tar shards, read in place; tar_index.py: the offsets of their members
    parquet.py      Parquet files of the Hugging Face Hub; parquet_schema.py: the types of their columns;
                    row_groups.py: the row groups that are kept in memory
    manifest.py     a list of image files, labels and texts, as CSV, TSV or JSON lines; rows.py: the content of a line;
                    columns.py: the names of columns in other programs
    cifar.py        CIFAR-10 and CIFAR-100, binary or python version; plain_pickle.py reads that without running it
    idx.py          MNIST and its relatives
    tfds.py         prepared TFDS sets; the embedded set `shapes` is one; tfds_features.py: the fields of their features
    compositions.py scenes of `shapes` chosen by the colours and kinds they show
    python.py       objects of a Python program; objects.py: arrays, tables of `datasets`, anything indexable
    mixture.py      several sources in one stream, each with its share
    files.py        the files of each split; labels.py: class numbers from the labels in files;
                    passed_over.py: files beside the examples that are not read; texts.py: the rule for captions
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jaxvision import calls, own_modules, storage
from jaxvision.data.sources.base import BadExample, Info, Source, check_classes
from jaxvision.data.sources.tfds import TfdsSource, prepared_builder
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.reading import reading
from jaxvision.registry import PartRegistry

_log = logging.getLogger(__name__)

# Each is called with data_dir, split and fields; its options are its keyword-only parameters. A source that knows its
# fields without its files gives a function of its options: @part("data set", fields=function).
KINDS = PartRegistry(
    "data set",
    [__name__],
    required=("data_dir", "split", "fields"),
    plural="sources",
    usage='c.data = dict(name="NAME", data_dir="DIR", split="train", host="decode|resize(224)", batch_size=256)',
)


__all__ = ["KINDS", "BadExample", "Info", "Source", "check_classes", "open_source"]


def open_source(
    name: str,
    split: str,
    *,
    data_dir: str | None = None,
    options: Mapping[str, Any] | None = None,
    fields: Sequence[str] | None = None,
) -> Source:
    """Opens one split of a data set. Nothing is ever downloaded.

    Args:
      name: Kind of the set, one of `KINDS`; "package.module:function" of a source of your own; or the TFDS name of a
        prepared set: `cifar10`, `imagenet2012:5.1.0`, `coco/2017`.
      split: Split in the syntax of TFDS: `train`, `train[:90%]`, `train[1000:]`, `train+validation`, `all`. Percentages
        round to the nearest example, as in TFDS.
      data_dir: Folder of the set; for a TFDS set, TFDS's data_dir (default `~/tensorflow_datasets`); for `shapes`, the
        folder of its cache (default: the environment variable JAXVISION_DATA, else `~/.cache/jaxvision`).
      options: Further arguments of the kind of source, such as `image_size` of `shapes`.
      fields: Names of the fields to read, all if None. Reading fewer can be several times faster.

    Raises:
      UserError: There is no such data set, split, folder, option or field; or the set is damaged or not prepared.
    """
    options = dict(options or {})
    if data_dir is not None:
        storage.local(data_dir, "data_dir", "sets are read from files")
    is_own = own_modules.is_own(name)
    if is_own or name in KINDS:
        kind, what = KINDS.resolve(name), f"the data set {name!r}"
        check_options(what, options, kind)
        with reading(f"{what} in {data_dir}", only=OSError):
            call = partial(own_modules.call_factory, what, kind) if is_own else kind
            source = call(data_dir, split, fields, **options)
        if not isinstance(source, Source):
            raise UserError(f"{what} returned a {type(source).__name__}, not a jaxvision.data.Source")
        if source.passed_over:
            _log.warning("%s %s passes over: %s", source.info.name, split, source.passed_over)
        return source
    builder = prepared_builder(name, data_dir, tuple(KINDS))  # first, since it reports a misspelt name
    check_options(f"the data set {name!r}", options, TfdsSource)
    return TfdsSource(builder, name, split, fields, **options)


def options_of(name: str) -> dict[str, Any] | None:
    """Returns the annotations of the options of a data set by name; None if it takes any option.

    Args:
      name: Name of the set, as for `open_source`.

    Raises:
      UserError: The module of a source of the user's own cannot be imported.
    """
    kind = KINDS.resolve(name) if own_modules.is_own(name) or name in KINDS else TfdsSource
    return calls.options(kind, _required(kind))


def known_fields(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Field]:
    """Returns the fields of a set as far as they are known without its files: for some sources, from their options.

    Args:
      name: Name of the set, as for `open_source`.
      options: Options of the set.
    """
    is_own = own_modules.is_own(name)
    fields_of = KINDS.more(KINDS.resolve(name), "fields") if is_own or name in KINDS else None
    return {} if fields_of is None else fields_of(**dict(options or {}))


def check_options(where: str, options: Mapping[str, Any], kind: Callable) -> None:
    """Checks that a kind of source takes the given options.

    Args:
      where: Place of the options, for messages.
      options: Values by name.
      kind: Class or function of the source.

    Raises:
      UserError: An option does not exist, or its value does not fit.
    """
    calls.check(kind, options, calls.Options(where), program=_required(kind))
    for name, parameter in calls.parameters(kind).items():
        if options.get(name) == "" and parameter.default != "":
            raise UserError(f"{where}: the option {name} is empty: give it a value or leave it out")


def _required(kind: Callable) -> list[str]:
    """Returns the names of the arguments that the program gives to a source; its options are the keyword-only ones."""
    return [name for name, p in calls.parameters(kind).items() if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
