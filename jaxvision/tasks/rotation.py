"""By which angle was an image turned? Gidaris et al. 2018, arXiv 1803.07728 (RotNet)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.found import part
from jaxvision.tasks import pretext
from jaxvision.tasks.task import Task


@part("task", "rotation")
def make_rotation(
    *,
    model: Callable[[int | None], Any],
    angles: tuple[float, ...] = (0, 90, 180, 270),
    each: str = "all",
) -> Task:
    """A task that tells the angles by which images were turned.

    The images are turned after the augmentation, so crops and flips come before. The paper's table 2 compares (0,
    180), (90, 270), the four right angles, which are best, and the eight multiples of 45. It does not say what fills
    the corners of an image turned by 45 degrees: here it is 0, the mean colour after `normalize`.

    Args:
      model: `model(None)` builds the network; a linear classifier of the angles is put on its features.
      angles: in degrees, counter-clockwise; their order is that of the answers.
      each: "all": every image is seen at every angle in one step, which the paper found to be much better (sec. 3.1)
        and makes the network's batch so many times larger; "one": at one, each equally likely.

    Batches, metrics (`rotation_top1`) and outputs: see `pretext.make_pretext`. Images must be square.
    """
    if len(angles) < 2 or len({angle % 360 for angle in angles}) < len(angles):
        raise UserError(f"task.angles must be at least two different angles in degrees, not {angles!r}")
    if each not in ("all", "one"):
        raise UserError(f"task.each must be 'all' or 'one', not {each!r}")
    n = len(angles)

    def ask(rng: jax.Array, images: jax.Array) -> pretext.Questions:
        b = len(images)
        turned = jnp.stack([rotate(images, angle) for angle in angles], axis=1)  # b n h w c
        if each == "all":
            answers = jnp.broadcast_to(jnp.arange(n), (b, n))
            return pretext.Questions(turned, answers[..., None], answers)
        answers = jax.random.randint(rng, (b, 1), 0, n)
        turned = jnp.take_along_axis(turned, answers[..., None, None, None], axis=1)
        return pretext.Questions(turned, jnp.zeros((b, 1, 1), jnp.int32), answers)

    return pretext.make_pretext(pretext.Pretext("rotation", n, ask), model)


def rotate(images: jax.Array, degrees: float) -> jax.Array:
    """Turns images about their middle, counter-clockwise.

    Multiples of 90 move pixels and change none, as `numpy.rot90`. Other angles interpolate linearly and fill with 0,
    like `scipy.ndimage.rotate` in the mode "grid-constant".

    Args:
      images: float [B, H, W, C], square.
      degrees: the angle.

    Returns:
      float [B, H, W, C].

    Raises:
      UserError: images that are not square.

    >>> rotate(jnp.arange(4.0).reshape(1, 2, 2, 1), 90).ravel().tolist()
    [1.0, 3.0, 0.0, 2.0]
    """
    h, w = images.shape[1:3]
    if h != w:
        raise UserError(f"the task 'rotation' turns square images, not {h}x{w}: crop or resize them")
    quarters, rest = divmod(degrees % 360, 90)
    images = jnp.rot90(images, int(quarters), axes=(1, 2))
    if not rest:
        return images
    middle, angle = (h - 1) / 2, jnp.deg2rad(rest)
    y, x = jnp.mgrid[:h, :w] - middle
    source = jnp.stack([jnp.sin(angle) * x + jnp.cos(angle) * y, jnp.cos(angle) * x - jnp.sin(angle) * y]) + middle
    sample = lambda channel: jax.scipy.ndimage.map_coordinates(channel, source, order=1)
    return jax.vmap(jax.vmap(sample, in_axes=-1, out_axes=-1))(images)
