"""Which fields of a set a batch is made of: what a host spec makes needs others, and what it moves needs its image."""

from collections.abc import Mapping, Sequence

from jaxvision.data import host_ops, text
from jaxvision.data.sources.base import Source
from jaxvision.fields import PLACED, Field


def stored(names: Sequence[str], host: str, fields: Mapping[str, Field] | None = None) -> list[str]:
    """The fields that must be read so that a host spec can make those of a batch.

    Args:
      names: Fields of a batch.
      host: Host spec.
      fields: Fields of the set; None where they are not known yet, and the images of what lies in one are not told.

    >>> mask = {"mask": Field("segmentation", (None, None), "uint8", of="image")}
    >>> stored(["mask"], "decode", mask), stored(["mask"], "decode|resize(8)", mask)
    (['mask'], ['mask', 'image'])
    """
    names = text.sources_of(names, host)
    found = [(fields or {}).get(name) for name in names]
    images = [field.of for field in found if field is not None and field.kind in PLACED and field.of]
    if not set(images) <= set(names) and host_ops.moves(host):
        names = [*names, *images]
    return list(dict.fromkeys(names))


def chain(source: Source, host: str, names: Sequence[str]) -> host_ops.Chain:
    """The operations of a host spec on the examples of a set, for batches of these fields.

    A source may give its images whether or not they are wanted, so that all of them are of concern.

    Raises:
      UserError: What `host_ops.make` raises.
    """
    fields = source.fields
    read = stored(names, host, fields)
    of_concern = {name: field for name, field in fields.items() if name in read or field.kind == "image"}
    return host_ops.make(host, source.info.classes, of_concern)
