"""The command line, `jaxvision COMMAND --flags`. The only place with flags.

shared.py      a command, and the flags that several have
one_run.py     train, evaluate, inspect, verify, predict, visualize, search
many_runs.py   study, sweep, launch
seeing.py      plot
files.py       convert, data
mistakes.py    messages for mistakes in flags
failures.py    one line for an error that was not foreseen

Nothing heavy is imported before the flags are parsed, so that `--help` answers at once.
"""

import os
import sys

from absl import flags

from jaxvision import signals
from jaxvision.cli import failures, files, many_runs, mistakes, one_run, seeing
from jaxvision.cli.shared import Command, check_empty
from jaxvision.errors import UserError, unknown
from jaxvision.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PREEMPTED

COMMANDS: dict[str, Command] = {**one_run.COMMANDS, **seeing.COMMANDS, **many_runs.COMMANDS, **files.COMMANDS}


def main(argv: list[str] | None = None) -> None:
    """Runs a command; entry point of the console script.

    Args:
      argv: Words of the command line, the program's name first; by default those of this process.

    Raises:
      SystemExit: The command ended with a status of `jaxvision.exits`; without one, it ended with 0.
    """
    console = argv is None
    argv = list(sys.argv if argv is None else argv)
    name = argv[1] if len(argv) > 1 else "--help"
    try:
        with signals.listening(name, console=console):
            _main(name, argv)
    except SystemExit as left:
        if console and left.code:
            failures.end_soon(left.code if isinstance(left.code, int) else EXIT_FAILED)
        raise


def _main(name: str, argv: list[str]) -> None:
    if name in ("-h", "--help", "help"):
        print(_overview())
        return
    try:
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS)
        _run(name, argv[2:])
    except UserError as error:
        print(f"jaxvision: {error}", file=sys.stderr)
        sys.exit(error.status)
    except signals.Interrupted:  # `listening` knows the status
        raise
    except KeyboardInterrupt:
        print("jaxvision: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of the output, such as `head`, closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except Exception as error:
        sys.exit(failures.tell(error, name, argv[2:], _folder_of(argv[2:])))


def _folder_of(words: list[str]) -> str | None:
    """The value of --workdir, or of --out, on a command line that may be wrong."""
    options: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], ""]):
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            options.setdefault(name.lstrip("-"), value if equals else following)
    return options.get("workdir") or options.get("out")


def _run(name: str, words: list[str]) -> None:
    command = COMMANDS[name]
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=values)
    if {"--help", "-h", "--helpfull"} & set(words):
        command.define(values, [])
        print(_help(name, command, values))
        return
    check_empty(words)
    try:
        command.define(values, words)
        rest = values([name, *words])[1:]
    except flags.Error as error:
        raise mistakes.reworded(error, name, values, words) from None
    try:
        command.run(values, rest)
    except Exception as error:
        from jaxvision.train.watch import Preempted

        if not isinstance(error, Preempted):
            raise
        if signals.speaks():
            print(f"jaxvision: {error}. Run the same command to resume.", file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)


def _overview() -> str:
    lines = ["jaxvision COMMAND --flags (each has --help)", ""]
    lines += [f"  {name:10s} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "First run:", f"  {COMMANDS['train'].example}"])


def _help(name: str, command: Command, values: flags.FlagValues) -> str:
    lines = [f"jaxvision {name}: {command.summary}", "", "Example:", f"  {command.example}", "", "Flags:"]
    for flag in sorted({values[f].name for f in values}):
        default = values[flag].default
        lines.append(
            f"  --{flag}: {values[flag].help}" + (f" (default: {default})" if default not in (None, False) else "")
        )
    return "\n".join(lines)
