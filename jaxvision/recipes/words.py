"""The lines that say what was found in a set of images, and what was chosen."""

from collections.abc import Mapping
from typing import Any

from jaxvision.recipes import choices
from jaxvision.recipes.roles import Layout
from jaxvision.recipes.starts import Start
from jaxvision.recipes.survey import Survey


def full_name(model: Mapping[str, Any]) -> str:
    """Returns the name of a model with its variant.

    Args:
      model: Section `model`.

    >>> full_name({"name": "vit", "variant": "S/16"})
    'vit S/16'
    """
    return f"{model['name']} {model['variant']}" if model.get("variant") else model["name"]


def found(layout: Layout, seen: Survey) -> str:
    """Describes the training images.

    Args:
      layout: Set of images.
      seen: Sizes and classes.
    """
    counts = " (several per image)"
    if seen.counts:
        absent = seen.classes - len(seen.counts)
        none = f", and none of {absent:,} classes" if absent else ""
        counts = f" ({seen.counts[0]:,} to {seen.counts[-1]:,} of each{none})"
    sizes = f"of mixed sizes (shorter side {seen.side} pixels in the median)"
    if seen.uniform:
        some = "" if seen.sized == seen.examples else f"{seen.sized:,} of them looked at, "
        sizes = f"{some}all of {seen.uniform[1]}x{seen.uniform[0]} pixels"
    return f"found: {layout.words}; {seen.examples:,} training images of {seen.classes:,} classes{counts}, {sizes}"


def validation(layout: Layout, share: float | None, held_out: int) -> str:
    """Says on which images the run is evaluated.

    Args:
      layout: Set of images.
      share: Share of every class that is held out; None for none.
      held_out: Number of images that are held out.
    """
    test = f"; tested at the end on {layout.splits['test']}" if "test" in layout.splits else ""
    if "validation" in layout.splits:
        return f"validation: the split {layout.splits['validation']}{test}"
    if share is None:
        return f"validation: none, since no class has two images{test}"
    images = "1 image is" if held_out == 1 else f"{held_out:,} images are"
    return (
        f"validation: there is no such split, so {images} held out, {share:.0%} of each class by a "
        f"digest of their names: always the same ones{test}"
    )


def start(weights: Start | None, init: Mapping[str, Any] | None) -> str:
    """Says from which weights the run starts.

    Args:
      weights: Weights, or None for random ones.
      init: Section `init`, or None.
    """
    if weights is None or init is None:
        return "from random weights"
    return f"from {weights.weights}, with {'its' if init['head'] == 'keep' else 'a new'} classifier"


def optimizer(section: Mapping[str, Any]) -> str:
    """Describes the optimizer.

    Args:
      section: Section `optimizer`.
    """
    schedule = section["schedule"].partition("(")[0]
    return f"{section['name']} with rate {section['learning_rate']:g}, {schedule} schedule"


def hints(name: str, examples: int, from_weights: bool) -> list[str]:
    """Returns a line of advice for a small set, if there is any.

    Args:
      name: Name of the model.
      examples: Number of training images.
      from_weights: True if the run starts from weights.
    """
    if from_weights or examples > 20_000:
        return []
    if choices.is_transformer(name) and ":" not in name:
        how = f"{name} learns little from so few images without pretrained weights"
    else:
        how = "from so few images a network learns more with pretrained weights"
    return [f"hint: {how}: --from=FOLDER starts from them (docs/weights.md)"]
