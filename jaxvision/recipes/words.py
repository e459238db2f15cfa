"""The lines that say what was found in a set of images, and what was chosen."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxvision.recipes import choices
from jaxvision.recipes.roles import Layout
from jaxvision.recipes.survey import Survey, open_part

_SET = ("data.name", "data.data_dir", "data.split", "data.options", "data.classes")
# Other keys on which the reason for a value depends.
_RESTS_ON = {
    "data.batch_size": (*_SET, "data.subset"),
    "data.host": _SET,
    "data.subset": (*_SET, "evals.val"),
    "model": (*_SET, "data.host"),
    "optimizer.learning_rate": ("data.batch_size", "optimizer"),
    "train.total": (*_SET, "data.subset"),
}


class Facts(NamedTuple):
    """What the lines say beside the values of the config.

    Attributes:
      layout: Set of images.
      seen: Sizes and classes.
      share: Share of every class that is held out; None for none.
      held_out: Number of images that are held out.
      images: Size of the images, and the reasons for it and for the host operations.
      model: Reason for the model; empty for none.
    """

    layout: Layout
    seen: Survey
    share: float | None
    held_out: int
    images: str
    model: str


def touched(changes: Collection[str], *keys: str) -> bool:
    """Returns whether a value or anything in a section is among changes.

    Args:
      changes: Dotted keys that differ.
      *keys: Dotted keys of values and sections.

    >>> touched({"data.subset.seed"}, "data.subset"), touched({"data.host"}, "data.subset")
    (True, False)
    """
    return any(change == key or change.startswith(f"{key}.") for change in changes for key in keys)


def holds(reason: str, changes: Collection[str]) -> bool:
    """Returns whether the reason for a value still holds after changes.

    Args:
      reason: Dotted key of the value.
      changes: Dotted keys that differ.
    """
    return not touched(changes, reason, *_RESTS_ON.get(reason, ()))


def lines(facts: Facts, config: ConfigDict, changes: Collection[str] = ()) -> tuple[str, ...]:
    """Returns the lines about a config that was made, and then perhaps changed.

    Args:
      facts: Facts about the images.
      config: Config after the changes.
      changes: Dotted keys that differ from the config that was made.

    Raises:
      UserError: The data as changed cannot be read.
    """
    other_set, init = touched(changes, *_SET), config.get("init")
    found_lines = [found(facts.layout, facts.seen)]
    if facts.layout.others:
        found_lines.append(f"left out: the splits {', '.join(facts.layout.others)}")
    if other_set:
        where = config.data.get("data_dir") or config.data.name
        found_lines = [f"data, as changed: the split {config.data.get('split', 'train')} of {where}"]
    why_model = f" ({facts.model})" if facts.model and holds("model", changes) else ""
    images = f"images: {facts.images if not touched(changes, *_SET, 'data.host', 'model') else config.data.get('host')}"
    length = f"{config.train.get('total')} in batches of {config.data.get('batch_size')}"
    return (
        *found_lines,
        _evaluated(facts, config, changes),
        f"model: {full_name(config.model)}{why_model}, {start(init)}",
        images,
        f"training: {length}, {optimizer(config.optimizer)}; augmentation {config.get('augment', 'none')}",
        *([] if other_set else hints(config.model.name, facts.seen.examples - facts.held_out, bool(init))),
    )


def title(config: ConfigDict) -> str:
    """Returns the first line of the docstring of the file of a config.

    Args:
      config: Config.
    """
    where = config.data.get("data_dir") or config.data.name
    return f"{full_name(config.model)} on the images in {where}, {config.train.get('total')}."


def _evaluated(facts: Facts, config: ConfigDict, changes: Collection[str]) -> str:
    if not touched(changes, *_SET, "data.subset", "evals"):
        return validation(facts.layout, facts.share, facts.held_out)
    subset = (config.data.to_dict().get("subset")) or {}
    evals = config.to_dict().get("evals") or {}
    held = (evals.get("val") or {}).get("subset") or {}
    if subset.get("hold_out") and held == {**subset, "part": "held_out"} and not touched(changes, *_SET):
        return validation(facts.layout, subset["hold_out"], len(open_part({**config.data.to_dict(), "subset": held})))
    parts = [f"{name} on {(entry or {}).get('split', 'its own data')}" for name, entry in evals.items()]
    return f"evaluations, as changed: {', '.join(parts) or 'none'}"


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
        none = f", and none of {absent:,} class{'es' * (absent > 1)}" if absent else ""
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


def start(init: Mapping[str, Any] | None) -> str:
    """Says from which weights the run starts.

    Args:
      init: Section `init`, or None for random weights.
    """
    if not init:
        return "from random weights"
    classifier = {"keep": ", with its classifier", "new": ", with a new classifier"}.get(init.get("head", ""), "")
    return f"from {init.get('weights')}{classifier}"


def optimizer(section: Mapping[str, Any]) -> str:
    """Describes the optimizer.

    Args:
      section: Section `optimizer`.
    """
    rate = section.get("learning_rate")
    schedule = str(section.get("schedule") or "").partition("(")[0]
    with_rate = f" with rate {rate:g}" if isinstance(rate, int | float) else ""
    return f"{section['name']}{with_rate}{f', {schedule} schedule' if schedule else ''}"


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
