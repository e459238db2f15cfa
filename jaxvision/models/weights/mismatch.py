"""The error for weights that do not fit a model: some misfits of each kind, and hints."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from jaxvision.errors import UserError
from jaxvision.models.weights import prefixes

LISTED = 24  # number of lines; each kind of misfit gets the same share
SEARCHED = 2_000  # number of names that are compared with a missing one

Shape = tuple[int, ...]


class Misfit(NamedTuple):
    """Arrays that do not fit a model.

    Attributes:
      missing: Names that the model needs and the file lacks, with (shape, our path).
      misshapen: Names that both have, with (shape in the file, shape in the model).
      surplus: Names of the file that the model has no place for, with shapes.
    """

    missing: dict[str, tuple[Shape, str]]
    misshapen: dict[str, tuple[Shape, Shape]]
    surplus: dict[str, Shape]

    def __bool__(self) -> bool:
        return any(self)


def error(what: str, misfit: Misfit, hints: Sequence[str]) -> UserError:
    """Makes the error that counts and lists misfits, missing names first, each with the nearest surplus one.

    Args:
      what: Words for the weights and the model, which begin the message.
      misfit: Arrays that do not fit.
      hints: Lines with probable remedies.
    """
    missing, misshapen, surplus = misfit
    kinds = {"missing": _missing(missing, surplus), "misshapen": _misshapen(misshapen), "surplus": _surplus(surplus)}
    share = LISTED // max(sum(map(bool, misfit)), 1)
    lines = []
    arrays: list[dict[str, Any]] = [missing, misshapen, surplus]
    for (kind, kind_lines), names in zip(kinds.items(), arrays):
        lines += [f"{kind:<10} {line}" for _, line in zip(range(share), kind_lines)]
        lines += [f"... and {len(names) - share:,} more {kind}"] if len(names) > share else []
    counts = ", ".join(f"{len(names):,} {kind}" for kind, names in zip(kinds, arrays))
    return UserError("\n  ".join([f"{what}: {counts}", *lines]) + "".join(f"\n{hint}" for hint in hints))


def hints(
    misfit: Misfit,
    plan: Collection[str],
    names: Collection[str],
    removed_prefix: str,
    readings: Mapping[str, int],
    reasons: Sequence[tuple[str, str]],
) -> list[str]:
    """Returns lines with probable remedies.

    Args:
      misfit: Arrays that do not fit.
      plan: Names that the model needs.
      names: All names of the file.
      removed_prefix: Prefix that was removed from them.
      readings: Numbers of the model's names that the file has when it is read as another library's, by library.
      reasons: Reasons of the table, see `Table.reasons`.
    """
    here = len(plan) - len(misfit.missing)
    lines = []
    for prefix, count in prefixes.offers(names, plan)[:4]:
        if prefix != removed_prefix and count > max(here, len(plan) // 2):
            lines.append(
                f"after {prefix!r} the file has {count:,} of the model's {len(plan):,} names: "
                f"{prefixes.OPTION.format(prefix)} and leaves out the others"
            )
    source, count = max(readings.items(), key=lambda item: item[1], default=("", 0))
    if count > max(2 * here, len(plan) // 2):
        lines.append(
            f"{count:,} of the model's {len(plan):,} names are as {source!r} writes them: is the file from there?"
        )
    misfits = [*misfit.missing, *misfit.misshapen, *misfit.surplus] if here else []
    lines += [text for pattern, text in reasons if any(re.search(pattern, name) for name in misfits)]
    return lines


def _missing(missing: Mapping, surplus: Mapping[str, Shape]):
    pool = list(surplus)[:SEARCHED]
    for name, (shape, ours) in missing.items():
        near = _nearest(name, shape, pool, surplus)
        place = f"; nearest surplus: {near}" if near else ""
        yield f"{name} {list(shape)} (our {ours}{place})"


def _nearest(name: str, shape: Shape, pool: list[str], surplus: Mapping[str, Shape]) -> str | None:
    """Returns the surplus name with the spelling nearest to a missing one; names of the same shape come first."""
    same = [other for other in pool if surplus[other] == shape]
    for names, cutoff in ((same, 0.75), (pool, 0.85)):
        if nearest := difflib.get_close_matches(name, names, n=1, cutoff=cutoff):
            return nearest[0]
    return None


def _misshapen(misshapen: Mapping):
    for name, (shape, wanted) in misshapen.items():
        yield f"{name} {list(shape)}, the model's is {list(wanted)}"


def _surplus(surplus: Mapping[str, Shape]):
    for name in sorted(surplus):
        yield f"{name} {list(surplus[name])}"
