"""Saliency by gradients: how much the score of a class changes with each pixel."""

import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxvision.arguments import Range
from jaxvision.explain.base import (
    Explanation,
    Outputs,
    Subject,
    in_batches,
    maps_over,
    score,
    without_classes,
)
from jaxvision.registry import part


@functools.partial(jax.jit, static_argnums=0)
def gradient(outputs: Outputs, variables: Any, images: jax.Array, targets: jax.Array) -> jax.Array:
    """Computes the gradient of the logit of a class with respect to the pixels.

    Source: Simonyan, Vedaldi, Zisserman 2014, arXiv 1312.6034, sec. 3, w of eq. 4.

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k] among others.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b].

    Returns:
      float32 [b, h, w, 3], in logits per unit of the pixel range [0, 1].
    """
    return jax.grad(lambda x: score(outputs(variables, x), targets).sum())(images)


def smoothgrad(
    outputs: Outputs,
    variables: Any,
    images: jax.Array,
    targets: jax.Array,
    rng: jax.Array,
    samples: int = 25,
    noise: float = 0.15,
) -> jax.Array:
    """Averages the gradients of noisy copies of the images, one copy of all images at a time.

    Source: Smilkov et al. 2017, arXiv 1706.03825, sec. 2.

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k].
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b].
      rng: Key of the noise.
      samples: Number of copies.
      noise: Standard deviation of the noise, in units of each image's range from its darkest to its brightest value.

    Returns:
      float32 [b, h, w, 3], in logits per unit of the pixel range [0, 1].
    """
    images = jnp.asarray(images)
    span = images.max((1, 2, 3), keepdims=True) - images.min((1, 2, 3), keepdims=True)  # b 1 1 1
    total = jnp.zeros_like(images)
    for key in jax.random.split(rng, samples):
        noisy = images + noise * span * jax.random.normal(key, images.shape)
        total += gradient(outputs, variables, noisy, targets)
    return total / samples


def integrated_gradients(
    outputs: Outputs,
    variables: Any,
    images: jax.Array,
    targets: jax.Array,
    baseline: jax.Array | float = 0.0,
    steps: int = 32,
) -> jax.Array:
    """Computes integrated gradients: what each pixel adds to the logit on the straight way from a baseline.

    The sum over all pixels is the logit of the image minus that of the baseline, up to the error of the integral, which
    is taken at the middles of `steps` equal parts.

    Source: Sundararajan, Taly, Yan 2017, arXiv 1703.01365, eq. 1; completeness: sec. 3, proposition 1.

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k].
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b].
      baseline: Image without information, float [b, h, w, 3] or a grey in [0, 1]; black is usual.
      steps: Number of parts.

    Returns:
      float32 [b, h, w, 3], in logits.
    """
    images = jnp.asarray(images)
    way = images - baseline
    total = jnp.zeros_like(images)
    for i in range(steps):
        total += gradient(outputs, variables, baseline + way * ((i + 0.5) / steps), targets)
    return way * total / steps


def saliency(gradients: jax.Array) -> jax.Array:
    """Reduces gradients to a map: the largest absolute value of the three channels.

    Source: Simonyan et al. 2014, sec. 3.1, "M_ij = max_c |w_h(i,j,c)|".

    Args:
      gradients: Gradients, float [b, h, w, 3].

    Returns:
      float [b, h, w], at least 0.

    >>> saliency(jnp.array([[[[1.0, -3.0, 2.0]]]])).tolist()
    [[[3.0]]]
    """
    return abs(gradients).max(axis=-1)


@part("explanation", "gradient", maps=True, passes=3, refuses=without_classes)
def explain_gradient(subject: Subject) -> Explanation:
    """The absolute gradient of the logit with respect to the pixels (Simonyan et al. 2014).

    Args:
      subject: Model and images.
    """
    maps = in_batches(subject, lambda x, k: saliency(gradient(subject.outputs, subject.variables, x, k)))
    text = (
        "How much the logit of the class changes with each pixel: the absolute gradient, the largest of the three "
        "channels (Simonyan et al. 2014)."
    )
    return Explanation("Gradient", text, maps_over(subject, {"gradient": maps}), maps)


@part(
    "explanation",
    "smoothgrad",
    maps=True,
    small={"samples": 2},
    passes=lambda subject, samples=25, **_: 3 * samples,
    refuses=without_classes,
)
def explain_smoothgrad(
    subject: Subject,
    *,
    samples: Annotated[int, Range(1)] = 25,
    noise: Annotated[float, Range(0, 1)] = 0.15,
    seed: Annotated[int, Range(0)] = 0,
) -> Explanation:
    """The gradient, averaged over noisy copies of the image (Smilkov et al. 2017).

    Args:
      subject: Model and images.
      samples: Number of copies.
      noise: Standard deviation of the noise, as a share of the image's range from its darkest to its brightest value.
      seed: Seed of the noise.
    """
    rng = jax.random.key(seed)
    maps = in_batches(
        subject, lambda x, k: saliency(smoothgrad(subject.outputs, subject.variables, x, k, rng, samples, noise))
    )
    text = (
        f"The gradient, averaged over {samples} copies of the image with normal noise of {noise:.0%} of its range, "
        "which leaves less speckle (Smilkov et al. 2017); then as above the largest absolute value of the channels."
    )
    return Explanation("SmoothGrad", text, maps_over(subject, {"SmoothGrad": maps}), maps)


@part(
    "explanation",
    "integrated",
    maps=True,
    small={"steps": 2},
    passes=lambda subject, steps=32, **_: 3 * steps + 2,
    refuses=without_classes,
)
def explain_integrated(
    subject: Subject,
    *,
    steps: Annotated[int, Range(1)] = 32,
    baseline: Annotated[float, Range(0, 1)] = 0.0,
) -> Explanation:
    """Integrated gradients: what each pixel adds to the logit, from a black image on (Sundararajan et al. 2017).

    Args:
      subject: Model and images.
      steps: Number of parts of the integral.
      baseline: Grey of the image where the way begins, in [0, 1].
    """
    logit = jax.jit(lambda variables, x, k: score(subject.outputs(variables, x), k))

    def run(x: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        rise = logit(subject.variables, x, k) - logit(subject.variables, jnp.full_like(x, baseline), k)
        added = integrated_gradients(subject.outputs, subject.variables, x, k, baseline, steps)
        return added.sum(axis=-1), rise

    maps, rises = in_batches(subject, run)
    rows = [
        row._replace(
            tiles=[row.tiles[0], row.tiles[1]._replace(words=f"integrated: sum {values.sum():.2f} of {rise:.2f}")]
        )
        for row, values, rise in zip(maps_over(subject, {"integrated": maps}, signed=True), maps, rises)
    ]
    text = (
        "What each pixel adds to the logit (red) or takes from it (blue) on the straight way from an image of grey "
        f"{baseline:g} (0 is black), in {steps} parts (Sundararajan et al. 2017). Under a map: its sum, and the rise "
        "of the logit, which it equals if there are enough parts."
    )
    return Explanation("Integrated gradients", text, rows, maps, signed=True)
