"""Warnings before a run starts: likely mistakes that are no errors, because someone may intend them.

Each function returns lines that begin with "warning: ". They only use information that is cheap to get.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxvision import augment, paths
from jaxvision.data import overlap, text
from jaxvision.data.sources import BadExample, Source
from jaxvision.data.sources.tfds import TfdsSource
from jaxvision.data.subsets import unwrap
from jaxvision.errors import shown
from jaxvision.optim import rules
from jaxvision.optim.optimizers import Optimizer

PyTree = Any

NAMED = 3  # most missing classes that a warning names
MOST_RECORDS = 10_000  # largest TFDS set whose labels are read, since that reads the images too
MOST_FLAGS = 50_000_000  # largest product of examples and classes of a multi-label set whose labels are read
MOST_CAPTIONS = 256  # captions that are compared; in most sets the second one already differs
_PLACES = 1_000  # most steps at which the learning rate is computed


def labels(source: Source) -> np.ndarray | None:
    """Returns the labels of a source if they are cheap to read.

    Args:
      source: Source of examples.

    Returns:
      Int [n], or float [n, k] for several labels; None if there are none, or reading them is expensive.
    """
    if not source.info.num_classes:
        return None
    if "labels" in vars(source):
        return source.labels
    base, _ = unwrap(source)
    if type(base)._read_labels is Source._read_labels or (isinstance(base, TfdsSource) and len(base) > MOST_RECORDS):
        return None
    if source.info.multi_label and len(base) * source.info.num_classes > MOST_FLAGS:
        return None
    return source.labels


def warn_of_classes(source: Source, trained: bool) -> list[str]:
    """Warns of classes without an example in a split, or if all examples are of one class.

    Args:
      source: Split of a data set.
      trained: True if the run trains on it.
    """
    classes, info = labels(source), source.info
    if classes is None or info.num_classes is None or info.num_classes < 2:
        return []
    counts = classes.sum(0) if info.multi_label else np.bincount(classes, minlength=info.num_classes)
    where = f"{info.split} of {info.name}"
    name = lambda k: repr(info.classes[k]) if info.classes else str(k)
    absent, present = np.flatnonzero(counts == 0), np.flatnonzero(counts)
    if not len(absent):
        return []
    if len(present) == 1 and not info.multi_label:
        effect = "no other class can be learned" if trained else "a model that always predicts it is always right"
        return [
            f"warning: all {len(source):,} examples of {where} are of the class {name(present[0])}, of "
            f"{info.num_classes:,} classes: {effect}"
        ]
    more = f" and {len(absent) - NAMED:,} more" if len(absent) > NAMED else ""
    return [
        f"warning: {len(absent):,} of the {info.num_classes:,} classes have no example in {where}: "
        f"{', '.join(map(name, absent[:NAMED]))}{more}"
    ]


def warn_of_captions(source: Source, host: str) -> list[str]:
    """Warns if the captions of a split are all equal; up to `MOST_CAPTIONS` examples are compared.

    Args:
      source: Split of a data set.
      host: Spec of host operations, whose `tokenize` names the field of the captions. Captions made from class names
        are not checked.
    """
    fields = [field for field in text.sources_of(("tokens",), host) if field not in ("tokens", "label")]
    if not fields:
        return []
    count: int = 0
    same: tuple[Any, ...] | None = None
    for index in np.unique(np.linspace(0, len(source) - 1, MOST_CAPTIONS).round().astype(int)).tolist():
        try:
            texts = source[index].get(fields[0])
        except (BadExample, OSError):  # the training counts bad examples when it reads them
            continue
        captions: tuple[Any, ...] = (texts,) if isinstance(texts, str) else tuple(texts or ())
        if same is not None and captions != same:
            return []
        count, same = count + 1, captions
    if count < 2 or same is None:
        return []
    compared = f"all {count:,} captions" if count == len(source) else f"all {count:,} captions that were compared"
    where, caption = f"{source.info.split} of {source.info.name}", shown(same[0] if len(same) == 1 else same)
    return [f"warning: {compared} of {where} are {caption}: nothing can be learned from a text that all images share"]


def warn_of_overlap(
    where: str, what: str, trained: Source, judged: Source, size: Callable[[str], int] | None = None
) -> list[str]:
    """Warns if an evaluation uses images that something is trained on.

    Args:
      where: Name of the evaluation, for the message.
      what: Name of the model or classifier that is trained on them, for the message.
      trained: Split that is trained on.
      judged: Split that is evaluated on.
      size: Function from the name of a split to its size; see `overlap.count_shared`.
    """
    shared = overlap.count_shared(trained, judged, size)
    if not shared:
        return []
    return [
        f"warning: {where} evaluates on images that {what} is trained on: {shared:,} of the {len(judged):,} examples "
        f"of {judged.info.split} are in {trained.info.split} too"
    ]


def warn_of_optimizer(
    section: Mapping[str, Any], optimizer: Optimizer, params: PyTree, total: int, warmup: int
) -> list[str]:
    """Warns if a run changes no parameter, or decays none although its config has a weight decay.

    Args:
      section: Section `optimizer` of the config.
      optimizer: Optimizer that was made from it.
      params: Parameters of the model.
      total: Steps of the run.
      warmup: Steps of the warm-up.
    """
    if total == 0:
        return ["warning: train.total is 0 steps: nothing is learned, the initial model is evaluated"]
    lines = []
    steps = np.unique(np.linspace(0, total - 1, min(total, _PLACES)).round())
    highest = float(np.max(jax.vmap(optimizer.learning_rate)(steps)))
    if highest == 0:
        why = ", since the warm-up begins at 0 and takes the whole run" if section["learning_rate"] else ""
        lines.append(f"warning: the learning rate is 0 at every step{why}: nothing is learned")
    elif warmup >= total:
        lines.append(
            f"warning: the warm-up takes all {total:,} steps: the learning rate reaches {highest:.3g} and never "
            f"optimizer.learning_rate={section['learning_rate']:.3g} and its schedule"
        )
    trained = [not frozen for frozen in jax.tree.leaves(optimizer.frozen)]
    of_trained = lambda values: [value for value, free in zip(jax.tree.leaves(values), trained) if free]
    if (section.get("weight_decay") or 0) > 0:
        decays = paths.match(section.get("decay_rules", rules.DECAY_RULES), params, "decay_rules", check_unused=False)
        if not any(of_trained(decays)):
            lines.append(
                f"warning: optimizer.weight_decay={section['weight_decay']:g} decays nothing: optimizer.decay_rules "
                "give 0 to every parameter that is trained"
            )
    lr_rules = section.get("lr_rules")
    if lr_rules and not any(of_trained(paths.match(lr_rules, params, "lr_rules", check_unused=False))):
        lines.append("warning: optimizer.lr_rules give 0 to every parameter that is trained: nothing is learned")
    return lines


def warn_of_augmentation(spec: str, batch_size: int) -> list[str]:
    """Warns if an image would be mixed with itself.

    Args:
      spec: Spec of the augmentation.
      batch_size: Examples in a batch.
    """
    mixing = [call.name for call in augment.mixing(spec)]
    if batch_size > 1 or not mixing:
        return []
    return [f"warning: {mixing[0]} mixes the images of a batch, and in a batch of 1 an image with itself"]
