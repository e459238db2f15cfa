"""What the commands of the command line share."""

import logging
import os
from collections.abc import Callable
from typing import NamedTuple

from absl import flags
from ml_collections import config_flags

from jaxvision.errors import UserError


class Command(NamedTuple):
    """One command: a line of help, an example, its flags, and what it does with them."""

    summary: str
    example: str
    define: Callable[[flags.FlagValues, list[str]], None]
    run: Callable[[flags.FlagValues, list[str]], None]


def config_flag(values: flags.FlagValues, words: list[str], what: str = "config file") -> None:
    config_flags.DEFINE_config_file(
        "config",
        None,
        f"{what}, FILE.py or FILE.py:ARG; --config.SECTION.KEY=VALUE changes a value",
        flag_values=values,
        sys_argv=["jaxvision", *words],
    )


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
    logging.getLogger("absl").setLevel(logging.ERROR)
