"""Flags of the commands that say what there is: list, help, completion."""

import os

from absl import flags

from jaxvision.cli.shared import Command
from jaxvision.errors import UserError, unknown

COMPLETE = "__complete"  # the command that the scripts of completion call


def _no_flags(values: flags.FlagValues, words: list[str]) -> None:
    """`list` and `completion` have none."""


def _names(values: flags.FlagValues, words: list[str]) -> None:
    """A key may be copied from a command line, with its dashes and its value."""
    words[:] = [word.lstrip("-").partition("=")[0] if word.startswith("--config.") else word for word in words]


def _list(values: flags.FlagValues, rest: list[str]) -> None:
    if len(rest) > 2:
        raise UserError(f"unexpected word {rest[2]!r}: jaxvision list KIND [PATTERN], with the pattern in quotes")
    from jaxvision.commands import listing

    print(listing.run_list(*rest))


def _help(values: flags.FlagValues, rest: list[str]) -> None:
    from jaxvision import cli

    if not rest:
        print(cli.help_of(None))
        return
    if len(rest) > 2:
        raise UserError(f"unexpected word {rest[2]!r}: jaxvision help NAME, or jaxvision help KIND NAME")
    from jaxvision.commands import help as helps

    command = [cli.help_of(rest[0])] if len(rest) == 1 and rest[0] in cli.COMMANDS else []
    print(helps.run_help(*rest, others=command, commands=list(cli.COMMANDS)))


def _completion(values: flags.FlagValues, rest: list[str]) -> None:
    from jaxvision.cli import completion

    shell = rest[0] if rest else os.path.basename(os.environ.get("SHELL", ""))
    if not rest:
        raise UserError(
            f"the shell is missing: jaxvision completion {shell if shell in completion.SCRIPTS else 'bash'}"
        )
    if len(rest) > 1:
        raise UserError(f"unexpected word {rest[1]!r}: jaxvision completion SHELL")
    if shell not in completion.SCRIPTS:
        raise unknown("shell", shell, completion.SCRIPTS)
    print(completion.script(shell), end="")


COMMANDS = {
    "list": Command(
        "list what a config may name: list models | augmentations | optimizers | configs | ..., one line each",
        "jaxvision list",
        _no_flags,
        _list,
        examples=(
            "jaxvision list models",
            "jaxvision list variants vit",
            "jaxvision list augmentations '*crop*'",
            "jaxvision list configs cifar10",
        ),
    ),
    "help": Command(
        "show the options of a part, a key of a config, a config file or a command",
        "jaxvision help vit",
        _names,
        _help,
        examples=(
            "jaxvision help randaugment",
            "jaxvision help optimizer.learning_rate",
            "jaxvision help train",
            "jaxvision help task supervised",
            "jaxvision help configs/quickstart.py",
            "jaxvision help my_models:small",
        ),
    ),
    "completion": Command(
        "print the script that completes commands, flags and names in bash, zsh or fish",
        'eval "$(jaxvision completion bash)"',
        _no_flags,
        _completion,
        examples=(
            "jaxvision completion zsh > ~/.zfunc/_jaxvision",
            "jaxvision completion fish > ~/.config/fish/completions/jaxvision.fish",
        ),
    ),
}
