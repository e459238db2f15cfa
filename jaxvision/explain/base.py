"""What an instrument of `explain` gets, and what it gives back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError, unknown

# (variables, images float [b, h, w, 3] in [0, 1]) -> outputs by name.
Outputs = Callable[[Any, jax.Array], Mapping[str, Any]]
BATCH = 16  # images of a pass
HEIGHT = 128  # of a picture on the page, in pixels


class Subject(NamedTuple):
    """A trained model, and the images for which it is explained.

    Attributes:
      outputs: Pure function of variables and images, float [b, h, w, 3] in [0, 1], that returns the outputs of the
        model by name; those without classes have no "logits".
      variables: Variables of the model.
      images: Images of the size that the model sees, float32 [n, h, w, 3] in [0, 1].
      targets: Class that is explained for each image, int32 [n]; -1 for a model without classes.
      classes: Names of the classes; empty if there are none.
      names: Name of each image.
      batch: Number of images in a pass. It bounds the memory.
      masks: Concept of each pixel of the images, int32 [n, h, w]: 0 for none, 255 for pixels that do not count; None if
        no masks were given.
      concepts: Names of the numbers in the masks, from 0 on; empty if they have none.
    """

    outputs: Outputs
    variables: Any
    images: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    batch: int = BATCH
    masks: np.ndarray | None = None
    concepts: tuple[str, ...] = ()

    def has_classes(self) -> bool:
        """Returns True if the outputs of the model have logits."""
        return "logits" in self.shapes()

    def shapes(self) -> dict[str, Any]:
        """Returns the outputs of the model for one image, as `ShapeDtypeStruct`s by name; "stages" is a tuple."""
        like = jax.ShapeDtypeStruct((1, *self.images.shape[1:]), jnp.float32)
        return dict(jax.eval_shape(self.outputs, self.variables, like))


class Tile(NamedTuple):
    """One picture of an explanation: an image, a map, or a map over an image.

    Attributes:
      image: Image in [0, 1], float [h, w, 3]; None for a map alone.
      map: Values, float [h', w'], drawn in colours; None for an image alone. A map with values below 0 has two colours
        that meet at 0, one without has colours from 0 to its largest value.
      words: Words under the picture.
      bound: Value of the strongest colour; None for the 99th percentile of the map's own absolute values.
      signed: True for two colours even if no value is below 0.
    """

    image: np.ndarray | None = None
    map: np.ndarray | None = None
    words: str = ""
    bound: float | None = None
    signed: bool = False


class Row(NamedTuple):
    """Pictures side by side.

    Attributes:
      name: Name at the left, such as that of a class or an image.
      tiles: Pictures, from left to right.
    """

    name: str
    tiles: Sequence[Tile]


class Explanation(NamedTuple):
    """What an instrument shows.

    Attributes:
      title: Heading.
      text: Paragraphs in Markdown: what is shown, how to read it, and from which paper it is.
      rows: Pictures; a figure is made of them.
      summary: Map of each image for the overview at the head of the page, float [n, h', w']; None for an instrument
        that draws no map over each image.
      signed: True if the values of these maps may be below 0.
      height: Height of each picture on the page, in pixels.
    """

    title: str
    text: str
    rows: Sequence[Row]
    summary: np.ndarray | None = None
    signed: bool = False
    height: int = HEIGHT


def maps_over(subject: Subject, maps: Mapping[str, np.ndarray], signed: bool = False) -> list[Row]:
    """Makes a row of each image: the image, then each map over it.

    Args:
      subject: Subject, with n images.
      maps: Maps float [n, h', w'] by the words under them.
      signed: True if the values of the maps may be below 0.
    """
    rows = []
    for i, image in enumerate(subject.images):
        tiles = [Tile(image, None, subject.names[i] if subject.names else "image")]
        tiles += [Tile(image, values[i], words, signed=signed) for words, values in maps.items()]
        rows.append(Row(class_of(subject, i), tiles))
    return rows


def class_of(subject: Subject, i: int) -> str:
    """Returns the name of the class that is explained for an image; "" if none is.

    Args:
      subject: Subject.
      i: Position of the image.
    """
    k = int(subject.targets[i])
    if k < 0:
        return ""
    return subject.classes[k] if k < len(subject.classes) else str(k)


def in_batches(subject: Subject, fn: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """Applies a function to the images, their targets and further arrays, `subject.batch` rows at a time.

    The last batch is filled up with copies of its first row, so one shape is compiled; these rows are dropped.

    Args:
      subject: Subject with n images.
      fn: Function of images [b, h, w, 3], targets [b] and one part [b, ...] of each array; it returns a tree of arrays
        [b, ...].
      *arrays: Arrays [n, ...].

    Returns:
      The tree of arrays [n, ...], in host memory.

    >>> images = np.zeros((3, 2, 2, 3), np.float32)
    >>> subject = Subject(None, {}, images, np.arange(3), batch=2)
    >>> in_batches(subject, lambda images, targets: targets + 1).tolist()
    [1, 2, 3]
    """
    columns = (subject.images, subject.targets, *arrays)
    n = len(subject.images)
    size, done = min(subject.batch, n), []
    for start in range(0, n, size):
        parts = [np.asarray(column[start : start + size]) for column in columns]
        rows = len(parts[0])
        filled = [np.concatenate([part, np.repeat(part[:1], size - rows, axis=0)]) for part in parts]
        result = jax.device_get(fn(*filled))
        done.append(jax.tree.map(lambda x, rows=rows: np.asarray(x)[:rows], result))
    return jax.tree.map(lambda *xs: np.concatenate(xs), *done)


def score(outputs: Mapping[str, jax.Array], targets: jax.Array) -> jax.Array:
    """Takes the logit of one class for each image.

    Args:
      outputs: Outputs of a model, with "logits" [b, k].
      targets: Class of each image, int32 [b].

    Returns:
      float32 [b].

    >>> score({"logits": jnp.array([[1.0, 2.0], [3.0, 4.0]])}, jnp.array([1, 0])).tolist()
    [2.0, 3.0]
    """
    return jnp.take_along_axis(outputs["logits"].astype(jnp.float32), targets[:, None], axis=1)[:, 0]


def layer(outputs: Mapping[str, Any], name: str) -> Any:
    """Returns an output by name; "stages/2" is the third of a tuple, and "stages/-1" its last.

    Args:
      outputs: Outputs of a model by name, arrays [b, ...] or tuples of them.
      name: Name of an output, with a number after a slash for a part of a tuple.

    Raises:
      UserError: There is no such output; the message names those that there are.

    >>> layer({"stages": ("a", "b")}, "stages/-1")
    'b'
    """
    base, _, place = name.partition("/")
    value = outputs.get(base)
    if place and isinstance(value, tuple) and place.lstrip("-").isdigit() and -len(value) <= int(place) < len(value):
        return value[int(place)]
    if place or value is None or isinstance(value, tuple):
        raise unknown("layer", name, layers(outputs))
    return value


def layers(outputs: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of all outputs that are arrays, by the names that `layer` takes.

    Args:
      outputs: Outputs of a model by name, arrays [b, ...] or their shapes and types.

    >>> layers({"features": np.zeros((1, 8)), "stages": (np.zeros((1, 4, 4, 8)),)})
    {'features': (1, 8), 'stages/0': (1, 4, 4, 8)}
    """
    found: dict[str, tuple[int, ...]] = {}
    for name, value in outputs.items():
        parts = {f"{name}/{i}": x for i, x in enumerate(value)} if isinstance(value, tuple) else {name: value}
        found |= {key: tuple(x.shape) for key, x in parts.items() if hasattr(x, "shape")}
    return found


def without_classes(subject: Subject, **_: Any) -> str | None:
    """Returns why an instrument that explains a class cannot be applied, as the end of a sentence; None if it can.

    Args:
      subject: Subject.
      **_: Options of the instrument.
    """
    return None if subject.has_classes() else "this model has no classes"


def check_map(subject: Subject, name: str) -> None:
    """Checks that an output of the model is a map.

    Args:
      subject: Subject.
      name: Name of the output, see `layer`.

    Raises:
      UserError: There is no such output, or it is no map [b, h, w, d].
    """
    shapes = subject.shapes()
    if len(layer(shapes, name).shape) != 4:
        maps = [key for key, shape in layers(shapes).items() if len(shape) == 4]
        raise UserError(f"the layer {name!r} is no map [b, h, w, d]. Maps of this model: {', '.join(maps) or 'none'}")
