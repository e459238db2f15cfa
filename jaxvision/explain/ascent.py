"""Feature visualisation: the image that a unit or a class responds to, found by gradient ascent on the pixels."""

import functools
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.arguments import COUNT, POSITIVE, Range
from jaxvision.errors import UserError
from jaxvision.explain.base import HEIGHT, Explanation, Outputs, Row, Subject, Tile, in_batches
from jaxvision.explain.units import (
    check_units,
    chosen_map,
    chosen_units,
    in_rows,
    maps_of,
    mean_responses,
    units_of,
)
from jaxvision.registry import part

GREY = 0.5  # image from which the L2 prior measures
NOISE = 0.02  # standard deviation of the noise on the first image
STEPS, COUNT_SHOWN = 100, 10
COLUMNS = 5  # images in a row


def activation(outputs: Outputs, variables: Any, images: jax.Array, name: str, units: jax.Array) -> jax.Array:
    """Computes the response of one unit for each image; of a map, its mean over the places.

    Args:
      outputs: Pure function of variables and images.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      name: Name of the output, [b, d], [b, n, d] or [b, rows, columns, d], such as "logits" or "stages/1".
      units: Unit of each image, int32 [b], in [0, d).

    Returns:
      float32 [b].
    """
    return jnp.take_along_axis(mean_responses(outputs, variables, images, name), units[:, None], axis=1)[:, 0]


def soften(images: jax.Array, share: float | jax.Array) -> jax.Array:
    """Blurs images a little: a pixel takes over a share of each of its neighbours, down and then across.

    Args:
      images: Images, float [b, h, w, 3].
      share: Share of each of the two neighbours, in [0, 1/3].

    Returns:
      float [b, h, w, 3].

    >>> soften(jnp.array([0.0, 1.0, 0.0]).reshape(1, 1, 3, 1), 0.25).ravel().tolist()
    [0.25, 0.5, 0.25]
    """
    for axis in (1, 2):
        sides = [(0, 0)] * images.ndim
        sides[axis] = (1, 1)
        wide = jnp.pad(images, sides, mode="edge")
        size = images.shape[axis]
        before, after = (jax.lax.slice_in_dim(wide, start, start + size, axis=axis) for start in (0, 2))
        images = (1 - 2 * share) * images + share * (before + after)
    return images


@functools.partial(jax.jit, static_argnums=(0, 3), static_argnames="scaled")
def ascent_step(
    outputs: Outputs,
    variables: Any,
    images: jax.Array,
    name: str,
    units: jax.Array,
    rng: jax.Array,
    *,
    rate: float,
    l2: float,
    jitter: int,
    blur: float,
    scaled: bool,
) -> tuple[jax.Array, jax.Array]:
    """Moves images one step up the activation of their units, less an L2 prior on their distance from grey.

    Source: Simonyan, Vedaldi, Zisserman 2014, arXiv 1312.6034, sec. 2, eq. 1, where the distance is that from the mean
    image. Yosinski et al. 2015, arXiv 1506.06579, sec. 3, for the blur; Mordvintsev et al. 2015 for the jitter.

    Args:
      outputs: Pure function of variables and images.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      name: Name of the output, see `activation`.
      units: Unit of each image, int32 [b].
      rng: Key of the jitter.
      rate: Size of the step: a factor of the gradient, or the mean step of a pixel if `scaled`.
      l2: Factor lambda of the prior, lambda * |image - 0.5|^2.
      jitter: Largest number of pixels by which images are shifted around, down and across, for this step.
      blur: Share of each neighbour that a pixel takes over afterwards, in [0, 1/3].
      scaled: True to divide the gradient of each image by its root mean square.

    Returns:
      (images [b, h, w, 3] in [0, 1], activations float32 [b] before the step).
    """
    shift = jax.random.randint(rng, (2,), -jitter, jitter + 1)

    def objective(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        shifted = jnp.roll(jnp.roll(x, shift[0], axis=1), shift[1], axis=2)
        found = activation(outputs, variables, shifted, name, units)
        return (found - l2 * jnp.square(x - GREY).sum(axis=(1, 2, 3))).sum(), found

    gradient, found = jax.grad(objective, has_aux=True)(images)
    if scaled:
        gradient /= jnp.sqrt(jnp.square(gradient).mean(axis=(1, 2, 3), keepdims=True)) + 1e-12
    moved = soften(images + rate * gradient, blur)
    return jnp.clip(moved, 0, 1), found


def ascend(
    outputs: Outputs,
    variables: Any,
    images: np.ndarray | jax.Array,
    name: str,
    units: np.ndarray | jax.Array,
    *,
    steps: int,
    rate: float,
    l2: float = 0.0,
    jitter: int = 0,
    blur: float = 0.0,
    scaled: bool = True,
    seed: int = 0,
) -> tuple[jax.Array, np.ndarray]:
    """Climbs the activations of units, one for each image; see `ascent_step`.

    Args:
      outputs: Pure function of variables and images.
      variables: Variables of the model.
      images: Images to start from, float32 [b, h, w, 3] in [0, 1].
      name: Name of the output, see `activation`.
      units: Unit of each image, int [b].
      steps: Number of steps.
      rate: Size of a step: a factor of the gradient, or the mean step of a pixel if `scaled`.
      l2: Factor of the L2 prior.
      jitter: Largest shift in pixels.
      blur: Share of each neighbour that a pixel takes over after each step, in [0, 1/3].
      scaled: True to divide the gradient of each image by its root mean square.
      seed: Seed of the jitter.

    Returns:
      (images float32 [b, h, w, 3] in [0, 1], activations float32 [steps, b] before each step).
    """
    current, chosen, history = jnp.asarray(images, jnp.float32), jnp.asarray(units, jnp.int32), []
    options = dict(rate=rate, l2=l2, jitter=jitter, blur=blur, scaled=scaled)
    for i in range(steps):
        rng = jax.random.fold_in(jax.random.key(seed), i)
        current, found = ascent_step(outputs, variables, current, name, chosen, rng, **options)
        history.append(found)
    return current, np.asarray(jnp.stack(history))


def _passes(subject: Subject, steps: int = STEPS, count: int = COUNT_SHOWN, units: tuple = (), **_: Any) -> float:
    return (3 * steps * (len(units) or count) + 1) / len(subject.images)


def without_units(subject: Subject, layer: str | None = None, units: Sequence[int] = (), **_: Any) -> str | None:
    """Returns why a model has nothing to climb, as the end of a sentence; None if it has.

    Args:
      subject: Model and images.
      layer: Name of the output, an option of the instrument; None for one of its choice.
      units: Numbers of units, an option of the instrument.
      **_: Further options of the instrument.

    Raises:
      UserError: There is no such output, or it has no such unit.
    """
    if layer is None and not subject.has_classes() and not maps_of(subject):
        return "this model has neither classes nor maps"
    name = climbed(subject, layer)
    check_units(units, units_of(subject, name), repr(name))
    return None


def climbed(subject: Subject, layer: str | None) -> str:
    """Returns the name of the output whose units are climbed: by default the logits, or else the last map.

    Args:
      subject: Model and images.
      layer: Name that the user gave; None for the default.

    Raises:
      UserError: The model has neither logits nor maps.
    """
    return layer or ("logits" if subject.has_classes() else chosen_map(subject, None))


@part("explanation", "ascent", small={"steps": 2, "count": 2}, passes=_passes, refuses=without_units)
def explain_ascent(
    subject: Subject,
    *,
    layer: str | None = None,
    units: tuple[Annotated[int, Range(0)], ...] = (),
    count: COUNT = COUNT_SHOWN,
    steps: COUNT = STEPS,
    rate: POSITIVE = 0.02,
    l2: Annotated[float, Range(0)] = 0.01,
    jitter: Annotated[int, Range(0)] = 2,
    blur: Annotated[float, Range(0, 1 / 3)] = 0.05,
    seed: int = 0,
) -> Explanation:
    """The images to which classes or units respond most, found by gradient ascent from grey (Simonyan et al. 2014).

    Args:
      subject: Model and images.
      layer: Name of the output, such as "logits" or "stages/1"; None for the classes, or else for the last map.
      units: Numbers of the classes or units. Empty for the classes of the images, and then further ones; or for the
        units with the largest responses to the images.
      count: Number of units, if they are not given.
      steps: Number of steps.
      rate: Mean step of a pixel, of a range of 1.
      l2: Factor of the L2 prior, which pulls the image to grey.
      jitter: Largest number of pixels by which the image is shifted around for a step.
      blur: Share of each neighbour that a pixel takes over after each step, in [0, 1/3].
      seed: Seed of the start and of the jitter.

    Raises:
      UserError: The output or a unit does not exist, or its gradient is not finite.
    """
    name = climbed(subject, layer)
    classes, total = name == "logits", units_of(subject, name)
    if classes:
        ranking = np.bincount(subject.targets, minlength=total)
    else:
        run = lambda x, _: mean_responses(subject.outputs, subject.variables, x, name)
        ranking = in_batches(subject, run).max(axis=0)
    chosen = chosen_units(units, ranking, count)
    start = GREY + NOISE * np.random.default_rng(seed).normal(size=(len(chosen), *subject.images.shape[1:]))
    found, history = [], []
    for together in in_rows(range(len(chosen)), subject.batch):
        images, activations = ascend(
            subject.outputs,
            subject.variables,
            np.clip(start[together], 0, 1),
            name,
            np.array(chosen)[together],
            steps=steps,
            rate=rate,
            l2=l2,
            jitter=jitter,
            blur=blur,
            seed=seed,
        )
        found += list(np.asarray(images))
        history += activations.T.tolist()
    if not np.isfinite(found).all():
        raise UserError(f"the gradient of {name!r} has numbers that are not finite: check the weights of the model")
    words = [subject.classes[unit] if classes and unit < len(subject.classes) else f"unit {unit}" for unit in chosen]
    tiles = [
        Tile(image, None, f"{word}: {values[0]:.3g} to {values[-1]:.3g}")
        for image, word, values in zip(found, words, history)
    ]
    text = (
        f"Images that make {'the logit of a class' if classes else f'a unit of `{name}`'} large, found by {steps} "
        f"steps of gradient ascent from grey (Simonyan et al. 2014), with an L2 prior of {l2:g}, shifts of up to "
        f"{jitter} pixels and a little blur. Below each: the activation at the first and at the last step."
    )
    rows = [Row("", row) for row in in_rows(tiles, COLUMNS)]
    return Explanation(f"Feature visualisation of {name}", text, rows, height=max(HEIGHT, subject.images.shape[1]))
