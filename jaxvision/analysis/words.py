"""Results in words, as the reports of the studies write them."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from jaxvision.analysis.statistics import Difference, Interval


def plain(text: object) -> str:
    r"""A name or a message as it stands in Markdown: nothing in it is a link, a picture or a line of its own.

    >>> print(plain("set_a [x](http://y)"))
    set_a \[x\](http://y)
    """
    return re.sub(r"([\\`*\[\]<>|&~]|^[#+-])", r"\\\1", " ".join(str(text).split()))


def code(text: object) -> str:
    r"""A value as code in Markdown, also in the cell of a table.

    >>> print(code("a`b|c"))
    `a'b\|c`
    """
    return "`" + " ".join(str(text).split()).replace("`", "'").replace("|", "\\|") + "`"


def percent(interval: Interval) -> str:
    """A share in percent with its interval, if it has one.

    >>> percent(Interval(0.5, 0.48, 0.52, 3)), percent(Interval(0.5, np.nan, np.nan, 1))
    ('50.0 ± 2.0', '50.0')
    """
    half = "" if np.isnan(interval.half) else f" ± {100 * interval.half:.1f}"
    return f"{100 * interval.mean:.1f}{half}"


def points(difference: Difference) -> str:
    """A difference of shares in points, every seed, and the p of the permutation test."""
    if len(difference.each) == 1:
        return f"{100 * difference.each[0]:+.1f} points"
    each = ", ".join(f"{100 * value:+.1f}" for value in difference.each)
    return f"{percent(difference.interval)} points (by seed {each}; permutation p {difference.p:.2f})"


def verdict(name: str, met: bool, told: str) -> str:
    """The line of a criterion.

    >>> verdict("rises", False, "by 0.1 ± 0.3 points")
    '- rises: FAILED; by 0.1 ± 0.3 points.'
    """
    return f"- {name}: {'met' if met else 'FAILED'}; {told}."


def table(corner: str, head: Sequence[str], lines: Mapping[str, Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown with empty ones around it: names at the left, cells at the right of columns.

    >>> table("arm", ["top-1"], {"crop only": ["41.0 ± 0.9"]})
    ['', '| arm | top-1 |', '|---|---:|', '| crop only | 41.0 ± 0.9 |', '']
    """
    return [
        "",
        f"| {corner} | {' | '.join(head)} |",
        "|---|" + "---:|" * len(head),
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in lines.items()),
        "",
    ]
