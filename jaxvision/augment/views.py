"""Several views of an image: pairs for contrastive learning, multi-crop, and views to average predictions over.

The views of an example are on an axis after the axis of the batch: images become float32 [b, v, h, w, 3], and the
fields that lie in them get the same axis. If images have views already, each view gives several, all on this one axis.
`Field.views` is their number.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxvision.augment.flips import mirror_points
from jaxvision.augment.geometry import check_fits, cut_move
from jaxvision.augment.moves import exact_move
from jaxvision.augment.operations import Batch, Operation, Scene, chain, fixed, mixing
from jaxvision.augment.registry import MAX_TIMES, check_number, check_size, ops
from jaxvision.errors import UserError, shown
from jaxvision.fields import Field


def _first(spec) -> str:
    return ops.evaluation(spec if isinstance(spec, str) else spec[0])


@ops.register(evaluation=lambda n, spec: _first(spec))
def views(n: int, spec) -> Operation:
    """Makes `n` views of each image, augmented independently: `image` becomes float32 [b, n, h, w, 3].

    The two views of SimCLR (Chen et al. 2020, app. A) at 224 px are, on one line,
    `views(2, 'random_resized_crop(224)|flip_lr|color_jitter(0.8, 0.8, 0.8, 0.2, p=0.8)|grayscale(0.2)|
    gaussian_blur(p=0.5)')`. Evaluation uses the spec of the first view, without an axis of views.

    Args:
      n: Number of views, at least 1.
      spec: Spec for all views, or a tuple with n specs, one for each view; all views must have one size. A spec cannot
        mix labels, since the views of an example share them. Mix after `views` instead.

    Raises:
      UserError: If an argument is wrong, or a spec mixes labels. When called, if views differ in size.
    """
    chains = _chains("views", "n", n, spec)

    def bind(call, scene):
        views, fields = _together(call, scene, chains)
        return lambda rng, batch: {**batch, **views(rng, batch)}, scene.with_fields(fields)

    return Operation(bind)


@ops.register(evaluation=lambda global_spec, local_spec, num_global=2, num_local=6: _first(global_spec))
def multi_crop(global_spec, local_spec, num_global: int = 2, num_local: int = 6) -> Operation:
    """Makes a few large and several small views (Caron et al. 2020, sec. 3.2, SwAV; 2021, DINO).

    `image` becomes float32 [b, num_global, h, w, 3], and a new field `local_image` is float32 [b, num_local, h', w',
    3]. SwAV's crops are `random_resized_crop(224, (0.14, 1))` and `random_resized_crop(96, (0.05, 0.14))`; DINO's have
    areas of (0.4, 1) and (0.05, 0.4). Operations after this one change `image` only, so normalise in both specs.
    Evaluation uses the (first) global spec, without an axis of views.

    Args:
      global_spec, local_spec: Specs of large and small views: a spec for all of them, or a tuple with one for each.
      num_global, num_local: Numbers of large and small views, at least 1.

    Raises:
      UserError: If an argument is wrong, or a spec mixes labels. When called, if views differ in size.
    """
    large = _chains("multi_crop", "num_global", num_global, global_spec)
    small = _chains("multi_crop", "num_local", num_local, local_spec)

    def bind(call, scene):
        large_views, large_fields = _together(call, scene, large)
        small_views, small_fields = _together(call, scene, small)
        local = {
            f"local_{name}": field._replace(of=name if field.kind == "image" else f"local_{field.of}")
            for name, field in small_fields.items()
        }

        def op(rng, batch):
            large_rng, small_rng = jax.random.split(rng)
            small = {f"local_{name}": x for name, x in small_views(small_rng, batch).items()}
            return {**batch, **large_views(large_rng, batch), **small}

        return op, scene.with_fields({**large_fields, **local})

    return Operation(bind)


@ops.register()
def five_crop(size) -> Operation:
    """Cuts out the four corners and the middle: `image` becomes float32 [b, 5, height, width, 3].

    The order is top left, top right, bottom left, bottom right, middle, as in torchvision.

    Args:
      size: Side of the crops in pixels, or (height, width).
    """
    height, width = check_size("five_crop", size)

    def crop(vertical, horizontal):
        """The crop at shares, 0, 1/2 or 1, of the largest possible offset from the top and left."""

        def move(size):
            check_fits("five_crop", (height, width), size)
            return cut_move(round((size[0] - height) * vertical), round((size[1] - width) * horizontal), height, width)

        return fixed(move)

    crops = [crop(vertical, horizontal) for vertical, horizontal in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))]

    def bind(call, scene):
        views, fields = _together(call, scene, crops)
        return lambda rng, batch: {**batch, **views(rng, batch)}, scene.with_fields(fields)

    return Operation(bind)


@ops.register()
def ten_crop(size) -> Operation:
    """Makes the five crops of `five_crop` and their mirror images: float32 [b, 10, height, width, 3].

    Krizhevsky et al. 2012, sec. 4.1, average predictions over these views for their test results.

    Args:
      size: Side of the crops in pixels, or (height, width).
    """
    check_size("ten_crop", size)
    return chain(f"five_crop({size!r})|flip_both")


@ops.register()
def flip_both() -> Operation:
    """Adds the mirror image, to average predictions over both: `image` becomes float32 [b, 2, h, w, 3].

    If there are v views already, their mirror images come after them: [b, 2 v, h, w, 3].
    """

    mirror = fixed(
        lambda size: exact_move(lambda images: images[..., ::-1, :], lambda points: mirror_points(points, 0, size[1]))
    )

    def bind(call, scene):
        flip, _ = mirror.bind(call, scene)
        moving = scene.moving(call)

        def op(rng, batch):
            flipped, both = flip(rng, batch), {}
            for name, field in moving.items():
                if name in batch:
                    first, second = (_with_views(x[name], field) for x in (batch, flipped))
                    both[name] = jnp.concatenate([first, second], axis=1)
            return {**batch, **both}

        fields = {name: field._replace(views=2 * max(field.views, 1)) for name, field in moving.items()}
        return op, scene.with_fields(fields)

    return Operation(bind)


def _chains(op: str, name: str, n: int, spec) -> list[Operation]:
    """The operations of n views, from a spec for all or a tuple with one for each."""
    check_number(op, name, n, low=1, high=MAX_TIMES, kind=int)
    each = (spec,) * n if isinstance(spec, str) else spec
    if not isinstance(each, (tuple, list)) or len(each) != n:
        raise UserError(
            f"augmentation {op}: with {name}={n} it needs a spec or a tuple of {n} specs, not {shown(spec)}"
        )
    for call in [call for one in dict.fromkeys(each) for call in mixing(one)]:
        raise UserError(
            f"augmentation {op}: {str(call)!r} mixes labels, which all views of an example share: put it after {op}"
        )
    return [chain(one) for one in each]


def _together(
    call: str, scene: Scene, chains: Sequence[Operation]
) -> tuple[Callable[[jax.Array, Batch], Batch], dict[str, Field]]:
    """`(rng, batch) -> batch` of the moving fields, with the results of all chains as views, and these fields."""
    bound = [chain.bind(call, scene) for chain in chains]
    moving = scene.moving(call)
    after = [{name: scene_after.fields[name] for name in moving} for _, scene_after in bound]

    def views(rng, batch: Batch) -> Batch:
        batches = [op(jax.random.fold_in(rng, i), batch) for i, (op, _) in enumerate(bound)]
        return {
            name: _stack(call, after[0][name], [view[name] for view in batches]) for name in moving if name in batch
        }

    count = {name: sum(max(fields[name].views, 1) for fields in after) for name in moving}
    return views, {name: after[0][name]._replace(views=count[name]) for name in moving}


def _stack(call: str, field: Field, views: list[jax.Array]) -> jax.Array:
    """Puts arrays [b, ...] or [b, v, ...] of one field on one axis of views."""
    if len({view.shape for view in views}) > 1:
        sides = dict.fromkeys(view.shape[-3:-1] if field.kind == "image" else view.shape[1:] for view in views)
        sizes = ", ".join("x".join(map(str, some)) for some in sides)
        raise UserError(f"augmentation {call}: views must have one size, not {sizes}")
    rank = len(field.shape)
    stacked = jnp.stack(views, axis=-1 - rank)
    return stacked.reshape(len(stacked), -1, *stacked.shape[stacked.ndim - rank :])


def _with_views(values: jax.Array, field: Field) -> jax.Array:
    """The values [b, v, ...], with an axis of one view if there was none."""
    return values if values.ndim > 1 + len(field.shape) else values[:, None]
