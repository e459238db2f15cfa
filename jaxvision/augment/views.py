"""Several views of an image: pairs for contrastive learning, multi-crop, and views to average predictions over.

Views of an example stand on an axis after the batch's: images become float32 [B, V, H, W, 3]. Where images have
views already, each yields new ones, all on that one axis.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvision import specs
from jaxvision.augment.geometry import check_fits
from jaxvision.augment.mix import MIXING
from jaxvision.augment.registry import MAX_TIMES, chain, image_size, number, ops
from jaxvision.errors import UserError, shown


def _first(spec) -> str:
    return ops.evaluation(spec if isinstance(spec, str) else spec[0])


@ops.register(evaluation=lambda n, spec: _first(spec))
def views(n: int, spec):
    """Makes `n` views of each image, augmented independently: `image` becomes float32 [B, n, H, W, 3].

    The two views of SimCLR (Chen et al. 2020, app. A) at 224 px are, on one line,
    `views(2, 'random_resized_crop(224)|flip_lr|color_jitter(0.8, 0.8, 0.8, 0.2, p=0.8)|grayscale(0.2)|
    gaussian_blur(p=0.5)')`. Evaluation follows the spec of the first view, without an axis of views.

    Args:
      n: number of views, at least 1.
      spec: a spec for all views, or a tuple of n, one for each, which must end in one size. Labels
        are shared by the views, so a spec in here cannot mix them; mixing after `views` can.
    """
    parts = _chains("views", "n", n, spec)

    def op(rng, batch):
        return {**batch, "image": _augmented("views", parts, rng, batch)}

    return op


@ops.register(evaluation=lambda global_spec, local_spec, num_global=2, num_local=6: _first(global_spec))
def multi_crop(global_spec, local_spec, num_global: int = 2, num_local: int = 6):
    """Makes a few large and several small views (Caron et al. 2020, sec. 3.2, SwAV; 2021, DINO).

    `image` becomes float32 [B, num_global, H, W, 3], and a new field `local_image` float32
    [B, num_local, h, w, 3]. SwAV's crops are `random_resized_crop(224, (0.14, 1))` and
    `random_resized_crop(96, (0.05, 0.14))`, DINO's have areas of (0.4, 1) and (0.05, 0.4). Operations
    after this one change `image` only, so normalise in both specs. Evaluation follows the (first)
    global spec, without an axis of views.

    Args:
      global_spec, local_spec: a spec for all such views, or a tuple with one for each.
      num_global, num_local: numbers of views, at least 1.
    """
    large = _chains("multi_crop", "num_global", num_global, global_spec)
    small = _chains("multi_crop", "num_local", num_local, local_spec)

    def op(rng, batch):
        large_rng, small_rng = jax.random.split(rng)
        views = {
            "image": _augmented("multi_crop", large, large_rng, batch),
            "local_image": _augmented("multi_crop", small, small_rng, batch),
        }
        return {**batch, **views}

    return op


@ops.register()
def five_crop(size):
    """Cuts out the four corners and the middle: `image` becomes float32 [B, 5, height, width, 3].

    The order is top left, top right, bottom left, bottom right, middle, as in torchvision.

    Args:
      size: side of the crops, or (height, width).
    """
    height, width = image_size("five_crop", size)

    def op(rng, batch):
        images = batch["image"]
        h, w = images.shape[-3:-1]
        check_fits("five_crop", (height, width), (h, w))
        bottom, right = h - height, w - width
        corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
        crops = [images[..., top : top + height, left : left + width, :] for top, left in corners]
        return {**batch, "image": _stack("five_crop", crops)}

    return op


@ops.register()
def ten_crop(size):
    """The five crops of `five_crop`, then their mirror images: float32 [B, 10, height, width, 3].

    Averaging predictions over them is the test of Krizhevsky et al. 2012, sec. 4.1.
    """
    image_size("ten_crop", size)
    return chain(f"five_crop({size!r})|flip_both")


@ops.register()
def flip_both():
    """The image and its mirror image, to average predictions over: `image` becomes float32 [B, 2, H, W, 3].

    Where there are V views already, their mirror images follow them: [B, 2 V, H, W, 3].
    """

    def op(rng, batch):
        images = batch["image"] if batch["image"].ndim == 5 else batch["image"][:, None]
        return {**batch, "image": jnp.concatenate([images, images[..., ::-1, :]], axis=1)}

    return op


def _chains(op: str, name: str, n: int, spec) -> list[Callable]:
    """The functions of n views, from a spec for all or a tuple with one for each."""
    number(op, name, n, low=1, high=MAX_TIMES, kind=int)
    each = (spec,) * n if isinstance(spec, str) else spec
    if not isinstance(each, (tuple, list)) or len(each) != n:
        raise UserError(f"augmentation {op}: want a spec or a tuple of {n} specs, as {name} is {n}, not {shown(spec)}")
    for call in {call.name: call for part in each for call in specs.parse(part)}.values():
        if call.name in MIXING:
            raise UserError(
                f"augmentation {op}: {str(call)!r} mixes labels, which all views of an example share; put it after {op}"
            )
    return [chain(part) for part in each]


def _augmented(op: str, parts: list[Callable], rng, batch):
    return _stack(op, [part(jax.random.fold_in(rng, i), batch)["image"] for i, part in enumerate(parts)])


def _stack(op: str, images: list):
    """Puts arrays of images [B, (V,) H, W, C] on one axis of views."""
    sizes = {image.shape[-3:-1] for image in images}
    if len(sizes) > 1:
        raise UserError(f"augmentation {op}: views must have one size, not " + ", ".join(f"{h}x{w}" for h, w in sizes))
    stacked = jnp.stack(images, axis=-4)
    return stacked.reshape(len(stacked), -1, *stacked.shape[-3:])
