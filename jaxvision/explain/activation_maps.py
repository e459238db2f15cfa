"""Class activation maps: where in a map of the network the evidence for a class lies."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.errors import UserError
from jaxvision.explain.base import (
    Explanation,
    Outputs,
    Subject,
    check_map,
    in_batches,
    layers,
    maps_over,
    without_classes,
)
from jaxvision.explain.cut import layer_gradient
from jaxvision.registry import part


@functools.partial(jax.jit, static_argnums=(0, 4))
def gradcam(outputs: Outputs, variables: Any, images: jax.Array, targets: jax.Array, layer: str = "map") -> jax.Array:
    """Computes Grad-CAM: the channels of a map, weighted by the mean gradient of the logit, where the sum is positive.

    Source: Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2: alpha_k = mean_ij dS/dA_ij^k, ReLU(sum_k alpha_k A^k).

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k] and the layer.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b].
      layer: Name of a map [b, h', w', d]: "map" for the last one, or "stages/2". A ViT's are made of its tokens.

    Returns:
      float32 [b, rows, columns], at least 0, of the size of the layer.

    Raises:
      UserError: There is no such layer, or the logits do not depend on it.
    """
    values, gradients = layer_gradient(outputs, variables, images, targets, layer)
    weights = gradients.mean(axis=(1, 2), keepdims=True)  # b 1 1 d
    return jax.nn.relu((weights * values).sum(axis=-1))


@functools.partial(jax.jit, static_argnums=0)
def cam(outputs: Outputs, variables: Any, images: jax.Array, targets: jax.Array) -> jax.Array:
    """Computes the class activation map of a network that ends in a mean over the map and a linear classifier.

    The mean of the map over its places is the logit without the classifier's bias.

    Source: Zhou et al. 2016, arXiv 1512.04150, eq. 2: M_c(x, y) = sum_k w_k^c f_k(x, y).

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k] and "map" [b, h', w', d].
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b].

    Returns:
      float32 [b, rows, columns] of either sign, of the size of the map.
    """
    values, gradients = layer_gradient(outputs, variables, images, targets, "map")
    places = values.shape[1] * values.shape[2]
    # dS/dA_ij^k is w_k / places at every place, so the weights need not be looked up by the name of a parameter.
    return (gradients * values).sum(axis=-1) * places


def why_no_cam(subject: Subject, **_: Any) -> str | None:
    """Returns why CAM is not defined, as the end of a sentence: the model must end in a mean and a linear classifier.

    It is defined if the gradient of the logit with respect to the last map is equal at all places and for two images.

    Args:
      subject: Subject.
      **_: Options of the instrument.
    """
    if len(layers(subject.shapes()).get("map", ())) != 4:
        return "this model returns no map"
    if reason := why_no_gradcam(subject, "map"):
        return reason
    image, target = subject.images[:1], subject.targets[:1]
    both = jnp.concatenate([image, 1 - image])
    _, gradients = _gradients(subject.outputs, subject.variables, both, jnp.tile(target, 2), "map")
    varies = jnp.abs(gradients - gradients[:1, :1, :1]).max() > 1e-3 * jnp.abs(gradients).max()
    return "its classifier is not linear in the mean of the last map: take gradcam" if bool(varies) else None


def why_no_gradcam(subject: Subject, layer: str | None = None, **_: Any) -> str | None:
    """Returns why Grad-CAM cannot be computed, as the end of a sentence; None if it can.

    Args:
      subject: Subject.
      layer: Name of the layer, or None for the last one that the logits depend on.
      **_: Other options of the instrument.

    Raises:
      UserError: The model has no such map.
    """
    if reason := without_classes(subject):
        return reason
    if layer is None:
        return None if find_map(subject) else "this model returns no map that its logits depend on"
    check_map(subject, layer)
    if _moves_logits(subject, layer):
        return None
    last = find_map(subject)
    return f"its logits do not change with the places of {layer!r}" + (f": take {last!r}" if last else "")


def find_map(subject: Subject) -> str | None:
    """Returns the name of the last map whose places change the logits; None if there is none.

    In a ViT with a class token the patches of the last block change nothing, because only the token is read after it.

    Args:
      subject: Subject.
    """
    shapes = layers(subject.shapes())
    stages = [name for name in shapes if name.startswith("stages/")]
    names = [name for name in ("map", *stages[::-1]) if len(shapes.get(name, ())) == 4]
    return next((name for name in names if _moves_logits(subject, name)), None)


_gradients = jax.jit(layer_gradient, static_argnums=(0, 4))


def _moves_logits(subject: Subject, name: str) -> bool:
    """Whether the gradient of the first image's logit with respect to a map is not 0 everywhere."""
    try:
        _, found = _gradients(subject.outputs, subject.variables, subject.images[:1], subject.targets[:1], name)
    except UserError:  # the logits are not computed from it
        return False
    return bool(jnp.any(found != 0))


def _with_layer(subject: Subject, layer: str | None = None) -> dict[str, Any]:
    return {"layer": layer or find_map(subject) or "map"}


@part("explanation", "gradcam", maps=True, passes=3, refuses=why_no_gradcam, settles=_with_layer)
def explain_gradcam(subject: Subject, *, layer: str | None = None) -> Explanation:
    """Grad-CAM at any map of the network: where the evidence for the class lies (Selvaraju et al. 2017).

    Args:
      subject: Model and images.
      layer: Name of the map, "map" for the last one, or "stages/0", "stages/1", ... None for the last one that the
        logits depend on.
    """
    layer = _with_layer(subject, layer)["layer"]
    maps = in_batches(subject, lambda x, k: gradcam(subject.outputs, subject.variables, x, k, layer))
    text = (
        f"Where the map `{layer}` ({maps.shape[1]}x{maps.shape[2]} places) holds evidence for the class: its channels, "
        "weighted by the mean gradient of the logit, where their sum is positive (Selvaraju et al. 2017). An "
        "image without any evidence has an empty one."
    )
    return Explanation(f"Grad-CAM at {layer}", text, maps_over(subject, {f"Grad-CAM, {layer}": maps}), maps)


@part("explanation", "cam", maps=True, passes=3, refuses=why_no_cam)
def explain_cam(subject: Subject) -> Explanation:
    """Class activation maps of a network that ends in a mean and a linear classifier (Zhou et al. 2016).

    Args:
      subject: Model and images.
    """
    maps = in_batches(subject, lambda x, k: cam(subject.outputs, subject.variables, x, k))
    text = (
        "How much each place of the last map adds to the logit of the class, for it (red) or against it (blue) (Zhou "
        "et al. 2016). The mean of a map, which is written under it, is the logit without the classifier's bias."
    )
    rows = maps_over(subject, {"CAM": maps}, signed=True)
    rows = [
        row._replace(tiles=[row.tiles[0], row.tiles[1]._replace(words=f"mean {values.mean():.2f}")])
        for row, values in zip(rows, maps)
    ]
    return Explanation("Class activation maps", text, rows, maps, signed=True)
