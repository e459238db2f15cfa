"""Where examples come from: one file a kind of source, decorated with `@part("data set", "NAME")`.

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

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jaxvision import calls, own_modules, storage
from jaxvision.data.sources.base import BadExample, Info, Source, check_classes
from jaxvision.data.sources.tfds import TfdsSource, prepared_builder
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.found import Parts
from jaxvision.reading import reading

_log = logging.getLogger(__name__)

# Each is called with data_dir, split and fields; its options are its keyword-only parameters. One that knows its fields
# without its files says so: @part("data set", fields=function of its options).
KINDS = Parts("data set", [__name__], given=("data_dir", "split", "fields"))


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
      name: one of `KINDS`, "package.module:function" of a source of your own, or the TFDS name of a prepared set:
        `cifar10`, `imagenet2012:5.1.0`, `coco/2017`.
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
    own = own_modules.is_own(name)
    if own or name in KINDS:
        kind, what = KINDS.resolve(name), f"the data set {name!r}"
        check_options(what, options, kind)
        with reading(f"{what} in {data_dir}", only=OSError):
            call = partial(own_modules.called, what, kind) if own else kind
            source = call(data_dir, split, fields, **options)
        if not isinstance(source, Source):
            raise UserError(f"{what} returned a {type(source).__name__}, not a jaxvision.data.Source")
        if source.passed_over:
            _log.warning("%s %s passes over: %s", source.info.name, split, source.passed_over)
        return source
    builder = prepared_builder(name, data_dir, tuple(KINDS))  # first, for it tells a misspelt name
    check_options(f"the data set {name!r}", options, TfdsSource)
    return TfdsSource(builder, name, split, fields, **options)


def options_of(name: str) -> dict[str, Any] | None:
    """Annotations of the options that a data set of that name takes, by name; None where it takes any.

    Raises:
      UserError: A source of the user's own that cannot be imported.
    """
    kind = KINDS.resolve(name) if own_modules.is_own(name) or name in KINDS else TfdsSource
    return calls.options(kind, _given(kind))


def known_fields(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Field]:
    """The fields of a set as far as they are known without it: of some sources, from their options."""
    own = own_modules.is_own(name)
    known = KINDS.more(KINDS.resolve(name), "fields") if own or name in KINDS else None
    return {} if known is None else known(**dict(options or {}))


def check_options(where: str, options: Mapping[str, Any], kind: Callable) -> None:
    """Raises UserError where an option is none that a kind of source takes, or no fitting value of it."""
    calls.check(kind, options, calls.Options(where), program=_given(kind))
    for name, parameter in calls.parameters(kind).items():
        if options.get(name) == "" and parameter.default != "":
            raise UserError(f"{where}: the option {name} is empty: give it a value or leave it out")


def _given(kind: Callable) -> list[str]:
    """Names of what the program gives to a source: its options are its keyword-only parameters."""
    return [name for name, p in calls.parameters(kind).items() if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
