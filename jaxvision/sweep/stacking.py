"""Sorts the members of a population into programs.

The members of one program differ only in numbers that can be stacked.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxvision import augment, specs
from jaxvision import config as configs

# Numbers that the program takes as arguments. The code that uses them accepts traced numbers; see `traced.known`.
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
STACKED_ARGUMENTS = {  # augmentation -> arguments that may differ
    "mixup": ("alpha",),
    "cutmix": ("alpha",),
    "mixup_or_cutmix": ("mixup_alpha", "cutmix_alpha", "switch"),
}


class Member(NamedTuple):
    """A run of a population.

    Attributes:
      config: Config of the run.
      workdir: Folder for the files that `jaxvision train` would write.
    """

    config: ConfigDict
    workdir: Path


class Group(NamedTuple):
    """Members that share one program.

    Attributes:
      members: Members, in the order of the input.
      values: Dotted key -> one number for each member, for the numbers in which they differ; `augment.1.alpha` is an
        argument of the augmentation's operation 1.
    """

    members: list[Member]
    values: dict[str, list[float]]


def groups(members: Sequence[Member]) -> list[Group]:
    """Sorts members into programs. Members share a program if their configs differ only in numbers that can be stacked.

    Args:
      members: Members to sort.

    Returns:
      The groups, in the order of their first members.

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
        same, rows = alike.setdefault(json.dumps([rest, list(numbers)], default=str), ([], []))
        same.append(member)
        rows.append(numbers)
    return [
        Group(same, {key: [row[key] for row in rows] for key in rows[0] if len({row[key] for row in rows}) > 1})
        for same, rows in alike.values()
    ]


def overrides(config: ConfigDict, values: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the values of one member of a `Group`, traced or not, to the form that `Experiment.vary` takes.

    Args:
      config: Config of the first member of the group.
      values: Number by dotted key.

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
    """The part of a config that must be equal within a program, and the numbers that may differ, by dotted key."""
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
    """The augmentation of a config; calls of operations that can be stacked have all their arguments by name."""
    calls = specs.parse(config.get("augment", ""))
    return [augment.ops.named(call) if call.name in STACKED_ARGUMENTS else call for call in calls]
