"""The error for weights that do not fit a model: some of each kind of misfit, and what probably helps."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from jaxvision.errors import UserError
from jaxvision.models.weights import prefixes

LISTED = 24  # lines in all; each kind of misfit has its share
SEARCHED = 2_000  # names in which a near one is looked for

Shape = tuple[int, ...]


class Misfit(NamedTuple):
    """What does not fit.

    Attributes:
      missing: names that the model needs and the file lacks: (shape, our path).
      misshapen: names that both have: (shape in the file, the model's).
      surplus: names of the file that the model has no place for: shape.
    """

    missing: Mapping[str, tuple[Shape, str]]
    misshapen: Mapping[str, tuple[Shape, Shape]]
    surplus: Mapping[str, Shape]

    def __bool__(self) -> bool:
        return any(self)


def error(what: str, misfit: Misfit, hints: Sequence[str]) -> UserError:
    """The error that counts and lists what does not fit, missing names first, with the nearest surplus ones.

    Args:
      what: which weights, of which model.
      misfit: what does not fit.
      hints: what probably helps, a line each.
    """
    missing, misshapen, surplus = misfit
    kinds = {"missing": _missing(missing, surplus), "misshapen": _misshapen(misshapen), "surplus": _surplus(surplus)}
    share = LISTED // max(sum(map(bool, misfit)), 1)
    lines = []
    for (kind, made), names in zip(kinds.items(), misfit):
        lines += [f"{kind:<10} {line}" for _, line in zip(range(share), made)]
        lines += [f"... and {len(names) - share:,} more {kind}"] if len(names) > share else []
    counts = ", ".join(f"{len(names):,} {kind}" for kind, names in zip(kinds, misfit))
    return UserError("\n  ".join([f"{what}: {counts}", *lines]) + "".join(f"\n{hint}" for hint in hints))


def hints(
    misfit: Misfit,
    plan: Collection[str],
    names: Collection[str],
    taken: str,
    readings: Mapping[str, int],
    reasons: Sequence[tuple[str, str]],
) -> list[str]:
    """What probably helps.

    Args:
      misfit: what does not fit.
      plan: names that the model needs.
      names: all names of the file.
      taken: the prefix that was taken off them.
      readings: how many names of the model the file has when it is read as another library's.
      reasons: of the table.
    """
    here = len(plan) - len(misfit.missing)
    lines = []
    for prefix, count in prefixes.offers(names, plan)[:4]:
        if prefix != taken and count > max(here, len(plan) // 2):
            lines.append(
                f"behind {prefix!r} stand {count:,} of the model's {len(plan):,} names: "
                f"{prefixes.OPTION.format(prefix)} and leaves out the others"
            )
    source, count = max(readings.items(), key=lambda item: item[1], default=("", 0))
    if count > max(2 * here, len(plan) // 2):
        lines.append(
            f"{count:,} of the model's {len(plan):,} names are as {source!r} writes them: is the file of that?"
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
    """The surplus name that is spelt most like a missing one, those of its shape first."""
    same = [other for other in pool if surplus[other] == shape]
    for names, cutoff in ((same, 0.75), (pool, 0.85)):
        if found := difflib.get_close_matches(name, names, n=1, cutoff=cutoff):
            return found[0]
    return None


def _misshapen(misshapen: Mapping):
    for name, (shape, wanted) in misshapen.items():
        yield f"{name} {list(shape)}, the model's is {list(wanted)}"


def _surplus(surplus: Mapping[str, Shape]):
    for name in sorted(surplus):
        yield f"{name} {list(surplus[name])}"
