"""Saliency by gradients: how much the score of a class changes with each pixel."""

import functools

import jax

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
def gradient(outputs: Outputs, variables: object, images: jax.Array, targets: jax.Array) -> jax.Array:
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


def saliency(gradients: jax.Array) -> jax.Array:
    """Reduces gradients to a map: the largest absolute value of the three channels.

    Source: Simonyan et al. 2014, sec. 3.1, "M_ij = max_c |w_h(i,j,c)|".

    Args:
      gradients: Gradients, float [b, h, w, 3].

    Returns:
      float [b, h, w], at least 0.

    >>> saliency(jax.numpy.array([[[[1.0, -3.0, 2.0]]]])).tolist()
    [[[3.0]]]
    """
    return abs(gradients).max(axis=-1)


@part("explanation", "gradient", passes=3, refuses=without_classes)
def explain_gradient(subject: Subject) -> Explanation:
    """The absolute gradient of the logit with respect to the pixels (Simonyan et al. 2014).

    Args:
      subject: Model and images.
    """
    maps = in_batches(subject, lambda x, k: saliency(gradient(subject.outputs, subject.variables, x, k)))
    text = (
        "How much the logit of the class changes with each pixel: the absolute gradient, the largest of the three "
        "channels (Simonyan et al. 2014). Each map is scaled by its own largest value."
    )
    return Explanation("Gradient", text, maps_over(subject, {"|gradient|": maps}), maps)
