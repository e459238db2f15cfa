"""What a person should know before a run starts: mistakes that no error tells, because someone may mean them.

Each function returns lines that begin with "warning: ". Only what is cheap to know is looked at.
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

NAMED = 3  # of the classes that are missing
MOST_RECORDS = 10_000  # of a TFDS set, whose labels lie beside the images
MOST_FLAGS = 50_000_000  # labels of a multi-label set times its classes
MOST_CAPTIONS = 256  # that are looked at; those of most sets differ at the second
_PLACES = 1_000  # steps at which the learning rate is looked at


def labels(source: Source) -> np.ndarray | None:
    """The labels of a source, int [n] or float [n, K]; None where it has none, or they are not cheap to read."""
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


def of_classes(source: Source, trained: bool) -> list[str]:
    """Says which classes have no example in a split, or that all examples are of one.

    Args:
      source: the split.
      trained: whether the run learns from it.
    """
    found, info = labels(source), source.info
    if found is None or info.num_classes < 2:
        return []
    counts = found.sum(0) if info.multi_label else np.bincount(found, minlength=info.num_classes)
    where = f"{info.split} of {info.name}"
    name = lambda k: repr(info.classes[k]) if info.classes else str(k)
    absent, present = np.flatnonzero(counts == 0), np.flatnonzero(counts)
    if not len(absent):
        return []
    if len(present) == 1 and not info.multi_label:
        told = "no other answer can be learned" if trained else "a model that always answers so is right on all"
        return [
            f"warning: all {len(source):,} examples of {where} are of the class {name(present[0])}, of "
            f"{info.num_classes:,} classes: {told}"
        ]
    more = f" and {len(absent) - NAMED:,} more" if len(absent) > NAMED else ""
    return [
        f"warning: {len(absent):,} of the {info.num_classes:,} classes have no example in {where}: "
        f"{', '.join(map(name, absent[:NAMED]))}{more}"
    ]


def of_captions(source: Source, host: str) -> list[str]:
    """Says that the captions of a split are all equal, as far as some that are spread over it tell.

    Args:
      source: the split.
      host: spec, whose `tokenize` says which field the captions are; those that it makes of class names are not
        looked at.
    """
    fields = [field for field in text.sources_of(("tokens",), host) if field not in ("tokens", "label")]
    if not fields:
        return []
    count, same = 0, None
    for index in np.unique(np.linspace(0, len(source) - 1, MOST_CAPTIONS).round().astype(int)).tolist():
        try:
            found = source[index].get(fields[0])
        except (BadExample, OSError):  # counted when it is read
            continue
        captions = (found,) if isinstance(found, str) else tuple(found or ())
        if same is not None and captions != same:
            return []
        count, same = count + 1, captions
    if count < 2:
        return []
    looked = f"all {count:,} captions" if count == len(source) else f"all {count:,} captions that were looked at"
    where, said = f"{source.info.split} of {source.info.name}", shown(same[0] if len(same) == 1 else same)
    return [f"warning: {looked} of {where} are {said}: a text that every image has tells none from another"]


def of_overlap(
    where: str, what: str, one: Source, judged: Source, size: Callable[[str], int] | None = None
) -> list[str]:
    """Says that images are judged which were learned from.

    Args:
      where: the evaluation, for the message.
      what: what learns from them, for the message.
      one, judged: the splits.
      size: see `overlap.count_shared`.
    """
    shared = overlap.count_shared(one, judged, size)
    if not shared:
        return []
    return [
        f"warning: {where} judges images that {what} learns from: {shared:,} of the {len(judged):,} examples of "
        f"{judged.info.split} are in {one.info.split} too"
    ]


def of_optimizer(section: Mapping[str, Any], optimizer: Optimizer, params: Any, total: int, warmup: int) -> list[str]:
    """Says that a run changes nothing, or decays nothing, though the section `optimizer` of its config asks for it."""
    if total == 0:
        return ["warning: train.total is 0 steps: nothing is learned, the model is evaluated as it begins"]
    told = []
    steps = np.unique(np.linspace(0, total - 1, min(total, _PLACES)).round())
    highest = float(np.max(jax.vmap(optimizer.learning_rate)(steps)))
    if highest == 0:
        why = ", for the warm-up begins at 0 and takes the whole run" if section["learning_rate"] else ""
        told.append(f"warning: the learning rate is 0 at every step{why}: nothing is learned")
    elif warmup >= total:
        told.append(
            f"warning: the warm-up takes all {total:,} steps: the learning rate comes to {highest:.3g} and never to "
            f"optimizer.learning_rate={section['learning_rate']:.3g} and its schedule"
        )
    trained = [not frozen for frozen in jax.tree.leaves(optimizer.frozen)]
    of_trained = lambda values: [value for value, free in zip(jax.tree.leaves(values), trained) if free]
    if (section.get("weight_decay") or 0) > 0:
        decays = paths.match(section.get("decay_rules", rules.DECAY_RULES), params, "decay_rules", check_unused=False)
        if not any(of_trained(decays)):
            told.append(
                f"warning: optimizer.weight_decay={section['weight_decay']:g} decays nothing: optimizer.decay_rules "
                "give 0 to every parameter that is trained"
            )
    lr_rules = section.get("lr_rules")
    if lr_rules and not any(of_trained(paths.match(lr_rules, params, "lr_rules", check_unused=False))):
        told.append("warning: optimizer.lr_rules give 0 to every parameter that is trained: nothing is learned")
    return told


def of_augmentation(spec: str, batch_size: int) -> list[str]:
    """Says that images would be mixed with themselves."""
    mixing = [call.name for call in augment.mixing(spec)]
    if batch_size > 1 or not mixing:
        return []
    return [f"warning: {mixing[0]} mixes the images of a batch, and in a batch of 1 an image with itself"]
