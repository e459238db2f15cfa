"""Mistakes in flags, in the project's words in place of absl's."""

import re
from collections.abc import Sequence

from absl import flags

from jaxvision.errors import UserError, closest, listed, shown


def reworded(error: flags.Error, command: str, values: flags.FlagValues, words: Sequence[str]) -> UserError:
    """What a mistake in the flags of a command means.

    Args:
      error: raised while the flags were parsed.
      command: its name.
      values: the flags of the command.
      words: the command line behind the name of the command.
    """
    see = f"(see 'jaxvision {command} --help')"
    if isinstance(error, flags.UnrecognizedFlagError):
        return _unknown(error.flagname, command, values)
    text = str(error).strip()
    if found := re.match(r"flag --([\w.]+)=", text):
        name, given = found[1], _given(found[1], words)
        return UserError(f"--{name} must be {_wanted(name, values)}, not {shown(given)}{_whole(given, name, values)}")
    if found := re.match(r"Missing value for flag -*([\w.]+)", text):
        return UserError(f"--{found[1]} has no value: write --{found[1]}=VALUE, {_wanted(found[1], values)} {see}")
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


def _given(name: str, words: Sequence[str]) -> str:
    """The text that was given for a flag, behind `=` or as the next word."""
    for word, following in reversed(list(zip(words, [*words[1:], ""]))):
        flag, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and flag == name:
            return value if equals else following
    return ""


def _wanted(name: str, values: flags.FlagValues) -> str:
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
    return "a value"


def _whole(given: str, name: str, values: flags.FlagValues) -> str:
    """What to write in place of 1e3 where a whole number is wanted."""
    if isinstance(values[name].parser if name in values else None, flags.IntegerParser):
        try:
            if float(given) == int(float(given)) and str(int(float(given))) != given:
                return f": write {int(float(given))}"
        except (ValueError, OverflowError):
            pass
    return ""
