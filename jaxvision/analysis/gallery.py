"""The figures of a report: which of them are drawn, and their captions.

A figure is left out if none of its curves has LEAST points, because a table says two numbers better than a line. This
rule is here and nowhere else; the report says in the place of the figure that it was left out.
"""

from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import TypeVar

LEAST = 3  # fewest points of a curve, bars of a histogram or dots of a scatter that are worth a figure
WHY = f"no curve of it would have {LEAST} points, so the tables say all that it could"
NOTHING = "the results hold no values for it"  # such as records of training that were not kept

Curves = TypeVar("Curves", bound=Mapping[str, Sized])


def informative(curves: Iterable[Sized]) -> bool:
    """Returns True if one of the curves has as many points as a figure needs.

    Args:
      curves: Points of each curve of a figure or a panel.

    >>> informative([[1, 2]]), informative([[1, 2], [1, 2, 3]])
    (False, True)
    """
    return any(len(curve) >= LEAST for curve in curves)


def informative_panels(panels: Mapping[str, Curves]) -> dict[str, Curves]:
    """Returns the panels that have as many points as a figure needs.

    Args:
      panels: Title of a panel -> name of a curve -> its points.
    """
    return {title: curves for title, curves in panels.items() if informative(curves.values())}


class Gallery:
    """The figures of one report.

    Args:
      out: Folder of the report.
      folder: Folder of the figures in it, which is made; empty for `out` itself.

    Attributes:
      lines: Lines of Markdown, one for each figure that was placed or left out.
    """

    def __init__(self, out: Path, folder: str = "figures"):
        self._folder, self._prefix, self.lines = out / folder, f"{folder}/" if folder else "", list[str]()
        self._folder.mkdir(parents=True, exist_ok=True)

    def place(self, name: str, what: str, caption: str, curves: Iterable[Sized]) -> Path | None:
        """Adds a figure to the report, or the reason why it is left out.

        Args:
          name: Name of the figure's file, without a suffix.
          what: Content of the figure in a few words, for readers who do not see it.
          caption: Caption: what is drawn, axes, bands, number of seeds.
          curves: Points of each curve.

        Returns:
          The path to draw it to, without a suffix; None if it is left out.
        """
        curves = list(curves)
        if not informative(curves):
            self.lines.append(f"*Not drawn: {what}; {WHY if any(map(len, curves)) else NOTHING}.*\n")
            return None
        self.lines.append(f"![{what}]({self._prefix}{name}.png)\n*{caption}*\n")
        return self._folder / name
