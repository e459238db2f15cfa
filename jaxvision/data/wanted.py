"""The stored fields from which a batch is made: inputs of host operations, and images of fields that move with them."""

from collections.abc import Mapping, Sequence

from jaxvision.data import host_ops, text
from jaxvision.data.sources.base import Source
from jaxvision.fields import PLACED, Field


def stored_fields(names: Sequence[str], host: str, fields: Mapping[str, Field] | None = None) -> list[str]:
    """Returns the fields that must be read so that a host spec can make those of a batch.

    Args:
      names: Names of the fields of a batch.
      host: Host spec.
      fields: Fields of the set by name. None if they are unknown; then the images of boxes and the like are not added.

    >>> mask = {"mask": Field("segmentation", (None, None), "uint8", of="image")}
    >>> stored_fields(["mask"], "decode", mask), stored_fields(["mask"], "decode|resize(8)", mask)
    (['mask'], ['mask', 'image'])
    """
    names = text.sources_of(names, host)
    described = [(fields or {}).get(name) for name in names]
    images = [field.of for field in described if field is not None and field.kind in PLACED and field.of]
    if not set(images) <= set(names) and host_ops.moves(host):
        names = [*names, *images]
    return list(dict.fromkeys(names))


def make_source_chain(source: Source, host: str, names: Sequence[str]) -> host_ops.Chain:
    """Returns the operations of a host spec on the examples of a set, for batches of some fields.

    A source may give its images whether or not they are asked for, so the operations know all of them.

    Args:
      source: Source of the examples.
      host: Host spec.
      names: Names of the fields of a batch.

    Raises:
      UserError: The same errors as those of `host_ops.make_chain`.
    """
    fields = source.fields
    inputs = stored_fields(names, host, fields)
    relevant = {name: field for name, field in fields.items() if name in inputs or field.kind == "image"}
    return host_ops.make_chain(host, source.info.classes, relevant)
