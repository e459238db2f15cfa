"""Opens the training set of the section `data` of a config, or describes it if it is absent.

The description of an absent set comes from a checkpoint, or else from the section itself and, for some sources, from
their name and options.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import config as configs
from jaxvision.data import host_ops, loader, sources, subsets, text, wanted
from jaxvision.data import statistics as statistics_of
from jaxvision.data.blank import Blank
from jaxvision.data.numbered import with_classes
from jaxvision.data.reader import first_arrays, first_stored
from jaxvision.data.sources.base import ENCODED, label_field
from jaxvision.errors import UserError, unknown
from jaxvision.fields import Field
from jaxvision.progress import track
from jaxvision.sections import DataSection
from jaxvision.tasks.task import Batch

_log = logging.getLogger(__name__)

RESIDENT = ("auto", "always", "never")
_STATISTICS_BATCH = 256


class Inputs(NamedTuple):
    """The training set, or its description, and the fields of its batches.

    Attributes:
      source: Training set; None if it is absent and may be.
      absent: Reason why the set is absent, in words; empty if it is there.
      info: Name, size and classes of the training set.
      stored: Fields of the training set that batches are made of, as they are stored; see `stored_fields`.
      fields: Fields of a batch as it comes from the host.
      batch: `ShapeDtypeStruct`s of a batch as it comes from the host, `[b, ...]`.
    """

    source: sources.Source | None
    absent: str
    info: sources.Info
    stored: Mapping[str, Field]
    fields: Mapping[str, Field]
    batch: Batch

    @property
    def image(self) -> str | None:
        """Name of the images of a batch, the first of several; None if it has none."""
        return image_of(self.fields)


def open_inputs(data: DataSection, training_data: str, stored: Mapping[str, Field] | None = None) -> Inputs:
    """Opens the training set, checks it against the section, and reads its first example.

    Args:
      data: Section `data` of the config.
      training_data: "required", "optional" or "ignored"; see `experiment.build`.
      stored: Fields of the set as they are stored, from a checkpoint, or None.

    Raises:
      UserError: The set is required and absent, or does not fit the section.
    """
    check(data)
    source, info, absent = open_or_describe(data, training_data, stored)
    if training_data != "ignored":
        check_size(data, info)
    stand_in = source or Blank(info, data.image_size)
    stored, batch = stored_fields(stand_in, data), raw_batch(stand_in, data)
    opened = Inputs(source, absent, info, stored, batch_fields(stand_in, data, batch), batch)
    if source and opened.image:
        check_image_size(data, size_of(stored[opened.image]), size_of(opened.fields[opened.image]))
    return opened


def check(data: DataSection) -> None:
    """Checks that the values of the section `data` fit together, before anything is opened.

    Args:
      data: Section `data` of the config.

    Raises:
      UserError: Values exclude each other, or are empty or unknown.
    """
    if data.processes and data.threads not in (0, DataSection._field_defaults["threads"]):
        raise UserError(
            f"data.processes={data.processes} reads in place of threads, so data.threads={data.threads} would do "
            "nothing: leave one of the two out"
        )
    if data.resident not in RESIDENT:
        raise unknown("value of data.resident", data.resident, RESIDENT)
    if not data.fields:
        raise UserError(
            "data.fields names no field: say what of an example goes into a batch, as in ('image', 'label')"
        )
    if twice := [field for field in dict.fromkeys(data.fields) if list(data.fields).count(field) > 1]:
        raise UserError(
            f"data.fields names {twice[0]!r} {list(data.fields).count(twice[0])} times: name each field once"
        )
    if data.subset is not None and not data.subset:
        raise UserError(
            "data.subset is empty: say dict(examples=...) or dict(per_class=...), or leave it out for the whole set"
        )


def check_size(data: DataSection, info: sources.Info) -> None:
    """Checks that a batch is not larger than the set, since it would contain examples several times.

    Args:
      data: Section `data` of the config.
      info: Name, size and classes of the set.

    Raises:
      UserError: It is larger.
    """
    if data.batch_size > info.num_examples:
        raise UserError(
            f"data.batch_size={data.batch_size:,} is larger than the training set: {info.split} of {info.name} has "
            f"{info.num_examples:,} examples, and each would come {data.batch_size / info.num_examples:,.1f} times in "
            f"every batch. Set data.batch_size to {info.num_examples:,} at most"
        )


def open_set(
    *,
    name: str,
    split: str,
    data_dir: str | None,
    options: Mapping | None,
    subset: Mapping | None,
    host: str,
    fields: Sequence[str],
    classes: int | None = None,
) -> sources.Source:
    """Opens a set for batches of `fields`, some of which the host spec may make.

    Args:
      name, split, data_dir, options, subset, host, fields: Values of the section `data`.
      classes: Number of classes, for integer labels of a source that does not know it; None if not needed.
    """
    opened = partial(sources.open_source, name, split, data_dir=data_dir, options=options)
    source = opened(fields=(names := wanted.stored_fields(fields, host)))
    if (more := wanted.stored_fields(fields, host, source.fields)) != names:
        source = opened(fields=more)
    source = with_classes(source, classes)
    return source if subset is None else configs.call(subsets.take, subset, "subset", source=source)


def open_or_describe(
    data: DataSection, training_data: str, stored: Mapping[str, Field] | None = None
) -> tuple[sources.Source | None, sources.Info, str]:
    """Opens the training set, or describes it from the section if it is absent.

    Args:
      data: Section `data` of the config.
      training_data: "required", "optional" or "ignored"; see `experiment.build`. Even an "ignored" set is opened if
        nothing else tells what one of the fields is.
      stored: Fields of the set as they are stored, from a checkpoint, or None.

    Returns:
      The set or None, its description, and the reason why it is absent, empty if it is not.

    Raises:
      UserError: The set is needed and absent, or the section contradicts it.
    """
    fields = _known_fields(data) if stored is None else stored
    names = {*fields, *text.sources_of((), data.host)}
    lacking = [name for name in text.sources_of(data.fields, data.host) if name not in names]
    described = data.examples and (data.classes or "label" not in data.fields) and not lacking
    if training_data == "ignored" and described:
        return None, _describe(data, fields), "not asked for"
    try:
        source = open_set(
            name=data.name,
            split=data.split,
            data_dir=data.data_dir,
            options=data.options,
            subset=data.subset,
            host=data.host,
            fields=data.fields,
            classes=data.classes,
        )
    except UserError as error:
        if lacking and training_data != "required":
            raise UserError(
                f"{error}. Only the set, or a checkpoint of a run on it, tells what its field {lacking[0]!r} is: bring "
                f"it here, or leave {lacking[0]!r} out of data.fields"
            ) from None
        if training_data == "required" or not described:
            raise
        why, *more = str(error).splitlines()
        return None, _describe(data, fields), f"{why} {more[0].strip()}" if why.endswith(":") and more else why
    _check_known(data, source)
    return source, source.info, ""


def _check_known(data: DataSection, source: sources.Source) -> None:
    """Raises a UserError if the section contradicts its set."""
    info = source.info
    if data.classes:
        sources.check_classes(info, data.classes)
    if data.multi_label and not info.multi_label:
        raise UserError(f"data.multi_label is True, but an image of {info.name} {info.split} has one label")
    expected, has = data.examples or len(source), len(source)
    if data.subset is not None or expected == has:
        return
    text = f"data.examples is {expected:,}, but {info.name} {info.split} has {has:,} examples"
    if expected < has:
        raise UserError(
            f"{text}: to train on fewer, set data.subset to dict(examples={expected}); data.examples only stands for a "
            "set that is not there"
        )
    _log.warning("%s, and these count", text)  # everybody can download another share of a set of web images


def check_image_size(data: DataSection, stored: tuple[int, int], seen: tuple[int, int]) -> None:
    """Checks that `data.image_size` is the size of the images as they are stored, or after `data.host`.

    Args:
      data: Section `data` of the config.
      stored, seen: Size (height, width) of the first image of the set as it is stored, and after `data.host`.

    Raises:
      UserError: It is neither.
    """
    size = data.image_size
    if size is None:
        return
    expected = (size, size) if isinstance(size, int) else tuple(size)
    if expected not in (tuple(stored), tuple(seen)):
        raise UserError(
            f"data.image_size is {expected[0]}x{expected[1]}, but the first image of {data.name} {data.split} is "
            f"stored at {stored[0]}x{stored[1]} and comes out of data.host={data.host!r} at {seen[0]}x{seen[1]}. "
            "data.image_size stands for a set that is not there: change data.host for images of another size, and set "
            f"data.image_size to {stored[0] if stored[0] == stored[1] else tuple(stored)}, or leave it out"
        )


def _known_fields(data: DataSection) -> dict[str, Field]:
    """Returns the fields of an absent set: those that its source knows without it, and those of the section."""
    label = label_field(data.classes, multi_label=bool(data.classes and data.multi_label))
    described = {"image": ENCODED, **sources.known_fields(data.name, data.options)}
    return {**described, "label": described["label"] if "label" in described and not data.classes else label}


def _describe(data: DataSection, fields: Mapping[str, Field]) -> sources.Info:
    """Returns the description of an absent set from the section."""
    examples = data.examples
    if data.subset is not None:
        wanted = {key: value for key, value in data.subset.items() if key != "seed"}
        examples = configs.call(subsets.subset_size, wanted, "subset", num_classes=data.classes, of=data.examples)
    if examples is None:
        raise UserError("the training set is absent and data.examples is not set: set it, or bring the set here")
    return sources.Info(data.name, data.split, examples, (), data.classes, data.multi_label, fields)


def stored_fields(source: sources.Source, data: DataSection) -> dict[str, Field]:
    """Returns the stored fields that batches are made of, with the shapes and dtypes of the first good example.

    Images are decoded. A checkpoint carries these fields, so that a blank example can replace the set and pass through
    the same host operations.

    Args:
      source: Training set, or a blank one.
      data: Section `data` of the config.
    """
    fields = source.fields
    names = [name for name in wanted.stored_fields(data.fields, data.host, fields) if name in fields]
    numbers = [name for name in names if fields[name].kind != "text"]
    if not numbers:
        return {name: fields[name] for name in names}
    example = first_stored(source, numbers)
    shaped = {name: fields[name]._replace(shape=value.shape, dtype=str(value.dtype)) for name, value in example.items()}
    return {name: shaped.get(name, fields[name]) for name in names}


def batch_fields(source: sources.Source, data: DataSection, batch: Batch) -> dict[str, Field]:
    """Returns the fields of a batch as it comes from the host.

    Args:
      source: Training set, or a blank one.
      data: Section `data` of the config.
      batch: Shapes and dtypes of the batch, from `raw_batch`.
    """
    of_source = wanted.make_source_chain(source, _host(source, data), data.fields).fields
    return {
        name: of_source[name]._replace(shape=tuple(batch[name].shape[1:]), dtype=str(batch[name].dtype))
        for name in data.fields
        if name in of_source
    }


def raw_batch(source: sources.Source, data: DataSection) -> Batch:
    """Returns the shapes and dtypes of a batch as it comes from the host, `ShapeDtypeStruct`s by field.

    Args:
      source: Training set, or a blank one.
      data: Section `data` of the config.
    """
    example = first_arrays(source, _host(source, data), data.fields)
    shapes = {field: jax.ShapeDtypeStruct((data.batch_size, *x.shape), x.dtype) for field, x in example.items()}
    return shapes | {"mask": jax.ShapeDtypeStruct((data.batch_size,), jnp.bool_)}


def _host(source: sources.Source, data: DataSection) -> str:
    return text.stand_in(data.host) if isinstance(source, Blank) else data.host


def image_of(fields: Mapping[str, Field]) -> str | None:
    """Returns the name of the first image among fields, or None.

    Args:
      fields: Fields by name.
    """
    return next((name for name, field in fields.items() if field.kind == "image"), None)


def size_of(field: Field) -> tuple[int, int]:
    """Returns the size of the images of a field, (height, width).

    Args:
      field: Field of images of a known size.
    """
    height, width, _ = field.shape[-3:]
    assert height is not None
    assert width is not None
    return height, width


def statistics(opened: Inputs, data: DataSection, names: Collection[str], *, blank: bool) -> dict[str, np.ndarray]:
    """Computes statistics of the training set, after `data.host` without its random operations.

    Args:
      opened: Training set, or its description.
      data: Section `data` of the config.
      names: Names of statistics, of `data.statistics.Statistics`.
      blank: True for zeros of the right shapes, without reading the set. An absent set has no others.

    Returns:
      Arrays by name.

    Raises:
      UserError: The batches have no images.
    """
    if not names:
        return {}
    if opened.image is None:
        raise UserError(f"the augmentation needs statistics of the images ({', '.join(sorted(names))}): there are none")
    if blank or opened.source is None:
        shape = opened.batch[opened.image].shape[1:]
        pixels = int(np.prod(shape))
        d = pixels if pixels <= statistics_of.MAX_WHITENED else 0
        shapes = dict(zip(statistics_of.Statistics._fields, [(3,), (3,), (3,), (3, 3), shape, (d,), (d, d)]))
        return {name: np.zeros(shapes[name]) for name in names}
    batches = loader.eval_batches(
        opened.source,
        host_ops.host_ops.evaluation(data.host),
        batch_size=min(_STATISTICS_BATCH, len(opened.source)),
        fields=(opened.image,),
        **reading_options(data),
    )
    what = f"statistics of {opened.info.name} {opened.info.split}"
    tracked = track(batches, what, -(-len(opened.source) // _STATISTICS_BATCH), "batches")
    computed = statistics_of.compute_statistics(tracked, names, opened.image)._asdict()
    return {name: computed[name] for name in names}


def reading_options(data: DataSection) -> dict[str, Any]:
    """Returns the keyword arguments of the loader that are common to all streams.

    Args:
      data: Section `data` of the config.
    """
    return dict(threads=data.threads, processes=data.processes, max_bad_fraction=data.max_bad_fraction)
