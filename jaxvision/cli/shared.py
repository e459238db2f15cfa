"""What several commands of the command line share: their flags, and how they start."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from jaxvision import logs
from jaxvision.errors import UserError
from jaxvision.literals import Switch, Written

if TYPE_CHECKING:
    from ml_collections import ConfigDict

MAY_BE_EMPTY = ("slurm", "jobset", "tpu")  # flags of `launch`; empty means without options


class Command(NamedTuple):
    """A command of the command line.

    Attributes:
      summary: Line of help.
      example: Command line that works.
      define: Function that defines the flags; called with the flags and the words of the command line, from which it
        may take some.
      run: Function that runs the command; called with the parsed flags and the words that are not flags.
      examples: Further command lines.
      groups: Names of flags in one text, by the title of their group, in the order of the help.
    """

    summary: str
    example: str
    define: Callable[[flags.FlagValues, list[str]], None]
    run: Callable[[flags.FlagValues, list[str]], None]
    examples: tuple[str, ...] = ()
    groups: Mapping[str, str] = {}


def config_flag(values: flags.FlagValues, words: list[str], what: str = "config file") -> None:
    """Defines --config and sets its value to the config, with each --config.SECTION.KEY applied.

    The file is executed here, once.

    Args:
      values: Flags of the command.
      words: Words of the command line; --config and each --config.SECTION.KEY are removed from them.
      what: Description of the file, for the help.

    Raises:
      UserError: The file, a key or a value has a mistake, see `read_config`.
    """
    text = f"{what}, FILE.py or FILE.py:ARG, or the config.json of a run; --config.SECTION.KEY=VALUE changes a value"
    config = read_config(words)
    flags.DEFINE_string("config", None, text, flag_values=values)
    values["config"].value = config


def read_config(words: list[str]) -> "ConfigDict | None":
    """Reads the config of --config and applies each --config.KEY.

    Args:
      words: Words of a command line; --config and each --config.KEY are removed from them.

    Returns:
      The config, or None without --config.

    Raises:
      UserError: The file has a mistake, no part has the KEY, or its value does not fit.
    """
    path, changes = take_config(words)
    if path is None:
        if changes:
            key = next(iter(changes))
            raise UserError(
                f"--config.{key} changes a value of a config, but --config is missing: add --config=FILE.py"
            )
        return None
    return changed_config(path, changes)


def changed_config(path: str, changes: Mapping[str, Written]) -> "ConfigDict":
    """Reads a config and changes values in it.

    Args:
      path: Value of --config.
      changes: New values by key.

    Raises:
      UserError: The file has a mistake, no part has a key, or its value does not fit.
    """
    from jaxvision import config as configs

    return configs.override(configs.read(path), changes, lambda line: print(line, file=sys.stderr))


def take_config(words: list[str]) -> tuple[str | None, dict[str, Written]]:
    """Removes --config and each --config.KEY from the words.

    Args:
      words: Words of a command line.

    Returns:
      The value of --config, or None, and the others by key.

    Raises:
      UserError: --config has no value.
    """
    path: str | None = None
    changes: dict[str, Written] = {}
    i = 0
    while i < len(words) and words[i] != "--":
        name, equals, value = words[i].removeprefix("-").removeprefix("-").partition("=")
        switch = name.startswith("noconfig.") and not equals
        if not words[i].startswith("-") or not (name == "config" or switch or name.startswith("config.")):
            i += 1
            continue
        del words[i]
        key = name.removeprefix("no").removeprefix("config.")
        following = words[i] if i < len(words) and not is_flag(words[i]) else None
        if switch:
            changes[key] = Switch("false")
        elif equals:
            changes[key] = Written(value)
        elif following is not None:
            changes[key] = Written(words.pop(i))
        elif name == "config":
            raise UserError("--config needs a file: --config=FILE.py")
        else:
            changes[key] = Switch("true")
        if name == "config":
            path = changes.pop(key)
    return path, changes


def is_flag(word: str) -> bool:
    """Returns whether a word is a flag, not a negative number or another value.

    Args:
      word: Word of a command line.

    >>> is_flag("--workdir=x"), is_flag("-1e-3"), is_flag("flip_lr")
    (True, False, False)
    """
    return word.startswith("-") and word[1:2] not in {"", *"0123456789."}


def config_of(values: flags.FlagValues) -> "ConfigDict | None":
    """Returns the config of --config, checked by `config.normalised`, or None without --config.

    Args:
      values: Parsed flags of the command.
    """
    if values.config is None:
        return None
    from jaxvision import config as configs

    return configs.normalised(values.config)


def check_empty(words: Sequence[str]) -> None:
    """Checks that no word and no value of a flag is empty, which is what a shell makes of an unset variable.

    Args:
      words: Words of a command line.

    Raises:
      UserError: One of them is empty.
    """
    flag = ""  # the word before, if it is a flag whose value may follow
    for word in words:
        name, equals, value = word.partition("=")
        is_flag = word.startswith("-") and word != "--"
        key = (name if is_flag else flag).lstrip("-")
        # A key of a config may take a blank, such as a separator.
        empty = equals and not (value if key.startswith("config.") else value.strip()) if is_flag else not word.strip()
        if empty and key not in MAY_BE_EMPTY:
            what = f"--{key}" if key else "a word of the command line"
            none = ". The spec without operations is 'none'" if key.endswith(("host", "augment")) else ""
            raise UserError(f"{what} is empty: was a shell variable not set? Give a value, or leave it out{none}")
        flag = word if is_flag and not equals else ""


def workdir_flag(values: flags.FlagValues, what: str = "folder of the run") -> None:
    """Defines --workdir.

    Args:
      values: Flags of the command.
      what: Description of the folder, for the help.
    """
    flags.DEFINE_string("workdir", None, what, flag_values=values)


class _Step(flags.ArgumentParser):
    """The number of a step, or the word that stands for one."""

    syntactic_help = "the number of a step, or best"

    def parse(self, argument: str | int) -> int | str:
        text = str(argument)
        if text == "best":
            return text
        if not (text.isascii() and text.isdigit()):
            raise ValueError(self.syntactic_help)
        return int(text)

    def flag_type(self) -> str:
        return "step"


def step_flag(values: flags.FlagValues) -> None:
    """Defines --step.

    Args:
      values: Flags of the command.
    """
    text = "step of the checkpoint, or best, by train.keep_best (default: the latest)"
    flags.DEFINE(_Step(), "step", None, text, flag_values=values)


def table_flags(values: flags.FlagValues, what: str) -> None:
    """Defines --format and --out of a command that prints a table.

    Args:
      values: Flags of the command.
      what: Name of the table's content, for the help.
    """
    form = f"format of {what} on standard output: table, json, jsonl or csv"
    flags.DEFINE_string("format", "table", form, flag_values=values)
    offer(values, "format", "table", "json", "jsonl", "csv")
    flags.DEFINE_string("out", None, f"file for {what}: .json, .jsonl or .csv", flag_values=values)


def offer(values: flags.FlagValues, name: str, *choices: str) -> None:
    """Names the values of a flag, for its help and for completion; the command itself refuses others.

    Args:
      values: Flags of the command.
      name: Name of a flag that has been defined.
      *choices: Values.
    """
    setattr(values[name], "choices", choices)  # noqa: B010, absl's flags have no such attribute


def choices_of(flag: flags.Flag) -> tuple[str, ...]:
    """Returns the values of a flag that takes one of a few, or ().

    Args:
      flag: Flag.
    """
    return tuple(getattr(flag, "choices", ()) or getattr(flag.parser, "enum_values", ()))


def value_of(values: flags.FlagValues, name: str) -> Any:
    """Returns the value of a flag, also if its name is a Python keyword or a variable.

    Args:
      values: Parsed flags of the command.
      name: Name of the flag.
    """
    return values[name].value


def need(values: flags.FlagValues, *names: str) -> None:
    """Checks that flags have a value.

    Args:
      values: Parsed flags of the command.
      *names: Names of flags without a default.

    Raises:
      UserError: One of them has none.
    """
    for name in names:
        if values[name].value is None:
            raise UserError(f"--{name} is missing: add --{name}=VALUE")


def start(rest: list[str], takes_config: bool = False) -> None:
    """Sets up compiled programs and the processes of the job, once the flags of a command are parsed.

    Args:
      rest: Words of the command line that the command did not use.
      takes_config: True if the command has a flag --config, which the message names for such a file.

    Raises:
      UserError: There is such a word.
    """
    if rest:
        if takes_config and re.search(r"\.(py|json)(:|$)", rest[0]):
            raise UserError(f"unexpected word {rest[0]!r}: name a config by its flag, --config={rest[0]}")
        quotes = ", and patterns in quotes: --images='photos/*.jpg'" if os.path.exists(rest[0]) else ""
        raise UserError(f"unexpected word {rest[0]!r}: write flags as --name=value{quotes}")
    from jaxvision import programs
    from jaxvision.parallel import distributed

    programs.keep()
    distributed.initialize()


@contextlib.contextmanager
def warnings_printed() -> Iterator[None]:
    """Returns a context that prints each warning of this package once, and only errors of absl and Orbax."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    absl = logging.getLogger("absl")
    absl.setLevel(logging.ERROR)
    absl.addFilter(_without_traceback)
    with logs.each_once():
        yield


def _without_traceback(record: logging.LogRecord) -> bool:
    """Drops records with a traceback: Orbax raises these errors, too."""
    return not record.exc_info
