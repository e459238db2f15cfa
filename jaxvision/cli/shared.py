"""What the commands of the command line share."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict

from jaxvision.errors import UserError
from jaxvision.literals import Written

MAY_BE_EMPTY = ("slurm", "jobset", "tpu")  # options of `launch`: none


class Command(NamedTuple):
    """One command: a line of help, an example, its flags, and what it does with them."""

    summary: str
    example: str
    define: Callable[[flags.FlagValues, list[str]], None]
    run: Callable[[flags.FlagValues, list[str]], None]


def config_flag(values: flags.FlagValues, words: list[str], what: str = "config file") -> None:
    """Defines --config, whose value becomes the config; it and each --config.SECTION.KEY are taken out of `words`.

    The file is executed here, once: a mistake in it, or in a change of its values, is a UserError.
    """
    text = f"{what}, FILE.py or FILE.py:ARG, or the config.json of a run; --config.SECTION.KEY=VALUE changes a value"
    config = read_config(words)
    flags.DEFINE_string("config", None, text, flag_values=values)
    values["config"].value = config


def read_config(words: list[str]) -> ConfigDict | None:
    """The config of --config with the changes of --config.KEY, which are taken out of the words.

    Raises:
      UserError: a mistake in the file, or a --config.KEY that nothing takes, or with a value that does not fit.
    """
    path, changes = _take_config(words)
    if path is None:
        if changes:
            key = next(iter(changes))
            raise UserError(f"--config.{key} changes a value of a config: --config=FILE.py is needed too")
        return None
    from jaxvision import config as configs

    return configs.override(configs.read(path), changes, lambda line: print(line, file=sys.stderr))


def _take_config(words: list[str]) -> tuple[str | None, dict[str, Written]]:
    """Takes --config and each --config.KEY out of the words; returns the value of --config, and the others by key."""
    path, changes, i = None, {}, 0
    while i < len(words) and words[i] != "--":
        name, equals, value = words[i].removeprefix("-").removeprefix("-").partition("=")
        switch = name.startswith("noconfig.") and not equals
        if not words[i].startswith("-") or not (name == "config" or switch or name.startswith("config.")):
            i += 1
            continue
        del words[i]
        key = name.removeprefix("no").removeprefix("config.")
        following = words[i] if i < len(words) and not _is_flag(words[i]) else None
        if switch:
            changes[key] = Written("false")
        elif equals:
            changes[key] = Written(value)
        elif following is not None:
            changes[key] = Written(words.pop(i))
        elif name == "config":
            raise UserError("--config needs a file: --config=FILE.py")
        else:
            changes[key] = Written("true")  # of what is a truth value, the name alone turns it on
        if name == "config":
            path = changes.pop(key)
    return path, changes


def _is_flag(word: str) -> bool:
    """Whether a word is a flag, not a negative number or another value.

    >>> _is_flag("--workdir=x"), _is_flag("-1e-3"), _is_flag("flip_lr")
    (True, False, False)
    """
    return word.startswith("-") and word[1:2] not in {"", *"0123456789."}


def config_of(values: flags.FlagValues) -> ConfigDict | None:
    """The config of --config with its overrides, checked by `config.normalised`; None where there is no --config."""
    if values.config is None:
        return None
    from jaxvision import config as configs

    return configs.normalised(values.config)


def check_empty(words: Sequence[str]) -> None:
    """Raises UserError for a word or the value of a flag that is empty, as a shell makes it of an unset variable."""
    flag = ""  # the word before, where it is a flag whose value may follow
    for word in words:
        name, equals, value = word.partition("=")
        is_flag = word.startswith("-") and word != "--"
        key = (name if is_flag else flag).lstrip("-")
        # A blank may be what a key of a config wants, such as a separator.
        empty = equals and not (value if key.startswith("config.") else value.strip()) if is_flag else not word.strip()
        if empty and key not in MAY_BE_EMPTY:
            what = f"--{key}" if key else "a word of the command"
            none = ". 'none' is a spec without operations" if key.endswith(("host", "augment")) else ""
            raise UserError(f"{what} is empty: was a shell variable not set? Give a value, or leave it out{none}")
        flag = word if is_flag and not equals else ""


def workdir_flag(values: flags.FlagValues, what: str = "folder of the run") -> None:
    flags.DEFINE_string("workdir", None, what, flag_values=values)


def step_flag(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("step", None, "step of the checkpoint (the latest if not given)", flag_values=values)


def table_flags(values: flags.FlagValues, what: str) -> None:
    flags.DEFINE_string("format", "table", f"of {what} on standard output: table, json, jsonl, csv", flag_values=values)
    flags.DEFINE_string("out", None, f"file of {what}: .json, .jsonl or .csv", flag_values=values)


def need(values: flags.FlagValues, *names: str) -> None:
    for name in names:
        if values[name].value is None:
            raise UserError(f"--{name} is needed")


def start(rest: list[str]) -> None:
    """What every command does once its flags are known: no stray words, logging, the processes of the job."""
    if rest:
        quotes = ", and patterns in quotes: --images='photos/*.jpg'" if os.path.exists(rest[0]) else ""
        raise UserError(f"unexpected argument {rest[0]!r}; flags are written --name=value{quotes}")
    log_warnings()
    from jaxvision.parallel import distributed

    distributed.initialize()


def log_warnings() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    absl = logging.getLogger("absl")
    absl.setLevel(logging.ERROR)
    absl.addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    """What Orbax logs with a traceback, it raises too."""
    return not record.exc_info
