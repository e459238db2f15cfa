"""What of a config may differ between the members of one program, and members sorted into programs by it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxvision import augment, specs
from jaxvision import config as configs

# Numbers that the program takes as arguments. The code that uses them lets traced numbers through; see `traced.known`.
STACKED = (
    "seed",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "optimizer.clip_norm",
    "optimizer.b1",
    "optimizer.b2",
    "optimizer.eps",
    "task.label_smoothing",
    "task.temperature",
    "model.dropout",
    "model.drop_path",
)
STACKED_ARGUMENTS = {  # of augmentations
    "mixup": ("alpha",),
    "cutmix": ("alpha",),
    "mixup_or_cutmix": ("mixup_alpha", "cutmix_alpha", "switch"),
}


class Member(NamedTuple):
    """A run: its config, and the folder that will hold what `jaxvision train` leaves there."""

    config: ConfigDict
    workdir: Path


class Group(NamedTuple):
    """Members that fit into one program.

    Attributes:
      members: in the order in which they were given.
      values: the numbers in which they differ, one for each member, by dotted key; `augment.1.alpha` is an argument
        of the augmentation's operation 1.
    """

    members: list[Member]
    values: dict[str, list[float]]


def groups(members: Sequence[Member]) -> list[Group]:
    """Sorts members into programs by what cannot be stacked, in the order in which they come.

    >>> config = ConfigDict(dict(seed=0, augment="mixup(0.2)", model=dict(depth=2), optimizer=dict(learning_rate=0.1)))
    >>> other = configs.override(config, {"augment": "mixup(0.8)", "optimizer.learning_rate": 0.2})
    >>> deeper = configs.override(config, {"model.depth": 4})
    >>> for group in groups([Member(c, Path(name)) for name, c in zip("abc", [config, other, deeper])]):
    ...     print([str(member.workdir) for member in group.members], group.values)
    ['a', 'b'] {'optimizer.learning_rate': [0.1, 0.2], 'augment.0.alpha': [0.2, 0.8]}
    ['c'] {}
    """
    alike: dict[str, tuple[list[Member], list[dict[str, float]]]] = {}
    for member in members:
        rest, numbers = _split(member.config)
        own, of_all = alike.setdefault(json.dumps([rest, list(numbers)], default=str), ([], []))
        own.append(member)
        of_all.append(numbers)
    return [
        Group(own, {key: [n[key] for n in of_all] for key in of_all[0] if len({n[key] for n in of_all}) > 1})
        for own, of_all in alike.values()
    ]


def overrides(config: ConfigDict, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one member of a `Group`, traced or not, as `Experiment.vary` takes them.

    >>> overrides(ConfigDict(dict(augment="flip_lr|mixup(0.2)")), {"seed": 1, "augment.1.alpha": 0.8})
    {'seed': 1, 'augment': [Call(name='flip_lr', args=(), kwargs={}),
      Call(name='mixup', args=(), kwargs={'alpha': 0.8, 'per_example': False})]}
    """
    plain = {key: value for key, value in values.items() if not key.startswith("augment.")}
    calls = _calls(config)
    for key in values.keys() - plain.keys():
        _, position, name = key.split(".")
        call = calls[int(position)]
        calls[int(position)] = call._replace(kwargs={**call.kwargs, name: values[key]})
    return plain if len(plain) == len(values) else plain | {"augment": calls}


def _split(config: ConfigDict) -> tuple[dict[str, Any], dict[str, float]]:
    """What has to be equal within a program, and the numbers that may differ, by dotted key."""
    rest = configs.flatten(configs.from_json(configs.to_json(config)))
    numbers = {key: rest.pop(key) for key in STACKED if _is_number(rest.get(key))}
    calls = []
    for position, call in enumerate(_calls(config)):
        names = [name for name in STACKED_ARGUMENTS.get(call.name, ()) if _is_number(call.kwargs[name])]
        numbers |= {f"augment.{position}.{name}": call.kwargs[name] for name in names}
        calls.append(str(call._replace(kwargs={k: v for k, v in call.kwargs.items() if k not in names})))
    return rest | {"augment": calls}, numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _calls(config: ConfigDict) -> list[specs.Call]:
    """The augmentation of a config, with every argument under its name in operations that can be stacked."""
    calls = specs.parse(config.get("augment", ""))
    return [augment.ops.named(call) if call.name in STACKED_ARGUMENTS else call for call in calls]
