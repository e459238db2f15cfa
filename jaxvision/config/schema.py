"""The keys that a section of a config may hold, with their types: the parameters of the function that gets the section.

The names in a section decide the function: `config.model` goes to the builder of `model.name`, `config.task` to the
factory of `task.name`. A parameter that is itself a section is marked, `Annotated[Mapping, Section("model")]`.

Modules are imported on demand: a command that changes no config needs none of them.
"""

import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from jaxvision.arguments import Section
from jaxvision.calls import options
from jaxvision.sections import (
    ConfigSections,
    DataSection,
    EvalSection,
    InitSection,
    LoggerSection,
    MeshSection,
    OnlineKnn,
    OnlineProbe,
    OnlineSection,
    TrainSection,
)

ANY_NAME = "*"  # stands for all keys of a section in which users choose the names, such as `evals`

Keys = dict[str, Any]  # key -> annotation
SECTIONS: Keys = options(ConfigSections) or {}


def section_keys(config: Mapping[str, Any], path: Sequence[str]) -> Keys | None:
    """Returns the keys that a section may hold, with their annotations; `ANY_NAME` stands for names that users choose.

    Args:
      config: Config, as far as it is known.
      path: Keys that lead to the section, such as ("model",) or ("evals", "val"); () for the config itself.

    Returns:
      The keys; None if they are unknown, because the section has no name yet or its parameter is any mapping.

    Raises:
      UserError: If the section names something that does not exist.

    >>> section_keys({"model": {"name": "resnet"}}, ("model",))["stem"]
    str | None
    """
    keys, section = SECTIONS, config
    for name in path:
        annotation = keys.get(name, keys.get(ANY_NAME))
        around, inner = section, section.get(name)
        section = inner if inner is not None and hasattr(inner, "items") else {}
        kind = section_kind(annotation)
        inside = _INSIDE[kind](section, around, config, name) if kind in _INSIDE else None
        if inside is None:
            return None
        keys = inside
    return keys


def may_be_section(annotation: Any) -> bool:
    """Checks whether a key may be a section.

    Args:
      annotation: Annotation of the key.

    >>> may_be_section(Annotated[Mapping, Section("model")]), may_be_section(int)
    (True, False)
    """
    return section_kind(annotation) is not None or any(
        typing.get_origin(one) or one in (dict, Mapping) for one in (annotation, *typing.get_args(annotation))
    )


def section_kind(annotation: Any) -> str | None:
    """Returns the kind of section that an annotation marks, or None.

    Args:
      annotation: Annotation of a key.

    >>> section_kind(Annotated[Mapping, Section("text model")])
    'text model'
    """
    marks = getattr(annotation, "__metadata__", ())
    return next((mark.kind for mark in marks if isinstance(mark, Section)), None)


# Kind of a section -> kinds of the parts that its name may name, whose options are keys of the section, too.
PARTS: dict[str, tuple[str, ...]] = {
    "data options": ("data set",),
    "evaluation options": ("data set",),
    "model": ("model", "pair model"),
    "text model": ("text model",),
    "task": ("task",),
    "optimizer": ("optimizer",),
    "player": ("optimizer",),
    "evaluation": ("evaluator",),
    "logger": ("logger",),
}
# Kind of a section in which users choose the names -> kind of the section that each name is.
ENTRIES = {"evals": "evaluation", "players": "player", "loggers": "logger"}


def section_function(kind: str) -> tuple[Callable, tuple[str, ...]] | None:
    """Returns the function whose parameters are keys of every section of a kind, whatever it names.

    Args:
      kind: Kind of the section, as in `Section`.

    Returns:
      The function, and the names of those of its parameters that the program sets; None if there is no such function.
    """
    if kind in _CLASSES:
        return _CLASSES[kind], ()
    if kind == "model":
        from jaxvision import models

        return models.build, ("num_classes", "dtype", "kwargs")
    if kind in ("optimizer", "player"):
        from jaxvision.optim import optimizers

        return optimizers.make_optimizer, (*optimizers.GIVEN, "options")
    if kind == "subset":
        from jaxvision.data import subsets

        return subsets.take, ("source",)
    return None


_CLASSES: dict[str, Callable] = {
    "data": DataSection,
    "train": TrainSection,
    "init": InitSection,
    "mesh": MeshSection,
    "online": OnlineSection,
    "online probe": OnlineProbe,
    "online knn": OnlineKnn,
    "evaluation": EvalSection,
    "logger": LoggerSection,
}


def _common(kind: str) -> Keys | None:
    function, program = section_function(kind) or (ConfigSections, ())
    return options(function, program)


def _all(*key_sets: Keys | None) -> Keys | None:
    """The keys of several functions that share a section; None if one of them takes any key."""
    closed = [keys for keys in key_sets if keys is not None]
    return (
        {name: key for keys in reversed(closed) for name, key in keys.items()} if len(closed) == len(key_sets) else None
    )


def _model(section: Mapping, *_: Any) -> Keys | None:
    if "name" not in section:
        return None
    from jaxvision import models

    of_model = models.NAMES.options(section["name"], models.PAIR_NAMES)
    return _all({"name": str}, _common("model"), of_model)


def _text_model(section: Mapping, *_: Any) -> Keys | None:
    if "name" not in section:
        return None
    from jaxvision import models

    return _all({"name": str}, models.TEXT_NAMES.options(section["name"]))


def _task(section: Mapping, *_: Any) -> Keys | None:
    if "name" not in section:
        return None
    from jaxvision.tasks import TASKS

    return _all({"name": str}, TASKS.options(section["name"]))


def _optimizer(section: Mapping, *_: Any) -> Keys | None:
    from jaxvision.optim import optimizers

    of_optimizer = optimizers.OPTIMIZERS.options(section["name"]) if "name" in section else {}
    players = {"players": Annotated[Mapping, Section("players")]}
    return _all(_common("optimizer"), of_optimizer, players)


def _player(section: Mapping, players: Mapping, config: Mapping, *_: Any) -> Keys | None:
    shared = config.get("optimizer") or {}
    return _optimizer({**dict(shared), **dict(section)})


def _evaluation(section: Mapping, *_: Any) -> Keys | None:
    from jaxvision.evals import EVALUATORS

    return _all(_common("evaluation"), EVALUATORS.options(section["name"]) if "name" in section else {})


def _logger(section: Mapping, _: Mapping, config: Mapping, entry: str) -> Keys | None:
    from jaxvision.loggers import LOGGERS

    name = section.get("name", entry if entry in LOGGERS else None)
    return _all(_common("logger"), {} if name is None else LOGGERS.options(name))


def _data_options(_: Mapping, data: Mapping, *__: Any) -> Keys | None:
    return _source(data.get("name"))


def _evaluation_options(_: Mapping, evaluation: Mapping, config: Mapping, *__: Any) -> Keys | None:
    return _source(evaluation.get("data") or (config.get("data") or {}).get("name"))


def _source(name: str | None) -> Keys | None:
    if name is None:
        return None
    from jaxvision.data import sources

    return sources.options_of(name)


# Kind of a section -> function `(section, section around it, config, key of the section) -> keys`.
_INSIDE: dict[str, Callable[[Mapping, Mapping, Mapping, str], Keys | None]] = {
    "data": lambda *_: _common("data"),
    "data options": _data_options,
    "subset": lambda *_: _common("subset"),
    "model": _model,
    "text model": _text_model,
    "task": _task,
    "optimizer": _optimizer,
    "players": lambda *_: {ANY_NAME: Annotated[Mapping, Section("player")]},
    "player": _player,
    "train": lambda *_: _common("train"),
    "init": lambda *_: _common("init"),
    "evals": lambda *_: {ANY_NAME: Annotated[Mapping, Section("evaluation")]},
    "evaluation": _evaluation,
    "evaluation options": _evaluation_options,
    "mesh": lambda *_: _common("mesh"),
    "online": lambda *_: _common("online"),
    "online probe": lambda *_: _common("online probe"),
    "online knn": lambda *_: _common("online knn"),
    "loggers": lambda *_: {ANY_NAME: Annotated[Mapping | None, Section("logger")]},
    "logger": _logger,
}
