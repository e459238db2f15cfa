"""In which direction does one patch of an image lie from another? Doersch et al. 2015, arXiv 1505.05192."""

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError, unknown
from jaxvision.registry import part
from jaxvision.tasks import pretext
from jaxvision.tasks.task import ModelFn, Task
from jaxvision.tasks.tiles import check_share, check_trunk, cut_pieces, standardize

MIDDLE = 4
NEIGHBOURS = tuple(i for i in range(9) if i != MIDDLE)  # row by row, the order of the answers


@part("task", "context")
def make_context(
    *,
    model: ModelFn,
    patch: float = 0.25,
    gap: float = 0.5,
    jitter: float = 7 / 96,
    colors: str = "drop",
    part_dim: int | None = None,
    hidden: int | None = 4096,
) -> Task:
    """Makes the task that predicts in which of eight directions a patch lies from the middle of a 3 x 3 grid.

    One step asks about all eight neighbours, and each patch goes through the trunk once. Clues that make the answer
    trivial are removed as in sec. 3 and 3.1 of the paper: gaps and jitter between patches break lines that continue
    from one to the next, and `colors` hides chromatic aberration, from which a network can read the place in the
    photograph. The paper also lowers the resolution of some patches, which is left out here.

    Labels are not read. The metric `context_top1` is the share of questions of a batch that are answered right. The
    outputs are those of the trunk for whole images.

    Args:
      model: Function of the number of classes, here None, that builds the trunk. It is trained on patches and
        evaluated on whole images.
      patch: Side of a patch, as a share of the shorter side of the image. The paper's patches have 96 pixels.
      gap: Gap between the patches of the grid, as a share of a patch's side; one half in the paper.
      jitter: Largest shift of a patch from its place on the grid in either direction, as a share of its side.
      colors: Treatment of colours: "drop" replaces two of three channels of each patch by noise, "project" removes the
        axis between green and magenta, "keep" keeps them, for an augmentation with `grayscale`.
      part_dim, hidden: Widths of the layers over each patch and over both; None for no such layer.

    Raises:
      UserError: If an option is out of range, or the trunk can only see images of one size.
    """
    check_share("task.patch", patch, low=0.01)
    check_share("task.gap", gap)
    check_share("task.jitter", jitter)
    if colors not in COLORS:
        raise unknown("value of task.colors", colors, COLORS)
    check_trunk("context", model(None))

    def ask(rng: jax.Array, images: jax.Array) -> pretext.Questions:
        place_rng, color_rng = jax.random.split(rng)
        b, (h, w) = len(images), images.shape[1:3]
        size = round(patch * min(h, w))
        corners = grid_corners(place_rng, b, (h, w), size, round(gap * size), round(jitter * size))
        patches = COLORS[colors](color_rng, cut_pieces(images, corners[:, :, None], size))
        beside = jnp.broadcast_to(jnp.array([(i, MIDDLE) for i in NEIGHBOURS]), (b, 8, 2))
        return pretext.Questions(standardize(patches), beside, jnp.broadcast_to(jnp.arange(8), (b, 8)))

    def look(images: jax.Array) -> jax.Array:
        return standardize(project_colors(None, images) if colors == "project" else images)

    return pretext.make_pretext(pretext.Pretext("context", 8, ask, look), model, part_dim=part_dim, hidden=hidden)


def grid_corners(rng: jax.Array, batch: int, image: tuple[int, int], size: int, gap: int, jitter: int) -> jax.Array:
    """Draws the places of nine patches on a 3 x 3 grid, which lies anywhere in the image.

    Args:
      rng: Key.
      batch: Number of images, b.
      image: Size of an image, (height, width) in pixels.
      size, gap, jitter: Side of a patch, gap between two, and largest shift of a patch from the grid, in pixels. A
        patch that the shift moves out of the image is moved back to its edge, as in the authors' code.

    Returns:
      int32 [b, 9, 2]: the (y, x) of the top left pixels, row by row.

    Raises:
      UserError: If the grid is larger than the image.

    >>> grid_corners(jax.random.key(0), 1, (8, 8), size=2, gap=1, jitter=0)[0, -1].tolist()
    [6, 6]
    """
    extent = 3 * size + 2 * gap
    if size < 1 or extent > min(image):
        raise UserError(
            f"the task 'context' cuts a grid of {extent}x{extent} pixels, with patches of {size} and gaps of {gap}, "
            f"out of images of {image[0]}x{image[1]}: set a smaller task.patch or task.gap"
        )
    grid_rng, jitter_rng = jax.random.split(rng)
    room = jnp.array(image) - extent
    start = jax.random.randint(grid_rng, (batch, 1, 2), 0, room + 1)
    step = jnp.stack(jnp.meshgrid(jnp.arange(3), jnp.arange(3), indexing="ij"), axis=-1).reshape(9, 2) * (size + gap)
    off = jax.random.randint(jitter_rng, (batch, 9, 2), -jitter, jitter + 1)
    return jnp.clip(start + step + off, 0, jnp.array(image) - size)


def drop_colors(rng: jax.Array, patches: jax.Array) -> jax.Array:
    """Keeps one random channel of each patch, and replaces the others by noise of a hundredth of its deviation.

    Doersch et al. 2015, sec. 3.1, "color dropping". As in the authors' code, the mean of the channel is subtracted.

    Args:
      rng: Key.
      patches: Patches, float [b, n, h, w, 3].

    Returns:
      float [b, n, h, w, 3].
    """
    channel_rng, noise_rng = jax.random.split(rng)
    kept = jax.nn.one_hot(jax.random.randint(channel_rng, patches.shape[:2], 0, 3), 3)[:, :, None, None]
    centred = patches - patches.mean((2, 3), keepdims=True)
    deviation = (kept * centred.std((2, 3), keepdims=True)).sum(-1, keepdims=True)
    noise = 0.01 * deviation * jax.random.normal(noise_rng, patches.shape)
    return jnp.where(kept > 0, centred, noise)


def project_colors(rng: jax.Array | None, images: jax.Array) -> jax.Array:
    """Removes the component of every pixel along (-1, 2, -1), the axis between green and magenta.

    Doersch et al. 2015, sec. 3.1, "projection".

    Args:
      rng: Not used; the functions in `COLORS` share one signature.
      images: Images, float [..., 3].

    Returns:
      float [..., 3].

    >>> [f"{x:.2f}" for x in project_colors(None, jnp.array([0.0, 1.0, 0.0]))]
    ['0.33', '0.33', '0.33']
    """
    axis = jnp.array([-1.0, 2.0, -1.0])
    along = (images * axis).sum(-1, keepdims=True) / 6
    return images - along * axis


def keep_colors(rng: jax.Array, patches: jax.Array) -> jax.Array:
    """Returns the patches as they are.

    Args:
      rng: Not used; the functions in `COLORS` share one signature.
      patches: Patches, float [b, n, h, w, 3].

    Returns:
      float [b, n, h, w, 3].
    """
    return patches


COLORS = {"drop": drop_colors, "project": project_colors, "keep": keep_colors}
