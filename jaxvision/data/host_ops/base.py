"""What a host operation is: a function of an example, and what it makes of the fields that the example has."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxvision.data.decoding import Jpeg
from jaxvision.data.host_ops.placing import Rule, Window, move_boxes, move_points, move_segmentation
from jaxvision.data.sources.base import BadExample
from jaxvision.errors import UserError
from jaxvision.fields import PLACED, Field
from jaxvision.specs import Registry

Apply = Callable[[dict, np.random.Generator | None], dict]  # None will do where no operation is random
Fields = Mapping[str, Field]
Size = tuple[int | None, int | None]

host_ops = Registry("host operation", [__package__, "jaxvision.data.text"], "jaxvision.data.host_ops.host_ops")


class Scene(NamedTuple):
    """What is known of an example at one place of a chain.

    Attributes:
      fields: Fields of the example.
      rule: How what lies in an image moves.
    """

    fields: Fields
    rule: Rule = Rule()

    def with_fields(self, fields: Fields) -> "Scene":
        """The scene with some fields added or changed."""
        return self._replace(fields={**self.fields, **fields})

    def images(self) -> list[str]:
        """The names of the fields that are images."""
        return [name for name, field in self.fields.items() if field.kind == "image"]


class HostOp(Protocol):
    """A host operation: `op(example, rng) -> example`, on the field `image`.

    One that has a method `bind(call, scene) -> (function, scene)` says how it is applied to examples of other fields,
    and what they become; `call` is how a spec has it, for messages. One that has none is taken to change the pixels of
    `image` and nothing else, so it is refused beside fields that lie in an image, unless its factory is registered with
    `keeps_places=True`.
    """

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict: ...


def bind(op: HostOp, call: str, scene: Scene, keeps_places: bool = False) -> tuple[Apply, Scene]:
    """The operation for examples of these fields, and what they are after it.

    Args:
      op: An operation.
      call: How a spec has it.
      scene: Fields of the examples.
      keeps_places: Whether one without a method `bind` moves no pixels.

    Raises:
      UserError: The operation and a field do not go together.
    """
    if hasattr(op, "bind"):
        return op.bind(call, scene)
    for name, field in scene.fields.items():
        if field.kind in PLACED and not keeps_places:
            raise UserError(
                f"the host operation {call} does not say how it moves the field {name!r} ({field.kind}), which lies in "
                f"{field.of or 'the image'!r}: leave one of the two out; or where it moves no pixels register it with "
                "@host_ops.register(keeps_places=True), else give what it returns a method bind(call, scene)"
            )
    return op, scene


class Still:
    """An operation that moves no pixels, and leaves all fields as they are but for those that it adds.

    Args:
      apply: What it does.
      makes: The fields that it adds.
    """

    moves = False

    def __init__(self, apply: Apply, makes: Fields | None = None):
        self._apply, self._makes = apply, dict(makes or {})

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        return self._apply(example, rng)

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """The same for any fields."""
        return self._apply, scene.with_fields(self._makes)


class Moving:
    """An operation that cuts a window out of an image and brings it to a size, with all that lies in the image.

    Of several images, which must be of one size, all are cut alike; so are the frames of a clip [T, H, W, 3].

    Args:
      choose: `(height, width, rng) -> Window`.
      draw: `(image, window) -> image`, the window of a uint8 array [..., H, W, C] or a `Jpeg`.
      size: Height and width of the result, or a function of those of the image; None where that is not known.
    """

    moves = True

    def __init__(
        self,
        choose: Callable[[int, int, np.random.Generator], Window],
        draw: Callable[[np.ndarray | Jpeg, Window], np.ndarray],
        size: Size | Callable[[int | None, int | None], Size],
    ):
        self._choose, self._draw, self._size = choose, draw, size

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        return self._apply(example, rng, ["image"], {}, Rule())

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """The operation on all images of an example and on what lies in them."""
        fields, names = scene.fields, scene.images()
        if not names:
            raise UserError(f"the host operation {call} needs an image, and there is none, only {', '.join(fields)}")
        placed = {name: field for name, field in fields.items() if field.kind in PLACED}
        for name, field in placed.items():
            if field.of not in names:
                raise UserError(
                    f"the host operation {call} cannot move the field {name!r} ({field.kind}): the image in which it "
                    f"lies, {field.of!r}, is none of {', '.join(names)}"
                )
        out = {}
        for name in names:
            *frames, height, width, channels = _three(fields[name].shape)
            size = self._size(height, width) if callable(self._size) else self._size
            out[name] = fields[name]._replace(shape=(*frames, *size, channels))
        for name, field in placed.items():
            if field.kind == "segmentation":
                out[name] = field._replace(shape=(*out[field.of].shape[-3:-1], *field.shape[2:]))
        moved = {name: (field.kind, field.of, _labels(name, fields)) for name, field in placed.items()}
        return lambda example, rng: self._apply(example, rng, names, moved, scene.rule), scene.with_fields(out)

    def _apply(
        self,
        example: dict,
        rng: np.random.Generator | None,
        names: Sequence[str],
        placed: Mapping[str, tuple[str, str, Sequence[str]]],
        rule: Rule,
    ) -> dict:
        there = [name for name in names if name in example] or names[:1]
        pictures = {name: decoded(example[name]) for name in there}
        sizes = {name: picture.shape[-3:-1] for name, picture in pictures.items()}
        size = sizes[there[0]]
        for name in there[1:]:
            if sizes[name] != size:
                one, other = _by(size), _by(sizes[name])
                raise BadExample(f"its images {there[0]!r} and {name!r} are of {one} and {other} pixels")
        window = self._choose(*size, rng)
        example = example | {name: self._draw(picture, window) for name, picture in pictures.items()}
        for name, (kind, of, labels) in placed.items():
            if name not in example:
                continue
            value = np.asarray(example[name])
            if kind == "points":
                example[name] = move_points(value, window)
            elif kind == "boxes":
                example[name], kept = move_boxes(value, window, rule.least_area)
                _drop(example, labels, kept)
            elif value.shape[:2] != size:
                raise BadExample(f"its {name!r} is of {_by(value.shape[:2])} pixels, its {of!r} of {_by(size)}")
            else:
                example[name] = move_segmentation(value, window, rule.fill)
        return example


class Joined:
    """Several operations as one."""

    def __init__(self, *ops: HostOp):
        self._ops = ops
        self.moves = any(op.moves for op in ops)

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        return _in_turn(self._ops)(example, rng)

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """All of them, each over what the one before gives."""
        applied = []
        for op in self._ops:
            apply, scene = op.bind(call, scene)
            applied.append(apply)
        return _in_turn(applied), scene


def _in_turn(ops: Sequence[Apply]) -> Apply:
    def apply(example: dict, rng: np.random.Generator | None) -> dict:
        for op in ops:
            example = op(example, rng)
        return example

    return apply


def decoded(image: Any) -> np.ndarray | Jpeg:
    """An image as operations on its pixels take it.

    Raises:
      UserError: It is still encoded.
    """
    if isinstance(image, np.ndarray | Jpeg):
        return image
    raise UserError("the image is still encoded: put decode at the start of the host spec")


def _drop(example: dict, labels: Sequence[str], kept: np.ndarray) -> None:
    """Sets the labels of boxes that are dropped to -1; shares of classes to 0."""
    for name in labels:
        if name in example and not kept.all():
            values = np.array(example[name])
            values[~kept] = -1 if values.dtype.kind == "i" else 0
            example[name] = values


def _labels(boxes: str, fields: Fields) -> list[str]:
    return [name for name, field in fields.items() if field.of == boxes and field.kind == "label"]


def _three(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """The shape of an image with an axis of channels."""
    return (*shape, 3) if len(shape) == 2 else shape


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
