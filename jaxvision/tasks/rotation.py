"""By which angle was an image turned? Gidaris et al. 2018, arXiv 1803.07728 (RotNet)."""

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.registry import part
from jaxvision.tasks import pretext
from jaxvision.tasks.task import ModelFn, Task


@part("task", "rotation")
def make_rotation(
    *,
    model: ModelFn,
    angles: tuple[float, ...] = (0, 90, 180, 270),
    each: str = "all",
) -> Task:
    """Makes the task that predicts the angles by which images were turned.

    Images are turned after the augmentation. The paper's table 2 compares the angles (0, 180), (90, 270), the four
    right angles, which are best, and the eight multiples of 45. It does not say what fills the corners of an image
    turned by 45 degrees: here it is 0, the mean colour after `normalize`.

    Labels are not read, and images must be square. The metric `rotation_top1` is the share of questions of a batch that
    are answered right. The outputs are those of the trunk for whole images.

    Args:
      model: Function of the number of classes, here None, that builds the network. A linear classifier of the angles
        is put on its features.
      angles: Angles in degrees, counter-clockwise; answer i stands for angle i.
      each: "all" to show every image at every angle in one step, which the paper found much better (sec. 3.1); the
        batch of the network is then larger by the number of angles. "one" to show it at one random angle.

    Raises:
      UserError: If there are fewer than two different angles, or `each` is unknown.
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

    Multiples of 90 move pixels without changing them, as `numpy.rot90`. Other angles interpolate linearly and fill
    with 0, like `scipy.ndimage.rotate` in the mode "grid-constant".

    Args:
      images: Square images, float [b, h, w, c].
      degrees: Angle in degrees.

    Returns:
      float [b, h, w, c].

    Raises:
      UserError: If the images are not square.

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
    rows, columns = jnp.sin(angle) * x + jnp.cos(angle) * y, jnp.cos(angle) * x - jnp.sin(angle) * y
    source = [rows + middle, columns + middle]
    sample = lambda channel: jax.scipy.ndimage.map_coordinates(channel, source, order=1)
    return jax.vmap(jax.vmap(sample, in_axes=-1, out_axes=-1))(images)
