"""Loggers, which are told what happens in a run: W&B, MLflow, Comet, or a function of the user's own (a hook).

base.py     what a logger gets: the run, and one event after the other
wandb.py    Weights & Biases; mlflow.py: MLflow; comet.py: Comet

A factory `make_NAME(*, run, **options)` returns the logger, a function of events: `log(event) -> None`. It is called
before anything is written, in process 0 only. In the decorator, `@part("logger", "NAME", background=True)` has the
logger called in a thread, which gets no state; `library="wandb"` names the library that it imports.

`metrics.jsonl` is the source of truth. What a logger does or fails to do changes nothing in the run
(`train/observers.py`).
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxvision import calls
from jaxvision.errors import UserError
from jaxvision.registry import PartRegistry
from jaxvision.sections import LoggerSection

LOGGERS = PartRegistry("logger", [__name__], required=("run",), usage="c.loggers = dict(NAME=dict())")


class Entry(NamedTuple):
    """An entry of `config.loggers`, read and checked.

    Attributes:
      name: Name of the entry.
      common: Keys that every logger may have.
      factory: Factory of the logger.
      options: Options of the logger, as the config has them.
      background: True if the logger is called in a thread.
    """

    name: str
    common: LoggerSection
    factory: Callable[..., Callable]
    options: Mapping[str, Any]
    background: bool


def read_entries(sections: Mapping[str, Any] | None) -> tuple[Entry, ...]:
    """Reads and checks the entries of `config.loggers`; starts nothing.

    Args:
      sections: Section `loggers` of a config, options by name; None for a config without loggers. An entry that is
        None is left out.

    Raises:
      UserError: A logger or an option is unknown, or the library of a logger is not installed.

    >>> read_entries({"wandb": None})
    ()
    """
    return tuple(_read(name, section) for name, section in dict(sections or {}).items() if section is not None)


def _read(entry: str, section: Any) -> Entry:
    where = f"loggers.{entry}"
    if not hasattr(section, "items"):
        raise UserError(f"{where} must be a dict(...) of options, not {section!r}")
    given = dict(section.items())
    common = {"name": entry} | {key: given.pop(key) for key in LoggerSection._fields if key in given}
    calls.check(LoggerSection, common, calls.ConfigKeys(where))
    factory = LOGGERS.resolve(common["name"])
    words = calls.ConfigKeys(where)
    calls.check(factory, given, words, program=LOGGERS.required, others=LoggerSection._fields)
    library = LOGGERS.more(factory, "library")
    if library and importlib.util.find_spec(library) is None:
        extra = f"pip install 'jaxvision[{common['name']}]'" if common["name"] in LOGGERS else f"install {library}"
        raise UserError(f"the logger {common['name']!r} needs {library}, which is not installed: {extra}")
    return Entry(entry, LoggerSection(**common), factory, given, LOGGERS.more(factory, "background", False))


def named_by_key(path: Sequence[str], entry: str) -> bool:
    """Returns whether an entry of a config needs no key `name`, because its own name is that of a built-in logger.

    Args:
      path: Keys that lead to the section of the entry.
      entry: Name of the entry.

    >>> named_by_key(("loggers",), "wandb"), named_by_key(("evals",), "knn")
    (True, False)
    """
    return tuple(path) == ("loggers",) and entry in LOGGERS
