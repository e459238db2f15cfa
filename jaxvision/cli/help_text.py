"""The text of `jaxvision --help` and of `jaxvision COMMAND --help`."""

import shutil
import textwrap
from collections.abc import Mapping

from absl import flags

from jaxvision.cli.shared import Command, choices_of

WIDEST = 110  # characters of a line, also on a wider terminal
COLUMN = 26  # where the description of a flag begins
_VALUES = {flags.IntegerParser: "N", flags.FloatParser: "NUMBER", flags.ListParser: "A,B,..."}
_FILES = {"config": "FILE.py", "sweep": "FILE.py", "workdir": "DIR", "data_dir": "DIR", "index": "DIR"}


def overview(commands: Mapping[str, Command]) -> str:
    """Returns the text of `jaxvision --help`.

    Args:
      commands: Commands by name.
    """
    lines = ["jaxvision COMMAND --flags (each has --help)", ""]
    lines += [_row(name, command.summary, 14) for name, command in commands.items()]
    lines += ["", "First run:", f"  {commands['train'].example}"]
    lines += ["", "What a config may name, and the options of each:", "  jaxvision list", "  jaxvision help vit"]
    return "\n".join(lines)


def of_command(name: str, command: Command, values: flags.FlagValues) -> str:
    """Returns the text of `jaxvision COMMAND --help`: examples, then the flags in groups.

    Args:
      name: Name of the command.
      command: The command.
      values: Its flags, which have been defined.
    """
    examples = [command.example, *command.examples]
    lines = [f"jaxvision {name}: {command.summary}", "", f"Example{'s' * (len(examples) > 1)}:"]
    lines += [f"  {example}" for example in examples]
    left = dict.fromkeys(sorted({values[flag].name for flag in values} - {"help"}))
    for title, names in command.groups.items():
        lines += ["", f"{title}:"]
        for flag in names.split():
            if flag in left:
                del left[flag]
                lines.append(_flag(values[flag]))
    if left:
        lines += ["", "Other flags:" if command.groups else "Flags:", *(_flag(values[flag]) for flag in left)]
    return "\n".join(lines)


def _flag(flag: flags.Flag) -> str:
    name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
    default = "" if flag.default in (None, [], "") else f" (default: {_written(flag)})"
    text = flag.help.partition(";    repeat this option")[0]  # absl's own words, after "repeatable"
    return _row(name if flag.boolean else f"{name}={_value(flag)}", f"{text}{default}", COLUMN)


def _written(flag: flags.Flag) -> str:
    if flag.boolean:
        return "yes" if flag.default else "no"
    return ",".join(flag.default) if isinstance(flag.default, list) else str(flag.default)


def _value(flag: flags.Flag) -> str:
    """The word for the value of a flag."""
    joined = "|".join(choices_of(flag))
    if joined and len(joined) <= COLUMN:
        return joined
    known = next((word for parser, word in _VALUES.items() if type(flag.parser) is parser), None)
    return known or _FILES.get(flag.name, "VALUE")


def _row(left: str, right: str, column: int) -> str:
    """A line with two columns, the right one filled; a long left one has a line of its own."""
    width = max(min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST), column + 30)
    indent = " " * column
    # A flag, a path or a key is never broken at its hyphens.
    rows = textwrap.fill(right, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    if len(left) + 4 > column:
        return f"  {left}\n{rows}"
    return f"  {left}".ljust(column) + rows[column:]
