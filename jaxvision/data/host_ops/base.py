"""The interface of a host operation: a function of an example, and its effect on the fields of the example."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from jaxvision.data.decoding import Jpeg
from jaxvision.data.host_ops.placing import Rule, Window, move_boxes, move_points, move_segmentation
from jaxvision.data.sources.base import BadExample
from jaxvision.errors import UserError
from jaxvision.fields import PLACED, Field
from jaxvision.specs import Registry

Apply = Callable[[dict, np.random.Generator | None], dict]  # the generator may be None if no operation is random
Fields = Mapping[str, Field]
Size = tuple[int | None, int | None]

host_ops = Registry(
    "host operation",
    [__package__, "jaxvision.data.text"],
    "jaxvision.data.host_ops.host_ops",
    plural="host",
    usage='c.data.host = "CALL"',
)


class Scene(NamedTuple):
    """The description of an example at one place of a chain.

    Attributes:
      fields: Fields of the example.
      rule: Rule by which fields move with their image.
    """

    fields: Fields
    rule: Rule = Rule()

    def with_fields(self, fields: Fields) -> "Scene":
        """Returns the scene with some fields added or changed.

        Args:
          fields: New fields by name.
        """
        return self._replace(fields={**self.fields, **fields})

    def images(self) -> list[str]:
        """Returns the names of the fields that are images."""
        return [name for name, field in self.fields.items() if field.kind == "image"]


class HostOp(Protocol):
    """A host operation: `op(example, rng) -> example`, on the field `image`.

    An operation may have a method `bind(call, scene) -> (function, scene)`. It returns the function to apply to
    examples with other fields, and the scene after it; `call` is the text of the operation in the spec, for messages.
    An operation without `bind` is assumed to change the pixels of `image` and nothing else, so it is refused if the
    example has fields with a place in the image, unless its factory is registered with `keeps_places=True`.
    """

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict: ...


def bind(op: HostOp, call: str, scene: Scene, keeps_places: bool = False) -> tuple[Apply, Scene]:
    """Returns the function of an operation for examples with these fields, and the scene after it.

    Args:
      op: Operation.
      call: Text of the operation in the spec, for messages.
      scene: Fields of the examples.
      keeps_places: True if an operation without a method `bind` moves no pixels.

    Raises:
      UserError: The operation does not fit a field.
    """
    if hasattr(op, "bind"):
        return op.bind(call, scene)
    for name, field in scene.fields.items():
        if field.kind in PLACED and not keeps_places:
            raise UserError(
                f"the host operation {call} does not say how it moves the field {name!r} ({field.kind}), which belongs "
                f"to {field.of or 'the image'!r}: leave one of the two out. If the operation moves no pixels, register "
                "it with @host_ops.register(keeps_places=True); else give what it returns a method bind(call, scene)"
            )
    return op, scene


class Still:
    """An operation that moves no pixels, and leaves all fields as they are except those that it adds.

    Args:
      apply: Function of the operation.
      makes: Fields that it adds, by name.
    """

    moves = False

    def __init__(self, apply: Apply, makes: Fields | None = None):
        self._apply, self._makes = apply, dict(makes or {})

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        return self._apply(example, rng)

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """Returns the same function for any fields.

        Args:
          call: Text of the operation in the spec.
          scene: Fields of the examples.
        """
        return self._apply, scene.with_fields(self._makes)


class Moving:
    """An operation that cuts a window out of an image and resizes it, together with all fields that have a place in it.

    If there are several images, they must have one size, and all are cut alike; so are the frames of a clip [t, h, w,
    3].

    Args:
      choose: Function `(height, width, rng) -> Window`.
      draw: Function `(image, window) -> image`, which returns the window of a uint8 array [..., h, w, c] or a `Jpeg`.
      size: (height, width) of the result, or a function of those of the image; None for unknown lengths.
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
        """Returns the operation on all images of an example and on the fields that have a place in them.

        Args:
          call: Text of the operation in the spec, for messages.
          scene: Fields of the examples.

        Raises:
          UserError: There is no image, or a field belongs to an image that is not there.
        """
        fields, names = scene.fields, scene.images()
        if not names:
            raise UserError(f"the host operation {call} needs an image; the only fields are {', '.join(fields)}")
        placed = {name: field for name, field in fields.items() if field.kind in PLACED}
        for name, field in placed.items():
            if field.of not in names:
                raise UserError(
                    f"the host operation {call} cannot move the field {name!r} ({field.kind}): its image {field.of!r} "
                    f"is none of {', '.join(names)}"
                )
        out: dict[str, Field] = {}
        for name in names:
            *frames, height, width, channels = _three(fields[name].shape)
            size = self._size(height, width) if callable(self._size) else self._size
            out[name] = fields[name]._replace(shape=(*frames, *size, channels))
        moved: dict[str, tuple[str, str, Sequence[str]]] = {}
        for name, field in placed.items():
            assert field.of is not None  # it is one of the images
            if field.kind == "segmentation":
                out[name] = field._replace(shape=(*out[field.of].shape[-3:-1], *field.shape[2:]))
            moved[name] = field.kind, field.of, _labels(name, fields)
        return lambda example, rng: self._apply(example, rng, names, moved, scene.rule), scene.with_fields(out)

    def _apply(
        self,
        example: dict,
        rng: np.random.Generator | None,
        names: Sequence[str],
        placed: Mapping[str, tuple[str, str, Sequence[str]]],
        rule: Rule,
    ) -> dict:
        present = [name for name in names if name in example] or names[:1]
        pictures = {name: decoded(example[name]) for name in present}
        sizes = {name: picture.shape[-3:-1] for name, picture in pictures.items()}
        size = height, width = sizes[present[0]]
        for name in present[1:]:
            if sizes[name] != size:
                first, other = _by(size), _by(sizes[name])
                raise BadExample(f"its images {present[0]!r} and {name!r} are of {first} and {other} pixels")
        window = self._choose(height, width, rng)  # type: ignore[arg-type]  # None if nothing is drawn
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
    """Several operations as one.

    Args:
      *ops: Operations, applied in this order.
    """

    def __init__(self, *ops: Moving):
        self._ops = ops
        self.moves = any(op.moves for op in ops)

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        return _in_turn(self._ops)(example, rng)

    def bind(self, call: str, scene: Scene) -> tuple[Apply, Scene]:
        """Returns all of the operations as one function, and the scene after the last.

        Args:
          call: Text of the operation in the spec, for messages.
          scene: Fields of the examples.
        """
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


def decoded(image: object) -> np.ndarray | Jpeg:
    """Checks that an image is decoded, or a `Jpeg` that can be, and returns it.

    Args:
      image: Image of an example.

    Returns:
      uint8 [..., h, w, c], or a `Jpeg`.

    Raises:
      UserError: It is still encoded.
    """
    if isinstance(image, np.ndarray | Jpeg):
        return image
    raise UserError("the image is still encoded: put decode at the start of the host spec")


def _drop(example: dict, labels: Sequence[str], kept: np.ndarray) -> None:
    """Sets the labels of dropped boxes to -1, and shares of classes to 0."""
    for name in labels:
        if name in example and not kept.all():
            values = np.array(example[name])
            values[~kept] = -1 if values.dtype.kind == "i" else 0
            example[name] = values


def _labels(boxes: str, fields: Fields) -> list[str]:
    return [name for name, field in fields.items() if field.of == boxes and field.kind == "label"]


def _three(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Returns the shape of an image with an axis of channels."""
    return (*shape, 3) if len(shape) == 2 else shape


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
