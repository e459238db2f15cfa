"""How boxes and segmentations move, and padding a variable number of boxes to arrays of one shape."""

import logging
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from jaxvision.arguments import Range, is_whole
from jaxvision.data.host_ops.base import Apply, Scene, host_ops
from jaxvision.data.host_ops.placing import Rule, areas
from jaxvision.data.sources.base import BadExample
from jaxvision.errors import UserError, shown, unknown

_log = logging.getLogger(__name__)

MORE = ("largest", "bad")
MOST = 10_000  # largest number of boxes of an example


@host_ops.register()
def placed(least_area: Annotated[float, Range(0, 1)] = 0.1, fill: int = 0) -> "Placed":
    """Sets how the operations after it move boxes and segmentations; it changes nothing itself.

    Example: `"decode|placed(fill=255)|random_crop(32, 4)"`. Without it, the defaults apply. The operation of the same
    name in `augment` does this for operations on the device.

    Args:
      least_area: Share of its area, in [0, 1], that must stay in view, else a box is dropped: its row becomes 0, its
        labels -1. Each operation judges for itself. 0 drops only boxes that are outside.
      fill: Value of pixels of a segmentation that move into view: 0, often the background, or a number that a loss
        ignores, often 255.
    """
    return Placed(Rule(least_area, fill))


class Placed:
    """The operation `placed`.

    Args:
      rule: Rule for the operations that follow.
    """

    moves = False

    def __init__(self, rule: Rule):
        self._rule = rule

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        return example

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """Returns the scene with the rule for the operations that follow.

        Args:
          call: Text of the operation in the spec.
          scene: Fields of the examples.
        """
        return self, scene._replace(rule=self._rule)


@host_ops.register(serves=("boxes",))
def pad_boxes(n: int, field: str | None = None, more: str = "largest") -> "PadBoxes":
    """Brings boxes and all fields that belong to them to the fixed number `n`.

    Rows of 0 are added to boxes, -1 (no label) to their labels, and 0 to other numbers. Put it after the operations
    that move the image, so that boxes that are cut off take no row from others.

    Args:
      n: Number of boxes, from 1 to 10,000.
      field: Name of the boxes; by default all fields of boxes.
      more: Treatment of an example with more than `n` boxes: "largest" keeps those of the largest areas, in their
        order, and warns of the first such example; "bad" makes it a bad example, which is counted and replaced.

    Raises:
      UserError: `n` or `more` is out of range, or there are no such boxes among the fields of a batch.
      BadExample: (When called.) There are too many boxes, and `more` is "bad".
    """
    if not is_whole(n) or n > MOST:
        raise UserError(f"pad_boxes: n is a number of boxes from 1 to {MOST:,}, not {shown(n)}")
    if more not in MORE:
        raise unknown("value of more of pad_boxes", more, MORE)
    return PadBoxes(int(n), field, more)


class PadBoxes:
    """The operation `pad_boxes`.

    Args:
      n: Number of boxes.
      field: Name of the boxes; None for all fields of boxes.
      more: Treatment of an example with more boxes, one of `MORE`.
    """

    moves = False

    def __init__(self, n: int, field: str | None, more: str):
        self._n, self._field, self._more = n, field, more
        self._warned = False

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        name = self._field or "boxes"
        if name not in example:
            raise unknown("field of boxes", name, example)
        return self._apply(example, name, (), ())

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """Returns the operation on the boxes of an example and on the fields that belong to them.

        Args:
          call: Text of the operation in the spec, for messages.
          scene: Fields of the examples.

        Raises:
          UserError: There are no boxes of that name, or a field that belongs to them is a text or an image.
        """
        fields = scene.fields
        boxes = [name for name, field in fields.items() if field.kind == "boxes"]
        if not boxes:
            raise UserError(
                f"the host operation {call} finds no boxes in the batch, only {', '.join(fields)}: name a field of "
                "boxes in data.fields"
            )
        if self._field is not None and self._field not in boxes:
            raise unknown(f"field of boxes in {call}", self._field, boxes)
        out, padded = {}, {}
        for name in boxes if self._field is None else [self._field]:
            others = [other for other, field in fields.items() if field.of == name]
            for other in others:
                if fields[other].kind in ("text", "image"):
                    raise UserError(
                        f"the host operation {call} cannot pad the field {other!r} ({fields[other].kind}): leave it "
                        "out of data.fields"
                    )
            labels = [other for other in others if fields[other].kind == "label"]
            padded[name] = labels, [other for other in others if other not in labels]
            for changed in (name, *others):
                out[changed] = fields[changed]._replace(shape=(self._n, *fields[changed].shape[1:]))

        def apply(example: dict, rng: np.random.Generator | None) -> dict:
            for name, (labels, others) in padded.items():
                if name in example:
                    example = self._apply(example, name, labels, others)
            return example

        return apply, scene.with_fields(out)

    def _apply(self, example: dict, boxes: str, labels: Sequence[str], others: Sequence[str]) -> dict:
        values = np.asarray(example[boxes], np.float32).reshape(-1, 4)
        rows = np.arange(len(values))
        if len(values) > self._n:
            self._note(len(values))
            rows = np.sort(np.argsort(-areas(values), kind="stable")[: self._n])
        example = {**example, boxes: _filled(values[rows], self._n, 0)}
        for name in (*labels, *others):
            if name in example:
                array = np.asarray(example[name])
                if name in labels and not array.size:
                    array = array.astype(np.int32)
                if len(array) != len(values):
                    raise BadExample(f"it has {len(values)} boxes in {boxes!r}, but {len(array)} of {name!r}")
                example[name] = _filled(array[rows], self._n, -1 if name in labels and array.dtype.kind in "iu" else 0)
        return example

    def _note(self, count: int) -> None:
        if self._more == "bad":
            raise BadExample(f"it has {count:,} boxes, more than the {self._n:,} of pad_boxes")
        if not self._warned:
            self._warned = True
            _log.warning(
                "pad_boxes(%d): an example has %d boxes. Its %d largest are kept, and so for every example with more",
                self._n,
                count,
                self._n,
            )


def _filled(values: np.ndarray, n: int, fill: int) -> np.ndarray:
    if values.dtype.kind in "iu" and fill < 0:
        values = values.astype(np.int32)  # an unsigned type has no -1
    return np.pad(values, ((0, n - len(values)), *((0, 0),) * (values.ndim - 1)), constant_values=fill)
