"""The command line, `jaxvision COMMAND --flags`. The only place with flags.

shared.py      a command, and the flags that several have
made_configs.py  new; train without a config file
one_run.py     train, evaluate, inspect, verify, visualize
photos.py      predict, explain, search: a model on image files
many_runs.py   study, sweep, launch
seeing.py      plot
files.py       convert, data
about.py       list, help, completion
order.py       flags before the command
help_text.py   the text of --help; completion.py: what the scripts of bash, zsh and fish ask for
mistakes.py    messages for mistakes in flags
failures.py    one line for an error that was not foreseen

Nothing heavy is imported before the flags are parsed, so that `--help` answers at once.
"""

import contextlib
import os
import sys

from absl import flags

from jaxvision import signals
from jaxvision.cli import about, failures, files, made_configs, many_runs, mistakes, one_run, order, photos, seeing
from jaxvision.cli.shared import Command, check_empty, warnings_printed
from jaxvision.errors import UserError, unknown
from jaxvision.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PREEMPTED

COMMANDS: dict[str, Command] = {
    **one_run.COMMANDS,
    **photos.COMMANDS,
    **made_configs.COMMANDS,
    **seeing.COMMANDS,
    **many_runs.COMMANDS,
    **files.COMMANDS,
    **about.COMMANDS,
}


def main(argv: list[str] | None = None) -> None:
    """Runs a command; entry point of the console script.

    Args:
      argv: Words of the command line, the program's name first; by default those of this process.

    Raises:
      SystemExit: The command ended with a status of `jaxvision.exits`; without one, it ended with 0.
    """
    console = argv is None
    words = list(sys.argv if argv is None else argv)[1:]
    try:
        words = _in_order(words)
        with signals.listening(words[0], console=console):
            _main(words[0], words[1:])
    except SystemExit as left:
        if console and left.code:
            failures.end_soon(left.code if isinstance(left.code, int) else EXIT_FAILED)
        raise


def _in_order(words: list[str]) -> list[str]:
    """The words of a command line with the command in front."""
    if words[:1] == ["--version"]:
        return words
    if not words or words[0] in ("-h", "--help"):
        with contextlib.suppress(UserError):  # `jaxvision --help train`
            return order.command_first(words, COMMANDS) or ["help"]
        return words
    try:
        return order.command_first(words, COMMANDS)
    except UserError as error:
        print(f"jaxvision: {error}", file=sys.stderr)
        sys.exit(error.status)


def _main(name: str, words: list[str]) -> None:
    try:
        _answer(name, words)
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
        sys.exit(failures.tell(error, name, words, _folder_of(words)))


def _answer(name: str, words: list[str]) -> None:
    """Prints what a word in place of a command asks for, or runs the command."""
    if name in ("-h", "--help"):
        print(help_of(None))
    elif name == "--version":
        from jaxvision import version

        print(version.line())
    elif name == about.COMPLETE:
        from jaxvision.cli import completion

        print(completion.answer(words, COMMANDS))
    elif name in COMMANDS:
        _run(name, words)
    else:
        raise unknown("command", name, COMMANDS)


def help_of(name: str | None) -> str:
    """Returns the help of a command, or of the program.

    Args:
      name: Name of a command; None for the list of the commands.
    """
    from jaxvision.cli import help_text

    if name is None:
        return help_text.overview(COMMANDS)
    values = flags.FlagValues()
    _define(values, name, [])
    return help_text.of_command(name, COMMANDS[name], values)


def _define(values: flags.FlagValues, name: str, words: list[str]) -> None:
    flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=values)
    COMMANDS[name].define(values, words)


def _parsed(name: str, words: list[str], values: flags.FlagValues) -> list[str]:
    """Defines and parses the flags of a command; returns the words that are not flags."""
    try:
        _define(values, name, words)
        return values([name, *words])[1:]
    except flags.Error as error:
        raise mistakes.reworded(error, name, values, words) from None


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
    if {"--help", "-h", "--helpfull"} & set(words):
        print(help_of(name))
        return
    check_empty(words)
    values = flags.FlagValues()
    try:
        with warnings_printed():
            command.run(values, _parsed(name, words, values))
    except Exception as error:
        watch = sys.modules.get("jaxvision.train.watch")  # who never imported it cannot have been preempted
        if watch is None or not isinstance(error, watch.Preempted):
            raise
        if signals.speaks():
            print(f"jaxvision: {error}. {error.advice}", file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)
