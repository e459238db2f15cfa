"""A set whose labels are whole numbers, with a number of classes that the config gives."""

from typing import Any

import numpy as np

from jaxvision.data.sources.base import BadExample, Source, label_field
from jaxvision.errors import UserError


class Numbered(Source):
    """A source whose labels are given a number of classes.

    Args:
      source: Source that does not know the number of its classes.
      classes: Number of classes.

    Raises:
      BadExample: (When an example is read.) Its label is none of the classes.
    """

    def __init__(self, source: Source, classes: int):
        self._source, self._classes = source, classes
        fields = {**source.fields, "label": label_field(classes)}
        self.info = source.info._replace(num_classes=classes, fields=fields)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._source[index]
        if "label" in example and not 0 <= (label := int(example["label"])) < self._classes:
            raise BadExample(f"its label {label} is none of the {self._classes} classes of data.classes")
        return example

    def describe(self, index: int) -> str:
        """Returns the name of an example, as `Source.describe`."""
        return self._source.describe(index)

    def _read_labels(self) -> np.ndarray:
        labels = self._source._read_labels()
        if len(wrong := np.flatnonzero((labels < 0) | (labels >= self._classes))):
            raise UserError(
                f"{self.describe(int(wrong[0]))}: the label {labels[wrong[0]]} is none of the {self._classes} classes "
                "of data.classes"
            )
        return labels


def with_classes(source: Source, classes: int | None) -> Source:
    """Returns the source with that many classes if its label is a whole number of unknown range, else as it is.

    Args:
      source: Source of examples.
      classes: Number of classes; None to return the source as it is.
    """
    if classes is None or source.info.num_classes is not None or type(source).order is not Source.order:
        return source
    return Numbered(source, classes) if source.fields.get("label") == label_field(None) else source
