"""The logits of a trained model for images: of its own classes, or of classes that a user says in words."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.commands import photos
from jaxvision.data.text import prompts as prompt_sets
from jaxvision.errors import UserError
from jaxvision.evals import zeroshot
from jaxvision.fields import Field


def make_classifier(
    model: photos.Model,
    labels: Sequence[str] | None = None,
    prompts: str | None = None,
    tokenizer: str | None = None,
) -> tuple[tuple[str, ...], Callable[[Mapping[str, Any]], jax.Array]]:
    """Returns the classes of a model, and the function from its outputs to their logits.

    Args:
      model: Model, from `photos.open_model`.
      labels: Classes in words, for a model of image and text; None for the classes that it was trained on.
      prompts: Texts to put `labels` into, see `data.text.prompts.get_prompts`; None uses the labels alone.
      tokenizer: Host spec such as "tokenize('clip', path='...')", for weights that do not name their tokenizer.

    Returns:
      Names of the k classes, and a function from the outputs of the task to logits [b, k], which may be jitted.

    Raises:
      UserError: The model reads no words. (When the function is called:) the model has no classes.
    """
    if labels is None:
        return model.classes, lambda out: _logits(out, model)
    templates = prompt_sets.get_prompts(prompts or "class_name").templates
    words = [prompt_sets.fill_template(template, name) for template in templates for name in labels]
    embedded = photos.embed_texts(model, tokenizer)(words)
    _, head = zeroshot.classifiers(embedded.reshape(len(templates), len(labels), -1))
    scale = jnp.exp(model.variables["params"]["logit_scale"])
    return tuple(labels), lambda out: scale * _cosines(out[zeroshot.LAYER], head)


def segmentations(model: photos.Model) -> dict[str, Field]:
    """Returns the outputs of a model that are segmentations, by name; its task says which.

    Args:
      model: Model, from `photos.open_model`.
    """
    return {name: field for name, field in getattr(model.task, "kinds", {}).items() if field.kind == "segmentation"}


def _cosines(images: jax.Array, head: jax.Array | np.ndarray) -> jax.Array:
    # Highest precision, because the logit scale multiplies the errors.
    return jnp.matmul(images, head.T, precision=jax.lax.Precision.HIGHEST)


def _logits(outputs: Mapping[str, Any], model: photos.Model) -> jax.Array:
    if "logits" not in outputs:
        raise UserError(
            f"{model.name} holds a model without classes: for one of image and text, add --labels='a cat,a dog'"
        )
    return outputs["logits"]
