"""From the labels in a file (numbers or names, one or several per example) to class numbers."""

import ast
import logging
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import path_names
from jaxvision.data.sources.base import ENCODED, Info, standard_fields
from jaxvision.errors import UserError, nearest, shown
from jaxvision.fields import Field
from jaxvision.reading import decode_text, is_file, read_text

_log = logging.getLogger(__name__)

Classes = tuple[str, ...] | int  # names, or their number
Stated = int | float | str | bytes | Decimal | Sequence[int | float | str | bytes | Decimal]
Describe = Callable[[int], str]

# Texts that spreadsheets, pandas and databases write for a missing value. With `classes=` they can be names.
MISSING = ("", "nan", "-nan", "null", "none", "na", "n/a", "<na>", "#n/a", "#na", "nat")
MOST_OF_SEVERAL = 2**20  # largest number of classes if an example may have several
LARGEST = 2**31 - 1  # labels are int32
BOOLEANS = ("false", "true")
_NO_LABEL = (
    "; -1 means 'no label', as in test splits of the Hugging Face Hub. To use this split leave 'label' out of "
    "data.fields; if only another split has no labels, say how many classes there are with the option classes"
)
_SEPARATORS = re.compile(r"[,;|]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def read_classes(classes: str | Sequence[str] | int | None, root: Path) -> Classes | None:
    """Reads the option `classes`.

    Args:
      classes: File in `root` with one name per line, the names themselves, their number, or None.
      root: Folder of the data set.

    Returns:
      The names, or their number; None if the option is not given.

    Raises:
      UserError: There is no such file, a name occurs twice, or the number is below one.
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
        file = root / path_names.expanded(classes)
        if not is_file(file):
            names = tuple(name.strip() for name in classes.split(","))
            hint = f': names without a file are a tuple, classes="{names}"' if len(names) > 1 else ""
            raise UserError(f"no file of class names {file}{hint}")
        classes = [line for line in read_text(file).splitlines() if line.strip()]
        if not classes:
            raise UserError(f"the file of class names {file} is empty")
    names = tuple(class_name(str(name)) for name in classes)
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise UserError(f"the list of classes has the name {name!r} {count} times: give each class a name of its own")
    return names


def class_name(text: str) -> str:
    """Strips a name and composes its letters (NFC): macOS stores `é` as two characters.

    Args:
      text: Name as written.

    >>> class_name(" cafe\\u0301 ") == "caf\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", text.strip())


def infer_classes(groups: Iterable[tuple[Iterable[Stated], Describe]]) -> Classes:
    """Infers the classes from labels: the sorted names, or one more than the largest number.

    Args:
      groups: Groups of labels as they are in files, each with the function that names the place of the label at an
        index.

    Raises:
      UserError: A label is missing, negative, or neither a whole number nor a name; numbers and names are mixed; or all
        lists of labels are empty.

    >>> infer_classes([(["owl", "cat ", "owl"], str)]), infer_classes([([[0, 2], [], ["1"]], str)])
    (('cat', 'owl'), 3)
    """
    examples: dict[type, tuple[Any, str]] = {}
    counts: Counter[type] = Counter()
    names: dict[str, str] = {}  # each with the place of its first occurrence
    largest, first = -1, ""
    for stated, describe in groups:
        for index, label in enumerate(stated):
            first = first or describe(index)
            for item in _flat(label):
                value = _clean(item, index, describe)
                kind = type(value)
                counts[kind] += 1
                if kind not in examples:
                    examples[kind] = value, describe(index)
                if isinstance(value, str):
                    if value not in names:
                        names[value] = describe(index)
                elif not 0 <= value <= LARGEST:
                    why = "negative" if value < 0 else f"larger than {LARGEST:,}"
                    hint = _NO_LABEL if value == -1 else ""
                    raise UserError(
                        f"{describe(index)}: the label {item!r} is {why}; classes are numbered from 0{hint}"
                    )
                else:
                    largest = max(largest, value)
    if len(counts) > 1:
        mixed = " and ".join(
            f"{counts[kind]:,} {word} (such as {examples[kind][0]!r} at {examples[kind][1]})"
            for kind, word in ((int, "whole numbers"), (str, "names"))
        )
        raise UserError(f"the labels mix {mixed}. Correct the labels, or give all names with the option classes")
    if first and not counts:
        raise UserError(
            f"no example has a label: all are empty lists, such as that of {first}. Name another column with the "
            "option label, or leave 'label' out of data.fields"
        )
    _warn_of_odd_names(names)
    return tuple(sorted(names)) if names else largest + 1


def _warn_of_odd_names(names: Mapping[str, str]) -> None:
    """Warns of a name that seems to be a list of names, and of names that differ only in upper and lower case.

    Args:
      names: Class names, each with the place of its first occurrence.
    """
    parts = {name: [part.strip() for part in _SEPARATORS.split(name) if part.strip()] for name in names}
    lists = {name: words for name, words in parts.items() if len(words) > 1}
    counts = Counter(word for words in parts.values() for word in set(words))
    # Names of ImageNet have commas, too ("tench, Tinca tinca"); bars and semicolons are rare in names.
    odd = [name for name, words in lists.items() if re.search("[;|]", name) or any(counts[w] > 1 for w in words)]
    if odd:
        _log.warning(
            "the label %s at %s is read as one class of this name%s. If an image may be of several classes, write "
            "lists, as in ['cat', 'dog'] (in a manifest also cat;dog, in a column that is named with the option "
            "labels); if it is one name, give all names with the option classes",
            shown(odd[0]),
            names[odd[0]],
            f", and so are {len(odd) - 1:,} more like it" if len(odd) > 1 else "",
        )
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    if alike := [group for group in folded.values() if len(group) > 1]:
        one, other = alike[0][:2]
        more = f", and {len(alike) - 1:,} more pairs" if len(alike) > 1 else ""
        _log.warning(
            "%r (at %s) and %r (at %s) are two classes whose names differ only in upper and lower case%s: write them "
            "alike if they are one",
            one,
            names[one],
            other,
            names[other],
            more,
        )


def _flat(label: Any) -> Iterable[Any]:
    return label if isinstance(label, list | tuple | np.ndarray) else (label,)


def _clean(label: Any, index: int, describe: Describe, names: Sequence[str] | dict[str, int] = ()) -> int | str:
    """Returns a label as a whole number, or as a name without blanks around it. Bytes are decoded as UTF-8.

    A boolean, or a text that reads like one, is a label only if it is in `names`, in upper or lower case.

    Raises:
      UserError: The label is missing, or neither a number nor a name; the message names its place.
    """
    if isinstance(label, bytes):
        label = decode_text(label, f"{describe(index)}: the label {shown(label)}")
    if isinstance(label, bool | np.bool_) or (isinstance(label, str) and label.strip().lower() in BOOLEANS):
        text = str(label).strip()
        matches = [text] if text in names else [name for name in names if name.lower() == text.lower()]
        if len(matches) == 1:
            return matches[0]
        raise UserError(
            f"{describe(index)}: the label {label!r} is neither a whole number nor a name, but a boolean: write 0 and "
            "1, or give the two names with the option classes=('False', 'True')"
        )
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
    if label is None or (isinstance(label, float | np.floating | Decimal) and math.isnan(label)):
        raise UserError(f"{describe(index)}: the label is missing ({label!r})")
    if isinstance(label, int | np.integer):
        return int(label)
    if isinstance(label, float | np.floating | Decimal) and math.isfinite(label) and label == math.floor(label):
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
    """The class numbers of a list of examples; multi-label if any of them has a list.

    Args:
      stated: Label of each example: a number, a name, or a list of them. Numbers may be written as floats, decimals or
        texts, names as UTF-8 bytes.
      classes: Names of the classes, or their number. A text is looked up among the names; a text of digits that is not
        a name is a number, unless names consist of digits themselves.
      describe: Function that names the example at an index, for messages.
      numbered: True if a number is the position of its class in `classes` even if names consist of digits, as in sets
        that store class numbers beside the names. If False, a number that is also the name of another class is an
        error.

    Raises:
      UserError: A label is missing, or is none of `classes`.

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

        def number_of(label: Any, example: int) -> int:
            value = _clean(label, example, describe, lookup)
            label = label.decode("utf-8-sig") if isinstance(label, bytes) else label
            if digits and isinstance(label, str):
                number = lookup.get(class_name(label))
            elif digits and not numbered and lookup.get(str(value)) not in (None, value):
                raise UserError(
                    f"{describe(example)}: the label {shown(label)} is the number of one class and the name of "
                    f"another, {str(value)!r}: write names as texts"
                )
            else:
                number = lookup.get(value) if isinstance(value, str) else value
            if number is None or not 0 <= number < self.count:
                hint = _NO_LABEL if value == -1 else nearest(label, self.names)
                raise UserError(
                    f"{describe(example)}: the label {shown(label)} is none of the {self.count} classes{hint}"
                )
            return number

        self._numbers: list[np.ndarray] | np.ndarray
        if self.multi:
            lists = [[number_of(x, i) for x in _flat(label)] for i, label in enumerate(stated)]
            self._numbers = [np.array(numbers, np.int32) for numbers in lists]
        else:
            self._numbers = np.array([number_of(label, i) for i, label in enumerate(stated)], np.int32)

    def __getitem__(self, index: int) -> Any:
        """Returns an int, or float32 [k] of zeros and ones."""
        if not self.multi:
            return int(self._numbers[index])
        hot = np.zeros(self.count, np.float32)
        hot[self._numbers[index]] = 1
        return hot

    def array(self) -> np.ndarray:
        """Returns all labels: int32 [n], or float32 [n, k] of zeros and ones."""
        return np.stack([self[i] for i in range(len(self._numbers))]) if self.multi else np.asarray(self._numbers)


def make_info(
    name: str, split: str, examples: int, labels: Labels | None, image: Field = ENCODED, text: bool = False
) -> Info:
    """Returns the description of a source with these labels, images and perhaps texts.

    Args:
      name: Name of the set.
      split: Text of the split.
      examples: Number of examples.
      labels: Labels, None if there are none.
      image: Field of the images.
      text: True if there are texts.
    """
    info = Info(name, split, examples, (), None)
    if labels is not None:
        info = Info(name, split, examples, labels.names, labels.count, labels.multi)
    return info._replace(fields=standard_fields(info, image, text))
