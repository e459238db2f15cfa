"""How boxes and segmentations move, and boxes of which every example has another number as arrays of one shape."""

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
MOST = 10_000  # boxes of an example


@host_ops.register()
def placed(least_area: Annotated[float, Range(0, 1)] = 0.1, fill: int = 0) -> "Placed":
    """Says how the operations after it move boxes and segmentations, and changes nothing itself.

    `"decode|placed(fill=255)|random_crop(32, 4)"`. Without it, the defaults hold. The operation of the same name in
    `augment` says it of those on the device.

    Args:
      least_area: Share of its area below which a box is dropped, for each operation by itself: its row becomes 0, its
        labels -1. 0 drops boxes that lie outside.
      fill: Value of pixels of a segmentation that move into view: 0, often the background, or a number that a loss
        leaves out, often 255.
    """
    return Placed(Rule(least_area, fill))


class Placed:
    """The operation `placed`."""

    moves = False

    def __init__(self, rule: Rule):
        self._rule = rule

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        return example

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """The rule for the operations that follow."""
        return self, scene._replace(rule=self._rule)


@host_ops.register(serves=("boxes",))
def pad_boxes(n: int, field: str | None = None, more: str = "largest") -> "PadBoxes":
    """Brings boxes and all that belongs to them to the fixed number `n`.

    Rows of 0 are added to boxes, -1 to their labels, which says that there is none, and 0 to other numbers of them. Put
    it after what moves the image, so that boxes that are cut off take no row of others.

    Args:
      n: Number of the boxes.
      field: Name of the boxes; by default all fields of boxes.
      more: What becomes of an example with more than `n`: "largest" keeps those of the largest areas, in their order,
        and the first such example is told in a warning; "bad" makes it a bad example, which is counted and replaced.

    Raises:
      UserError: A number or a choice that means nothing; there are no such boxes among the fields of a batch.
      BadExample (when called): Too many boxes, where `more` is "bad".
    """
    if not is_whole(n) or n > MOST:
        raise UserError(f"pad_boxes: n is a number of boxes from 1 to {MOST:,}, not {shown(n)}")
    if more not in MORE:
        raise unknown("value of more of pad_boxes", more, MORE)
    return PadBoxes(int(n), field, more)


class PadBoxes:
    """The operation `pad_boxes`."""

    moves = False

    def __init__(self, n: int, field: str | None, more: str):
        self._n, self._field, self._more = n, field, more
        self._told = False

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        name = self._field or "boxes"
        if name not in example:
            raise unknown("field of boxes", name, example)
        return self._apply(example, name, (), ())

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """The operation on the boxes of an example and what belongs to them."""
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
                found = np.asarray(example[name])
                if name in labels and not found.size:
                    found = found.astype(np.int32)
                if len(found) != len(values):
                    raise BadExample(f"it has {len(values)} boxes in {boxes!r}, but {len(found)} of {name!r}")
                example[name] = _filled(found[rows], self._n, -1 if name in labels and found.dtype.kind in "iu" else 0)
        return example

    def _note(self, count: int) -> None:
        if self._more == "bad":
            raise BadExample(f"it has {count:,} boxes, more than the {self._n:,} of pad_boxes")
        if not self._told:
            self._told = True
            _log.warning(
                "pad_boxes(%d): an example has %d boxes, of which the %d largest are kept, and so it is with all that "
                "have more",
                self._n,
                count,
                self._n,
            )


def _filled(values: np.ndarray, n: int, fill: int) -> np.ndarray:
    if values.dtype.kind in "iu" and fill < 0:
        values = values.astype(np.int32)  # an unsigned type has no -1
    return np.pad(values, ((0, n - len(values)), *((0, 0),) * (values.ndim - 1)), constant_values=fill)
