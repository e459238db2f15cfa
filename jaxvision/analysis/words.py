"""Formats results as words and tables, for the reports of studies."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from jaxvision.analysis.statistics import Difference, Interval

PERMUTATION = "permutation p"
ONE_SEED = "A number without ± comes from one seed, whose noise is unknown: it shows a direction only."


def plain(text: object) -> str:
    r"""Escapes a name or a message for Markdown, so that nothing in it is a link, a picture or a line of its own.

    Args:
      text: Text, or an object to convert to text.

    >>> print(plain("set_a [x](http://y)"))
    set_a \[x\](http://y)
    """
    return re.sub(r"([\\`*\[\]<>|&~]|^[#+-])", r"\\\1", " ".join(str(text).split()))


def code(text: object) -> str:
    """Formats a value as code in Markdown. Inside a table, the row must be made by `table_row` or `table`.

    Args:
      text: Text, or an object to convert to text.

    >>> code("a`b|c")
    "`a'b|c`"
    """
    return "`" + " ".join(str(text).split()).replace("`", "'") + "`"


def table_row(cells: Sequence[str]) -> str:
    r"""Formats a line of a Markdown table. A bar inside code is escaped, which it must be in a table and nowhere else.

    Args:
      cells: Markdown of each cell.

    >>> print(table_row([code("flip_lr|normalize"), "a"]))
    | `flip_lr\|normalize` | a |
    """
    escaped = [re.sub(r"(?<!\\)`[^`]*`", lambda span: span[0].replace("|", r"\|"), cell) for cell in cells]
    return f"| {' | '.join(escaped)} |"


def percent(interval: Interval) -> str:
    """Formats a share in percent with half the width of its interval, if it has one.

    Args:
      interval: Mean and interval of shares in [0, 1].

    >>> percent(Interval(0.5, 0.48, 0.52, 3)), percent(Interval(0.5, np.nan, np.nan, 1))
    ('50.0 ± 2.0', '50.0')
    """
    half = "" if np.isnan(interval.half) else f" ± {100 * interval.half:.1f}"
    return f"{100 * interval.mean:.1f}{half}"


def gain(interval: Interval) -> str:
    """Formats a difference of shares in percentage points with half the width of its interval, without a sign.

    Words before or after it tell the sign: "ahead by 4.0 ± 5.0 points", "0.5 ± 0.2 points fewer".

    Args:
      interval: Difference of shares in [0, 1]; that of a negative mean is given as its opposite.

    >>> gain(Interval(-0.04, -0.09, 0.01, 3)), gain(Interval(0.04, np.nan, np.nan, 1))
    ('4.0 ± 5.0 points', '4.0 points')
    """
    return f"{percent(interval if interval.mean >= 0 else interval.negated())} points"


def points(difference: Difference) -> str:
    """Formats a difference of shares in percentage points, with each seed and the p of the permutation test.

    Args:
      difference: Difference of shares in [0, 1].

    >>> from jaxvision.analysis.statistics import paired_difference
    >>> points(paired_difference([0.52, 0.54, 0.56], [0.50, 0.50, 0.50]))
    '4.0 ± 5.0 points (by seed +2.0, +4.0, +6.0; permutation p 0.25)'
    """
    if len(difference.each) == 1:
        return f"{100 * difference.each[0]:+.1f} points (one seed, no interval)"
    each = ", ".join(f"{100 * value:+.1f}" for value in difference.each)
    return f"{percent(difference.interval)} points (by seed {each}; {PERMUTATION} {difference.p:.2f})"


def sentence(text: str) -> str:
    """Returns the text with a capital at its beginning and a full stop at its end.

    Args:
      text: Clause, not empty.

    >>> sentence("whether it rises is not settled")
    'Whether it rises is not settled.'
    """
    return f"{text[0].upper()}{text[1:]}."


def listed(items: Sequence[object]) -> str:
    """Joins items by commas, the last one by "and".

    Args:
      items: Items, in order; none give an empty text.

    >>> listed([0]), listed([0, 1, 2])
    ('0', '0, 1 and 2')
    """
    texts = list(map(str, items))
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def seeds(numbers: Sequence[int]) -> str:
    """Says what an interval over seeds is, or that one seed gives none.

    Args:
      numbers: Seeds.

    >>> seeds((0, 1, 2)), seeds((0,))
    ('3 seeds', 'one seed')
    """
    return f"{len(numbers)} seeds" if len(numbers) > 1 else "one seed"


def table(
    corner: str,
    head: Sequence[str],
    lines: Mapping[str, Sequence[str]] | Sequence[tuple[str, Sequence[str]]],
    *,
    left: bool = False,
) -> list[str]:
    """Formats a Markdown table, with an empty line before and after it.

    Args:
      corner: Title of the column of names.
      head: Titles of the other columns.
      lines: Name of each row -> its cells; or pairs of both, if names may be equal.
      left: True to align the cells to the left, for words; False to the right, for numbers.

    Returns:
      The lines of the table.

    >>> table("arm", ["top-1"], {"crop only": ["41.0 ± 0.9"]})
    ['', '| arm | top-1 |', '|---|---:|', '| crop only | 41.0 ± 0.9 |', '']
    """
    return [
        "",
        table_row([corner, *head]),
        "|---|" + ("---|" if left else "---:|") * len(head),
        *(table_row([name, *cells]) for name, cells in (lines.items() if isinstance(lines, Mapping) else lines)),
        "",
    ]
