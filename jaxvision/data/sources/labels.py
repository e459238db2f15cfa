"""From the labels that a file states (numbers or names, one or several) to class numbers."""

import ast
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.sources.base import Info
from jaxvision.errors import UserError, nearest, shown
from jaxvision.reading import is_file, read_text

Classes = tuple[str, ...] | int  # names, or how many there are
Stated = int | float | str | Sequence[int | float | str]
Describe = Callable[[int], str]

# What spreadsheets, pandas and databases write where there is no value. `classes=` makes one of them a name.
MISSING = ("", "nan", "-nan", "null", "none", "na", "n/a", "<na>", "#n/a", "#na", "nat")
MOST_OF_SEVERAL = 2**20  # classes where an example may be of several
LARGEST = 2**31 - 1  # labels are int32
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def read_classes(classes: str | Sequence[str] | int | None, root: Path) -> Classes | None:
    """Reads the option `classes`: a file in `root` with one name a line, the names themselves, or their number.

    Raises:
      UserError: no such file, a name that stands there twice, or a number below one.
    """
    if classes is None:
        return None
    if isinstance(classes, bool) or not isinstance(classes, str | int | np.integer | Sequence):
        raise UserError(f"classes is a file of names, a tuple of names or their number, not {shown(classes)}")
    if isinstance(classes, int | np.integer):
        if not 1 <= classes <= LARGEST + 1:
            raise UserError(f"classes={shown(classes)}: a set has at least one class, at most {LARGEST + 1:,}")
        return int(classes)
    if isinstance(classes, str):
        file = root / Path(classes).expanduser()
        if not is_file(file):
            raise UserError(f"no file of class names {file}")
        classes = [line for line in read_text(file).splitlines() if line.strip()]
        if not classes:
            raise UserError(f"the file of class names {file} is empty")
    names = tuple(class_name(str(name)) for name in classes)
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise UserError(f"the class name {name!r} stands {count} times in the list")
    return names


def class_name(text: str) -> str:
    """A name without the blanks around it, its letters composed (NFC): macOS stores `é` as two characters.

    >>> class_name(" cafe\\u0301 ") == "caf\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", text.strip())


def infer_classes(groups: Iterable[tuple[Iterable[Stated], Describe]]) -> Classes:
    """The classes of labels without a list of names: the sorted names, or one more than the largest number.

    Args:
      groups: labels as files state them, each group with the function that names the place of the label at an index.

    Raises:
      UserError: a label that is missing, negative, or neither a whole number nor a name; or numbers beside names.

    >>> infer_classes([(["owl", "cat ", "owl"], str)]), infer_classes([([[0, 2], [], ["1"]], str)])
    (('cat', 'owl'), 3)
    """
    examples: dict[type, tuple[Any, str]] = {}
    counts: Counter[type] = Counter()
    names, largest = set(), -1
    for stated, describe in groups:
        for index, label in enumerate(stated):
            for one in _flat(label):
                value = _clean(one, index, describe)
                kind = type(value)
                counts[kind] += 1
                if kind not in examples:
                    examples[kind] = value, describe(index)
                if kind is str:
                    names.add(value)
                elif not 0 <= value <= LARGEST:
                    why = "negative" if value < 0 else f"larger than {LARGEST:,}"
                    raise UserError(f"{describe(index)}: the label {one!r} is {why}; classes are numbered from 0")
                else:
                    largest = max(largest, value)
    if len(counts) > 1:
        said = " and ".join(
            f"{counts[kind]:,} {word} (such as {examples[kind][0]!r} at {examples[kind][1]})"
            for kind, word in ((int, "whole numbers"), (str, "names"))
        )
        raise UserError(f"the labels mix {said}. Mend the labels, or give all names with the option classes")
    return tuple(sorted(names)) if names else largest + 1


def _flat(label: Any) -> Iterable[Any]:
    return label if isinstance(label, list | tuple | np.ndarray) else (label,)


def _clean(label: Any, index: int, describe: Describe, names: Sequence[str] | dict[str, int] = ()) -> int | str:
    """A stated label as a whole number, or as a name without blanks around it.

    Raises:
      UserError: it is missing, or neither; with its place.
    """
    if isinstance(label, str):
        name = class_name(label)
        if name in names:
            return name
        if name.lower() in MISSING:
            raise UserError(
                f"{describe(index)}: the label is missing ({label!r}). Leave the example out, or if this is the name "
                "of a class, give all names with the option classes"
            )
        if _NUMBER.fullmatch(name):
            if name.lstrip("+-").isdecimal() and len(name) < 20:
                return int(name)
            label = float(name)
        elif name[0] in "[({" and _is_list(name):
            raise UserError(f"{describe(index)}: the label {shown(label)} is a list; want a whole number or a name")
        else:
            return name
    if label is None or (isinstance(label, float | np.floating) and math.isnan(label)):
        raise UserError(f"{describe(index)}: the label is missing ({label!r})")
    if isinstance(label, int | np.integer) and not isinstance(label, bool):
        return int(label)
    if isinstance(label, float | np.floating) and float(label).is_integer():
        return int(label)
    raise UserError(
        f"{describe(index)}: the label {shown(label)} is neither a whole number nor a name; where it is the name of a "
        "class, give all names with the option classes"
    )


def _is_list(text: str) -> bool:
    try:
        return not isinstance(ast.literal_eval(text), str | int | float)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return False


class Labels:
    """The class numbers of a list of examples; multi-label if any of them states a list.

    Args:
      stated: for each example a number, a name, or a list of them. Numbers may be written as floats or texts.
      classes: what they may be. A text is looked up among the names; a text of digits that is no name is a number,
        unless names are digits themselves.
      describe: names the example at an index, for messages.
      numbered: whether a number is the place of its class in `classes` even where names are digits, as in sets that
        store class numbers beside the names; else a number that is the text of another class's name is an error.

    Raises:
      UserError: a label is missing, or none of `classes`.

    >>> labels = Labels([["cat"], [], ["cat", "owl"]], ("cat", "owl"))
    >>> labels[2], labels.array().tolist()
    (array([1., 1.], dtype=float32), [[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    """

    def __init__(self, stated: Sequence[Stated], classes: Classes, describe: Describe = str, *, numbered: bool = False):
        self.names = () if isinstance(classes, int) else classes
        self.count = classes if isinstance(classes, int) else len(classes)
        self.multi = any(isinstance(label, list | tuple | np.ndarray) for label in stated)
        if self.multi and self.count > MOST_OF_SEVERAL:
            raise UserError(f"an example of several labels is an array of all classes: {self.count:,} are too many")
        lookup = {name: i for i, name in enumerate(self.names)}
        digits = any(name.isdecimal() for name in self.names)

        def number(label: Any, example: int) -> int:
            value = _clean(label, example, describe, lookup)
            if digits and isinstance(label, str):
                found = lookup.get(class_name(label))
            elif digits and not numbered and lookup.get(str(value)) not in (None, value):
                raise UserError(
                    f"{describe(example)}: the label {shown(label)} is the number of one class and the name of "
                    f"another, {str(value)!r}: write names as texts"
                )
            else:
                found = lookup.get(value) if isinstance(value, str) else value
            if found is None or not 0 <= found < self.count:
                hint = nearest(label, self.names)
                raise UserError(
                    f"{describe(example)}: the label {shown(label)} is none of the {self.count} classes{hint}"
                )
            return found

        if self.multi:
            lists = [[number(x, i) for x in _flat(label)] for i, label in enumerate(stated)]
            self._numbers = [np.array(numbers, np.int32) for numbers in lists]
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
