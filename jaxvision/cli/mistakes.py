"""Messages for mistakes in flags, in place of absl's."""

import re
from collections.abc import Sequence

from absl import flags

from jaxvision.errors import UserError, closest, listed, shown


def reworded(error: flags.Error, command: str, values: flags.FlagValues, words: Sequence[str]) -> UserError:
    """Returns the error to show for a mistake in the flags of a command.

    Args:
      error: Error that absl raised while it parsed the flags.
      command: Name of the command.
      values: Flags of the command.
      words: Words of the command line after the name of the command.
    """
    see = f"(see 'jaxvision {command} --help')"
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown(error.flagname, command, values)
    text = str(error).strip()
    if match := re.match(r"flag --([\w.]+)=", text):
        name, value = match[1], _text_of(match[1], words)
        return UserError(f"--{name} must be {_kind(name, values)}, not {shown(value)}{_whole(value, name, values)}")
    if match := re.match(r"Missing value for flag -*([\w.]+)", text):
        return UserError(f"--{match[1]} has no value: write --{match[1]}=VALUE, {_kind(match[1], values)} {see}")
    return UserError(f"{text} {see}")


def _unknown(name: str, command: str, values: flags.FlagValues) -> UserError:
    plain = sorted({values[flag].name for flag in values if "." not in flag})
    match = closest(name, plain)
    hint = f"; did you mean --{match}?" if match else "."
    if not match and "config" in values and (config := values["config"].value) is not None:
        from jaxvision.config import flatten

        keys = list(flatten(config))
        key = closest(name, keys)
        hint = f"; did you mean --config.{key}=VALUE?" if key else "."
    flag_list = listed(name, [f"--{flag}" for flag in plain])
    return UserError(f"unknown flag --{name}{hint} Flags of {command}: {flag_list}")


def _text_of(name: str, words: Sequence[str]) -> str:
    """The text of a flag's value on the command line, after `=` or in the next word."""
    for word, following in reversed(list(zip(words, [*words[1:], ""]))):
        flag, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and flag == name:
            return value if equals else following
    return ""


def _kind(name: str, values: flags.FlagValues) -> str:
    """The values that a flag takes, in words."""
    parser = values[name].parser if name in values else None
    bounds = (getattr(parser, "lower_bound", None), getattr(parser, "upper_bound", None))
    limits = {
        (True, True): f" from {bounds[0]} to {bounds[1]}",
        (True, False): f" of at least {bounds[0]}",
        (False, True): f" of at most {bounds[1]}",
    }.get((bounds[0] is not None, bounds[1] is not None), "")
    if isinstance(parser, flags.IntegerParser):
        return f"a whole number{limits}"
    if isinstance(parser, flags.FloatParser):
        return f"a number{limits}"
    if isinstance(parser, flags.BooleanParser):
        return "true or false"
    if isinstance(parser, flags.EnumParser):
        return f"one of {', '.join(parser.enum_values)}"
    return getattr(parser, "syntactic_help", "") or "a value"


def _whole(text: str, name: str, values: flags.FlagValues) -> str:
    """How to write a value such as 1e3 for a flag that takes whole numbers."""
    if isinstance(values[name].parser if name in values else None, flags.IntegerParser):
        try:
            if float(text) == int(float(text)) and str(int(float(text))) != text:
                return f": write {int(float(text))}"
        except (ValueError, OverflowError):
            pass
    return ""
