"""What the commands of the command line share."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxvision.errors import UserError

MAY_BE_EMPTY = ("slurm", "jobset", "tpu")  # options of `launch`: none


class Command(NamedTuple):
    """One command: a line of help, an example, its flags, and what it does with them."""

    summary: str
    example: str
    define: Callable[[flags.FlagValues, list[str]], None]
    run: Callable[[flags.FlagValues, list[str]], None]


def config_flag(values: flags.FlagValues, words: list[str], what: str = "config file") -> None:
    """Defines --config, and a flag for each --config.SECTION.KEY among `words`, from which --config is taken out.

    The file is executed here, once: a mistake in it, or an override of a key that it does not have, is a UserError.
    """
    text = f"{what}, FILE.py or FILE.py:ARG, or the config.json of a run; --config.SECTION.KEY=VALUE changes a value"
    config = read_config(words)
    if config is None:
        flags.DEFINE_string("config", None, text, flag_values=values)
        return
    config_flags.DEFINE_config_dict("config", config, text, flag_values=values, sys_argv=["jaxvision", *words])


def read_config(words: list[str]) -> ConfigDict | None:
    """Executes the file of --config, which is taken out of the words; None where they have none.

    Raises:
      UserError: a mistake in the file, or a --config.KEY that it does not have or that cannot be set.
    """
    path, changes = _take_config(words)
    if path is None:
        if changes:
            key = next(iter(changes))
            raise UserError(f"--config.{key} changes a value of a config: --config=FILE.py is needed too")
        return None
    from jaxvision import config as configs

    config = configs.read(path)
    configs.override(config, changes)
    for key, text in changes.items():
        *parents, leaf = key.split(".")
        section = config
        for parent in parents:
            section = section[parent]
        if isinstance(section[leaf], ConfigDict) and not text.strip().startswith("{"):  # a dict replaces it
            raise UserError(f"{key!r} is a section of {path}: change the keys in it, as in --config.{key}.KEY=VALUE")
        if section.get_type(leaf) is type(None):
            raise UserError(
                f"{key!r} is None in {path}, and the command line cannot tell of what kind its values are: write "
                "ml_collections.config_dict.placeholder(KIND) there, KIND being int, float, str, ..."
            )
    return config


def _take_config(words: list[str]) -> tuple[str | None, dict[str, str]]:
    """Takes --config out of the words; returns its value, and the values of --config.KEY by key, which stay."""
    path, changes, i = None, {}, 0
    while i < len(words) and words[i] != "--":
        name, equals, value = words[i].removeprefix("-").removeprefix("-").partition("=")
        if words[i].startswith("-") and name == "config":
            if not equals and i + 1 == len(words):
                raise UserError("--config needs a file: --config=FILE.py")
            path = value if equals else words.pop(i + 1)
            del words[i]
            continue
        if words[i].startswith("-") and name.removeprefix("no").startswith("config."):
            following = words[i + 1] if i + 1 < len(words) else ""
            changes[name.removeprefix("no").removeprefix("config.")] = value if equals else following
        i += 1
    return path, changes


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
