"""Flags before the command: `jaxvision --workdir=x train` is read as `jaxvision train --workdir=x`."""

from collections.abc import Mapping, Sequence

from absl import flags

from jaxvision.cli.shared import Command, is_flag
from jaxvision.errors import UserError, nearest


def command_first(words: Sequence[str], commands: Mapping[str, Command]) -> list[str]:
    """Returns the words of a command line with the command in front.

    A word after a flag may be its value or the command. Which one it is follows from the flags of the command.

    Args:
      words: Words after the name of the program.
      commands: Commands by name.

    Raises:
      UserError: There is no command among the words, or it is not clear which word it is.
    """
    if not words or not words[0].startswith("-"):
        return list(words)
    end = words.index("--") if "--" in words else len(words)
    places = [i for i in range(end) if words[i] in commands]
    unread = {i: _unread(words[:i], commands[words[i]]) for i in places}
    known = [i for i in places if unread[i] == 0]
    if len(known) > 1:
        names = " or ".join(repr(words[i]) for i in known)
        raise UserError(f"the command may be {names}, the other a value: put the command first, jaxvision COMMAND ...")
    # Flags that the command does not have come after it, too: it will name them.
    chosen = known or [i for i in places if unread[i] is not None]
    if chosen:
        i = chosen[0]
        return [words[i], *words[:i], *words[i + 1 :]]
    if places:
        i = places[0]
        raise UserError(
            f"{words[i]!r} is read as the value of {words[i - 1]}, so there is no command: put the command first, "
            f"jaxvision {words[i]} ..., or join the value with '=', {words[i - 1]}=VALUE"
        )
    others = [word for word in words if not is_flag(word)]
    hint = next((found for word in others if (found := nearest(word, commands))), "")
    raise UserError(f"no word of the command line is a command{hint or ':'} 'jaxvision --help' lists the commands")


def _unread(words: Sequence[str], command: Command) -> int | None:
    """The number of flags that a command does not have; None if the words are not only flags with their values."""
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "", short_name="h", flag_values=values)
    command.define(values, [])
    unknown, i = 0, 0
    while i < len(words):
        if not is_flag(words[i]):
            return None
        name, equals, _ = words[i].lstrip("-").partition("=")
        is_key = name.startswith("config.") and "config" in values
        switch = name.removeprefix("no") if name.startswith("no") and name not in values else name
        if not (is_key or name in values or (switch in values and values[switch].boolean)):
            is_config = switch.startswith("config.") and "config" in values  # --noconfig.KEY
            unknown += not is_config
            i += 1
            continue
        takes = is_key or not values[switch].boolean
        i += 2 if takes and not equals else 1
    return unknown if i == len(words) else None
