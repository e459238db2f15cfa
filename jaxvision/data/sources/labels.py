"""From the labels that a file states (numbers or names, one or several) to class numbers."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.sources.base import Info
from jaxvision.errors import UserError, nearest

Classes = tuple[str, ...] | int  # names, or how many there are
Stated = int | str | Sequence[int | str]


def read_classes(classes: str | Sequence[str] | int | None, root: Path) -> Classes | None:
    """Reads the option `classes`: a file in `root` with one name a line, the names themselves, or their number.

    Raises:
      UserError: no such file, or a name that stands there twice.
    """
    if isinstance(classes, str):
        file = root / Path(classes).expanduser()
        if not file.is_file():
            raise UserError(f"no file of class names {file}")
        classes = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if classes is None or isinstance(classes, int):
        return classes
    name, count = Counter(classes).most_common(1)[0] if classes else ("", 0)
    if count > 1:
        raise UserError(f"the class name {name!r} stands {count} times in the list")
    return tuple(classes)


def infer_classes(stated: Iterable[Stated]) -> Classes:
    """The classes of labels without a list of names: the sorted names, or one more than the largest number.

    >>> infer_classes(["owl", "cat", "owl"]), infer_classes([[0, 2], [], ["1"]])
    (('cat', 'owl'), 3)
    """
    flat = {x for label in stated for x in ([label] if isinstance(label, int | str) else label)}
    numbers = [_number(x) for x in flat]
    if None in numbers:
        return tuple(sorted(map(str, flat)))
    return 1 + max(numbers, default=-1)


def _number(label: Any) -> int | None:
    if isinstance(label, str):
        return int(label) if label.isdecimal() else None
    return int(label) if isinstance(label, int | np.integer) else None


class Labels:
    """The class numbers of a list of examples; multi-label if any of them states a list.

    Args:
      stated: for each example a number, a name, or a list of them.
      classes: what they may be. A name is looked up first; a text of digits that is no name is a number.
      describe: names the example at an index, for messages.

    Raises:
      UserError: a label is none of `classes`.

    >>> labels = Labels([["cat"], [], ["cat", "owl"]], ("cat", "owl"))
    >>> labels[2], labels.array().tolist()
    (array([1., 1.], dtype=float32), [[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    """

    def __init__(self, stated: Sequence[Stated], classes: Classes, describe: Callable[[int], str] = str):
        self.names = () if isinstance(classes, int) else classes
        self.count = classes if isinstance(classes, int) else len(classes)
        self.multi = any(isinstance(label, list | tuple) for label in stated)
        index = {name: i for i, name in enumerate(self.names)}

        def number(label: int | str, example: int) -> int:
            found = index[label] if label in index else _number(label)
            if found is None or not 0 <= found < self.count:
                hint = nearest(label, self.names)
                raise UserError(f"{describe(example)}: the label {label!r} is none of the {self.count} classes{hint}")
            return found

        if self.multi:
            lists = ([label] if isinstance(label, int | str) else label for label in stated)
            self._numbers = [np.array([number(x, i) for x in labels], np.int32) for i, labels in enumerate(lists)]
        else:
            self._numbers = np.array([number(label, i) for i, label in enumerate(stated)], np.int32)

    def __getitem__(self, index: int) -> Any:
        """An int, or float32 [K] of zeros and ones."""
        if not self.multi:
            return int(self._numbers[index])
        hot = np.zeros(self.count, np.float32)
        hot[self._numbers[index]] = 1
        return hot

    def array(self) -> np.ndarray:
        """All of them: int32 [n], or float32 [n, K]."""
        return np.stack([self[i] for i in range(len(self._numbers))]) if self.multi else self._numbers


def make_info(name: str, split: str, examples: int, labels: Labels | None) -> Info:
    """What a source with these labels says of itself."""
    if labels is None:
        return Info(name, split, examples, (), None)
    return Info(name, split, examples, labels.names, labels.count, labels.multi)
