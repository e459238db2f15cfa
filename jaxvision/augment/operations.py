"""What an operation does with the fields of a batch, which is told by what its factory returns.

  photometric(change)    colours: `change(rng, image)` of one image; what lies in images stays as it is
  image_wide(change)     the same of all images of a batch at once
  geometric(draw)        places: `draw(rng, (H, W))` gives the `Move` of one image and of all that lies in it
  fixed(move)            the same for one move of all images, `move((H, W))`
  image_only(change)     `change(rng, image)` of one image, whose places are lost: refused beside what lies in it
  Operation(bind)        anything else, which says itself what becomes of the fields

A plain function `(rng, batch) -> batch` says nothing: it is refused where a field lies in an image, and taken to leave
the fields what they are elsewhere.

An image is a field of the kind "image" that belongs to no other (`of` is None). Where there are several, all are
changed by the same draws. Views of an example, float32 [B, V, H, W, C], are so many images, each with a draw of its
own; the frames of a clip [B, T, H, W, C] have one draw.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import specs
from jaxvision.augment.moves import Move, Rule, has_channel, move_fields, over_frames
from jaxvision.augment.registry import ops
from jaxvision.errors import UserError, reading_fields
from jaxvision.fields import PLACED, Field

Batch = dict[str, Any]
BatchOp = Callable[[jax.Array, Batch], Batch]


class Scene(NamedTuple):
    """What is known of the batch at one place of a chain.

    Attributes:
      fields: Fields of the batch.
      rule: How what lies in an image moves.
    """

    fields: Mapping[str, Field]
    rule: Rule = Rule()

    def with_fields(self, fields: Mapping[str, Field]) -> "Scene":
        """The scene with some fields added or changed."""
        return self._replace(fields={**self.fields, **fields})

    def images(self, call: str) -> tuple[str, ...]:
        """Names of the images that an operation acts on.

        Raises:
          UserError: There is none.
        """
        found = tuple(name for name, field in self.fields.items() if field.kind == "image" and field.of is None)
        if not found:
            raise UserError(
                f"augmentation {call} needs an image, and the fields are {', '.join(self.fields)}: add the image to "
                f"data.fields, or take {call} out of augment"
            )
        return found

    def moving(self, call: str) -> dict[str, Field]:
        """The images, the fields that lie in them, and the labels of boxes: what a geometric operation may change."""
        images = self.images(call)
        lie = {name: field for name, field in self.fields.items() if field.kind in PLACED and field.of in images}
        labels = {
            name: field
            for name, field in self.fields.items()
            if field.kind == "label" and field.of in lie and lie[field.of].kind == "boxes"
        }
        return {**{name: self.fields[name] for name in images}, **lie, **labels}


class Operation(NamedTuple):
    """An operation of a chain.

    Attributes:
      bind: `(call, scene) -> (op, scene)`: the function `op(rng, batch) -> batch` for batches of those fields, and what
        the fields are after it. `call` is how a spec has the operation, for messages. Raises UserError where a field
        does not go with the operation.
      mixes: Whether it mixes the examples of a batch.
    """

    bind: Callable[[str, Scene], tuple[BatchOp, Scene]]
    mixes: bool = False


def photometric(change: Callable, once: Callable | None = None) -> Operation:
    """The operation that changes colours: `change(rng, image)` of float32 [H, W, C], each image with its own key.

    Args:
      change: Takes a key and an image, and returns an image of the same size.
      once: `rng -> (drawn, rng)`, a draw for the whole batch, which `change(rng, image, drawn)` then takes too.
    """

    def bind(call: str, scene: Scene) -> tuple[BatchOp, Scene]:
        names = scene.images(call)

        def op(rng, batch):
            drawn = ()
            if once is not None:
                drawn, rng = once(rng)
                drawn = (drawn,)
            changed = {}
            for name in names:
                leading, images = _rows(batch[name], scene.fields[name])
                each = lambda key, image: over_frames(lambda one: change(key, one, *drawn), image)
                images = jax.vmap(each)(jax.random.split(rng, len(images)), images)
                changed[name] = images.reshape(*leading, *images.shape[1:])
            return {**batch, **changed}

        return op, scene

    return Operation(bind)


def image_wide(change: Callable[[jax.Array, jax.Array, Mapping], jax.Array], loses_places: str = "") -> Operation:
    """The operation that changes colours of all images at once.

    Args:
      change: `(rng, images, statistics) -> images` of float32 [..., H, W, C].
      loses_places: Why it is refused beside fields that lie in an image; empty where it is not.
    """

    def bind(call: str, scene: Scene) -> tuple[BatchOp, Scene]:
        if loses_places:
            refuse_placed(call, scene, loses_places)
        names = scene.images(call)

        def op(rng, batch):
            return {**batch, **{name: change(rng, batch[name], batch["statistics"]) for name in names}}

        return op, scene

    return Operation(bind)


def image_only(change: Callable, why: str) -> Operation:
    """`photometric(change)`, refused beside fields that lie in an image, and `why`."""
    colours = photometric(change)

    def bind(call: str, scene: Scene) -> tuple[BatchOp, Scene]:
        refuse_placed(call, scene, why)
        return colours.bind(call, scene)

    return Operation(bind)


def geometric(
    draw: Callable[[jax.Array, tuple[int, int]], Move | Sequence[Move]], keeps_size: bool = False
) -> Operation:
    """The operation that moves images and all that lies in them, each image by its own draw.

    Args:
      draw: Takes a key and (H, W), and returns the move, or several that follow one another.
      keeps_size: Whether images have the size afterwards that they had, so that none need be traced to know it.
    """

    def op(call, scene, rng, batch):
        there, size = _there(call, scene, batch)
        rows = {name: _rows(batch[name], field) for name, field in there.items()}
        leading, first = next(iter(rows.values()))

        def each(key, example):
            moves = draw(key, size)
            for move in [moves] if isinstance(moves, Move) else moves:
                example = move_fields(move, scene.rule, there, example)
            return example

        keys = jax.random.split(rng, len(first))
        moved = jax.vmap(each)(keys, {name: x for name, (_, x) in rows.items()})
        return {**batch, **{name: x.reshape(*leading, *x.shape[1:]) for name, x in moved.items()}}

    return _moving(op, keeps_size)


def fixed(move_of: Callable[[tuple[int, int]], Move]) -> Operation:
    """The operation that moves all images, and what lies in them, alike, without a draw.

    Args:
      move_of: Takes (H, W) and returns the move, whose functions take arrays with any axes before H, W and C.
    """

    def op(call, scene, rng, batch):
        there, size = _there(call, scene, batch)
        return {**batch, **move_fixed(move_of(size), scene, there, batch)}

    return _moving(op)


def move_fixed(move: Move, scene: Scene, there: Mapping[str, Field], batch: Batch) -> Batch:
    """The fields `there` of a batch, moved by a move as `fixed` has it."""
    return move_fields(move, scene.rule, there, {name: batch[name] for name in there}, leading=True)


def bind_operation(call: str, scene: Scene, operation: Operation | BatchOp) -> tuple[BatchOp, Scene]:
    """Binds what a factory returned.

    Raises:
      UserError: It is a plain function, which does not say what becomes of the fields that lie in an image.
    """
    if isinstance(operation, Operation):
        return operation.bind(call, scene)
    refuse_placed(
        call,
        scene,
        "it does not say what becomes of it; its factory must return geometric(...), photometric(...) or an Operation "
        "of jaxvision.augment in place of a function",
    )
    return operation, scene


def chain(spec: str | list[specs.Call]) -> Operation:
    """The operations of a spec as one; position i draws from `fold_in(rng, i)`."""
    calls = specs.parse(spec)
    parts = ops.build(calls)

    def bind(call: str, scene: Scene) -> tuple[BatchOp, Scene]:
        steps = []
        for of, part in zip(calls, parts):
            step, scene = bind_operation(str(of), scene, part)
            steps.append(step)

        def op(rng, batch):
            for position, (of, step) in enumerate(zip(calls, steps)):
                there = {name: x for name, x in batch.items() if name != "statistics"}
                with reading_fields(f"augmentation {of}", there):
                    batch = step(jax.random.fold_in(rng, position), batch)
            return batch

        return op, scene

    return Operation(bind)


def mixing(spec: str | list[specs.Call]) -> list[specs.Call]:
    """The operations of a spec that mix the examples of a batch.

    >>> [call.name for call in mixing("flip_lr|mixup(0.2)")]
    ['mixup']
    """
    calls = specs.parse(spec)
    return [call for call, part in zip(calls, ops.build(calls)) if isinstance(part, Operation) and part.mixes]


def refuse_placed(call: str, scene: Scene, why: str) -> None:
    """Raises UserError where a field lies in an image."""
    for name, field in scene.fields.items():
        if field.kind in PLACED:
            raise UserError(
                f"augmentation {call} cannot be used with the field {name!r} ({field.kind}): {why}. Take {call} out of "
                f"augment, or {name!r} out of data.fields"
            )


def _moving(op: Callable[[str, Scene, jax.Array, Batch], Batch], keeps_size: bool = False) -> Operation:
    def bind(call: str, scene: Scene) -> tuple[BatchOp, Scene]:
        _check_placed(call, scene)
        one = functools.partial(op, call, scene)
        moving = scene.moving(call)
        return one, scene.with_fields(_signed(moving) if keeps_size else _resized(one, moving))

    return Operation(bind)


def _check_placed(call: str, scene: Scene) -> None:
    for name, field in scene.moving(call).items():
        if field.kind == "segmentation" and field.dtype != "bool":
            if np.dtype(field.dtype).kind not in "iu":
                raise UserError(
                    f"augmentation {call}: the segmentation {name!r} is {field.dtype}, want whole numbers: a class or "
                    "an instance for every pixel"
                )
            limits = np.iinfo(field.dtype)
            if not limits.min <= scene.rule.fill <= limits.max:
                raise UserError(
                    f"augmentation {call}: {scene.rule.fill} is no value of the segmentation {name!r}, whose numbers "
                    f"are {field.dtype}: set another one, as in placed(fill={limits.max})"
                )


def _there(call: str, scene: Scene, batch: Batch) -> tuple[dict[str, Field], tuple[int, int]]:
    """The fields of the batch that move, and (height, width) of the images."""
    moving = scene.moving(call)
    there = {name: field for name, field in moving.items() if name in batch}
    sizes = {}
    for name, field in moving.items():
        if field.kind == "image":
            sizes[name] = batch[name].shape[-3:-1]
        elif field.kind == "segmentation" and name in there:
            shape = batch[name].shape[:-1] if has_channel(field) else batch[name].shape
            sizes[name] = shape[-2:]
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} of {h}x{w}" for name, (h, w) in sizes.items())
        raise UserError(f"augmentation {call} moves images and segmentations of one size together, not {told} pixels")
    return there, next(iter(sizes.values()))


def _rows(values: jax.Array, field: Field) -> tuple[tuple[int, ...], jax.Array]:
    """The axes of batch and views, and the examples or views along one axis."""
    axes = values.ndim - len(field.shape)
    return values.shape[:axes], values.reshape(-1, *values.shape[axes:])


def _resized(op: BatchOp, moving: Mapping[str, Field]) -> dict[str, Field]:
    """The fields after `op`: with lengths where all are known before it, else without those of the image."""
    moving = _signed(moving)
    if all(None not in field.shape for field in moving.values()):
        batch = {
            name: jax.ShapeDtypeStruct((1, *[field.views] * bool(field.views), *field.shape), field.dtype)
            for name, field in moving.items()
        }
        out = jax.eval_shape(op, jax.eval_shape(lambda: jax.random.key(0)), batch)
        return {name: field._replace(shape=out[name].shape[1 + bool(field.views) :]) for name, field in moving.items()}
    after = dict(moving)
    for name, field in moving.items():
        if field.kind == "image" or (field.kind == "segmentation" and has_channel(field)):
            after[name] = field._replace(shape=(*field.shape[:-3], None, None, field.shape[-1]))
        elif field.kind == "segmentation":
            after[name] = field._replace(shape=(*field.shape[:-2], None, None))
    return after


def _signed(moving: Mapping[str, Field]) -> dict[str, Field]:
    """The fields, labels of boxes with a type that has -1."""
    unsigned = {name for name, f in moving.items() if f.kind == "label" and np.dtype(f.dtype).kind == "u"}
    return {name: field._replace(dtype="int32") if name in unsigned else field for name, field in moving.items()}
