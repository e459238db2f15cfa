"""The kinds of operations. The factory of an operation returns one of these, which says what happens to the fields.

  photometric(change)    changes colours: `change(rng, image)` of one image; fields that lie in images stay as they are
  image_wide(change)     changes colours of all images of a batch at once
  geometric(draw)        moves pixels: `draw(rng, (h, w))` returns the `Move` of one image with its fields
  fixed(move)            moves all images in the same way: `move((h, w))`
  image_only(change)     changes one image so that places are lost: refused if a field lies in the image
  Operation(bind)        anything else; `bind` says what happens to the fields

A plain function `(rng, batch) -> batch` does not say what happens to the fields. It is refused if a field lies in an
image; otherwise the fields are assumed to stay as they are.

An image is a field of the kind "image" that belongs to no other field (`of` is None). Several images of an example are
changed by the same draws. The views of an example, float32 [b, v, h, w, c], have a draw each; the frames of a clip
[b, t, h, w, c] share one draw.
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
    """The state of a batch between two operations of a chain, as far as it is known before any data.

    Attributes:
      fields: Fields of the batch by name.
      rule: Options of moves, see `Rule`.
    """

    fields: Mapping[str, Field]
    rule: Rule = Rule()

    def with_fields(self, fields: Mapping[str, Field]) -> "Scene":
        """Returns the scene with some fields added or changed.

        Args:
          fields: New fields by name.
        """
        return self._replace(fields={**self.fields, **fields})

    def images(self, call: str) -> tuple[str, ...]:
        """Returns the names of the images that an operation acts on.

        Args:
          call: Operation as the spec has it, for the message.

        Raises:
          UserError: If there is no image.
        """
        names = tuple(name for name, field in self.fields.items() if field.kind == "image" and field.of is None)
        if not names:
            raise UserError(
                f"augmentation {call} needs an image, and the fields are {', '.join(self.fields)}: add the image to "
                f"data.fields, or take {call} out of augment"
            )
        return names

    def moving(self, call: str) -> dict[str, Field]:
        """Returns the fields that a geometric operation may change: images, fields in them, and labels of boxes.

        Args:
          call: Operation as the spec has it, for the message.

        Raises:
          UserError: If there is no image.
        """
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
      bind: Function `(call, scene) -> (op, scene)` that returns `op(rng, batch) -> batch` for batches with the fields
        of the scene, and the scene after the operation. `call` is the operation as the spec has it, for messages. It
        raises UserError if the operation cannot handle a field.
      mixes: True if it mixes the examples of a batch.
    """

    bind: Callable[[str, Scene], tuple[BatchOp, Scene]]
    mixes: bool = False


def photometric(change: Callable, once: Callable | None = None) -> Operation:
    """Makes an operation that changes the colours of each image.

    Args:
      change: Function `(rng, image) -> image` of one image float32 [h, w, c], with a key for each image.
      once: Function `rng -> (drawn, rng)` for a draw that is shared by the whole batch. `change` then takes it as a
        third argument, `change(rng, image, drawn)`.
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
    """Makes an operation that changes the colours of all images at once.

    Args:
      change: Function `(rng, images, statistics) -> images` of float32 [..., h, w, c].
      loses_places: Reason to refuse fields that lie in an image, for the message; empty to allow them.
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
    """Makes an operation that changes each image so that places in it are lost.

    Args:
      change: Function `(rng, image) -> image`, see `photometric`.
      why: Reason to refuse fields that lie in an image, for the message.
    """
    colours = photometric(change)

    def bind(call: str, scene: Scene) -> tuple[BatchOp, Scene]:
        refuse_placed(call, scene, why)
        return colours.bind(call, scene)

    return Operation(bind)


def geometric(
    draw: Callable[[jax.Array, tuple[int, int]], Move | Sequence[Move]], keeps_size: bool = False
) -> Operation:
    """Makes an operation that moves each image and the fields in it by a draw of its own.

    Args:
      draw: Function `(rng, (h, w))` that returns a move, or several moves to apply one after the other.
      keeps_size: True if images keep their size, which is then known without tracing the operation.
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
    """Makes an operation that moves all images and the fields in them in the same way, without a draw.

    Args:
      move_of: Function `(h, w) -> Move`, whose functions take arrays with any axes before h, w and c.
    """

    def op(call, scene, rng, batch):
        there, size = _there(call, scene, batch)
        return {**batch, **move_fixed(move_of(size), scene, there, batch)}

    return _moving(op)


def move_fixed(move: Move, scene: Scene, there: Mapping[str, Field], batch: Batch) -> Batch:
    """Moves some fields of a batch.

    Args:
      move: Move whose functions take arrays with any axes before h, w and c, as in `fixed`.
      scene: Scene with the options of the move.
      there: Fields to move, all of which are in the batch.
      batch: Batch with the arrays.

    Returns:
      The moved arrays by name.
    """
    return move_fields(move, scene.rule, there, {name: batch[name] for name in there}, leading=True)


def bind_operation(call: str, scene: Scene, operation: Operation | BatchOp) -> tuple[BatchOp, Scene]:
    """Binds an operation, or a plain function, to the fields of a scene.

    Args:
      call: Operation as the spec has it, for messages.
      scene: Scene before the operation.
      operation: Result of the factory.

    Returns:
      Function `(rng, batch) -> batch`, and the scene after it.

    Raises:
      UserError: If a plain function would get fields that lie in an image, or the operation cannot handle a field.
    """
    if isinstance(operation, Operation):
        return operation.bind(call, scene)
    refuse_placed(
        call,
        scene,
        "a plain function does not say what happens to it, so the factory must return geometric(...), "
        "photometric(...) or an Operation of jaxvision.augment",
    )
    return operation, scene


def chain(spec: str | list[specs.Call]) -> Operation:
    """Makes one operation of a whole spec. Position i of the spec draws from `fold_in(rng, i)`.

    Args:
      spec: Spec, or its parsed operations.

    Raises:
      UserError: If an operation is unknown or has wrong arguments.
    """
    calls = specs.parse(spec)
    operations = ops.build(calls)

    def bind(call: str, scene: Scene) -> tuple[BatchOp, Scene]:
        steps = []
        for inner, operation in zip(calls, operations):
            step, scene = bind_operation(str(inner), scene, operation)
            steps.append(step)

        def op(rng, batch):
            for position, (operation, step) in enumerate(zip(calls, steps)):
                there = {name: x for name, x in batch.items() if name != "statistics"}
                with reading_fields(f"augmentation {operation}", there):
                    batch = step(jax.random.fold_in(rng, position), batch)
            return batch

        return op, scene

    return Operation(bind)


def mixing(spec: str | list[specs.Call]) -> list[specs.Call]:
    """Finds the operations of a spec that mix the examples of a batch.

    Args:
      spec: Spec, or its parsed operations.

    >>> [call.name for call in mixing("flip_lr|mixup(0.2)")]
    ['mixup']
    """
    calls = specs.parse(spec)
    return [call for call, made in zip(calls, ops.build(calls)) if isinstance(made, Operation) and made.mixes]


def refuse_placed(call: str, scene: Scene, why: str) -> None:
    """Refuses fields that lie in an image.

    Args:
      call: Operation as the spec has it, for the message.
      scene: Scene before the operation.
      why: Reason, for the message.

    Raises:
      UserError: If there is such a field.
    """
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
                    f"augmentation {call}: the segmentation {name!r} is {field.dtype}, but must be whole numbers: the "
                    "class or instance of every pixel"
                )
            limits = np.iinfo(field.dtype)
            if not limits.min <= scene.rule.fill <= limits.max:
                raise UserError(
                    f"augmentation {call}: the fill {scene.rule.fill} does not fit the segmentation {name!r}, which is "
                    f"{field.dtype}: set another one, as in placed(fill={limits.max})"
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
        listing = ", ".join(f"{name} of {h}x{w}" for name, (h, w) in sizes.items())
        raise UserError(f"augmentation {call} moves images and segmentations of one size, not {listing} pixels")
    return there, next(iter(sizes.values()))


def _rows(values: jax.Array, field: Field) -> tuple[tuple[int, ...], jax.Array]:
    """The lengths of the axes of batch and views, and the values with these axes joined into one."""
    axes = values.ndim - len(field.shape)
    return values.shape[:axes], values.reshape(-1, *values.shape[axes:])


def _resized(op: BatchOp, moving: Mapping[str, Field]) -> dict[str, Field]:
    """The fields after `op`, with lengths found by tracing if all are known before it; else h and w are unknown."""
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
    """The fields, with a signed type for labels of boxes, so that -1 can mark dropped boxes."""
    unsigned = {name for name, f in moving.items() if f.kind == "label" and np.dtype(f.dtype).kind == "u"}
    return {name: field._replace(dtype="int32") if name in unsigned else field for name, field in moving.items()}
