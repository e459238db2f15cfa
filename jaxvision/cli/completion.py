"""Completion for bash, zsh and fish. The shell calls `jaxvision __complete SHELL WORDS...` at each press of the key.

Nothing of it imports jax, and the names of parts are read from the source, so an answer takes a fraction of a second.
"""

import contextlib
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from jaxvision import shipped
from jaxvision.cli.shared import Command, choices_of

Candidates = Iterable[tuple[str, str]]  # words with their descriptions

SCRIPTS = {
    "bash": """\
# Completion of jaxvision in bash. For this shell:   eval "$(jaxvision completion bash)"
# For all later ones:   jaxvision completion bash > ~/.local/share/bash-completion/completions/jaxvision
_jaxvision() {
    local IFS=$'\\n' program=${1/#\\~\\//$HOME/}
    COMPREPLY=($("$program" __complete bash "${COMP_LINE:0:COMP_POINT}" "${COMP_WORDS[COMP_CWORD]}" 2>/dev/null))
    case "${COMPREPLY[0]}" in *[=/.]) compopt -o nospace 2>/dev/null ;; esac
}
complete -F _jaxvision jaxvision
""",
    "zsh": """\
#compdef jaxvision
# Completion of jaxvision in zsh. For this shell, after compinit:   eval "$(jaxvision completion zsh)"
# For all later ones: save it as _jaxvision in a folder of $fpath:   jaxvision completion zsh > ~/.zfunc/_jaxvision
_jaxvision() {
    local line value
    local -a values texts open
    for line in "${(@f)$(${(Q)words[1]} __complete zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
        value=${line%%$'\\t'*}
        if [[ $value == *[=/.] ]]; then
            open+=("$value")
        elif [[ -n $value ]]; then
            values+=("$value")
            texts+=("${line/$'\\t'/  -- }")
        fi
    done
    (( $#open )) && compadd -S '' -- "${open[@]}"
    (( $#values )) && compadd -l -d texts -- "${values[@]}"
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _jaxvision "$@"
else
    compdef _jaxvision jaxvision
fi
""",
    "fish": """\
# Completion of jaxvision in fish:
#   jaxvision completion fish > ~/.config/fish/completions/jaxvision.fish
function __jaxvision_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    $before[1] __complete fish $before[2..-1] "$current" 2>/dev/null
end
complete -c jaxvision -f -a '(__jaxvision_complete)'
""",
}


def script(shell: str) -> str:
    """Returns the script for a shell.

    Args:
      shell: Name of the shell, a key of `SCRIPTS`.
    """
    return SCRIPTS[shell]


def answer(words: Sequence[str], commands: Mapping[str, Command]) -> str:
    """Returns what a script asks for: a line for each word that can stand at the cursor.

    Args:
      words: Name of the shell, and then the words of the command line up to the cursor. For bash, the command line as
        one word, and what bash takes for the word at the cursor.
      commands: Commands by name.
    """
    shell, *rest = words
    cut, special = 0, r"[^\w@%+=:,./~^-]"  # what bash wants behind a backslash
    if shell == "bash":
        line, at_cursor = rest
        rest = _split(line)[1:]
        # Bash breaks words at "=" and ":", and replaces only what comes after the last break.
        at_cursor = "" if at_cursor in ("=", ":") else at_cursor
        special = {'"': r'["$`\\]', "'": r"(?!)"}.get(at_cursor[:1], special)  # within a quotation
        cut = len(rest[-1]) - len(_split(at_cursor)[-1]) if rest else 0
    lines = []
    for word, text in complete(rest or [""], commands):
        if shell == "bash":
            lines.append(re.sub(f"({special})", r"\\\1", word[max(cut, 0) :]))
        else:
            lines.append(f"{word}\t{text}" if text else word)
    return "\n".join(lines)


def complete(words: Sequence[str], commands: Mapping[str, Command]) -> list[tuple[str, str]]:
    """Returns the words that can stand at the cursor, each with a description.

    Args:
      words: Words after the name of the program; the last one is at the cursor, perhaps empty.
      commands: Commands by name.
    """
    *before, current = words
    if "--" in before and before[0] == "launch":
        return complete([*before[before.index("--") + 1 :], current], commands)
    name = next((word for word in before if word in commands), None)
    if name is None:
        found: Candidates = [(one, command.summary) for one, command in commands.items()]
        if current.startswith("-"):
            found = [("--help", "list the commands"), ("--version", "show the version")]
        return _beginning(current, found)
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "show this help", flag_values=values)
    commands[name].define(values, [])
    flag, equals, value = current.partition("=")
    if current.startswith("-") and equals:
        return [(f"{flag}={word}", text) for word, text in _values(flag.lstrip("-"), value, values)]
    if current.startswith("--config.") and "config" in values:
        return _beginning(current, _config_keys(current))
    if current.startswith("-"):
        return _beginning(current, _flags(values, current))
    last = before[-1].lstrip("-") if before[-1].startswith("-") else ""
    if last in values and not values[last].boolean:
        return _values(last, current, values)
    place = before.index(name)
    after = [word for word in before[place + 1 :] if not word.startswith("-")]
    return _positional(name, after, current, commands)


def _beginning(current: str, found: Candidates) -> list[tuple[str, str]]:
    return [(word, text) for word, text in found if word.startswith(current)]


def _flags(values: flags.FlagValues, current: str) -> Candidates:
    for name in sorted({values[flag].name for flag in values}):
        flag = values[name]
        yield (f"--{name}" if flag.boolean else f"--{name}="), flag.help
        if flag.boolean and current.startswith("--no"):
            yield f"--no{name}", f"not: {flag.help}"


def _values(name: str, current: str, values: flags.FlagValues) -> list[tuple[str, str]]:
    """The values of a flag: its choices, or files; none for a number."""
    if name not in values:
        return []
    flag = values[name]
    if choices := choices_of(flag):
        return _beginning(current, ((choice, "") for choice in choices))
    if flag.boolean:
        return _beginning(current, (("true", ""), ("false", "")))
    if isinstance(flag.parser, flags.IntegerParser | flags.FloatParser):
        return []
    return _paths(current, python=name in ("config", "sweep"))


def _paths(current: str, python: bool = False) -> list[tuple[str, str]]:
    """Files and folders that begin with a text, with those of this project that `shipped.find` finds."""
    folder, slash, start = current.rpartition("/")
    place = Path(os.path.expanduser(folder + slash)) if folder or slash else Path()
    root = shipped.root()
    if not folder:
        ours = [root / one for one in shipped.FOLDERS] if root else []
    else:
        ours = list((root / folder).glob("*")) if root and shipped.names_shipped(folder) else []
    found: dict[str, bool] = {}  # name -> whether it is a folder
    here: list[Path] = []
    with contextlib.suppress(OSError):
        here = list(place.iterdir())
    for path in [*here, *ours]:
        hidden = path.name.startswith((".", "__pycache__")) and not start.startswith(".")
        if path.name.startswith(start) and not hidden:
            found.setdefault(path.name, path.is_dir())
    suffixes = (".py", ".json") if python else ("",)
    names = [f"{name}/" if is_folder else name for name, is_folder in found.items()]
    return [(folder + slash + name, "") for name in sorted(names) if name.endswith(("/", *suffixes))]


def _config_keys(current: str) -> Candidates:
    """Keys after `--config.`: the sections, and the keys of those that need no library."""
    from dataclasses import fields

    from jaxvision import docstrings, sections

    by_section: dict[str, Any] = {
        "data": sections.DataSection,
        "train": sections.TrainSection,
        "init": sections.InitSection,
        "mesh": sections.MeshSection,
    }
    described = docstrings.arguments(sections.ConfigSections.__doc__ or "")
    name = current.removeprefix("--config.").partition(".")[0]
    if name in by_section and current.startswith(f"--config.{name}."):
        described = docstrings.arguments(by_section[name].__doc__ or "")
        return [(f"--config.{name}.{key}=", described.get(key, "")) for key in by_section[name]._fields]
    keys = [one.name for one in fields(sections.ConfigSections)]
    return [(f"--config.{key}{'=' if key in ('seed', 'augment') else '.'}", described.get(key, "")) for key in keys]


def _positional(
    name: str, after: Sequence[str], current: str, commands: Mapping[str, Command]
) -> list[tuple[str, str]]:
    """The words of a command that are not flags, after those that are there."""
    from jaxvision.commands import catalog

    def names(word: str) -> Candidates:
        # Variants have to be imported, which is slow.
        return [(entry.name, entry.summary) for entry in catalog.entries(word)] if word != catalog.VARIANTS else []

    kinds = catalog.kinds()
    of_kind = names(after[0]) if len(after) == 1 and after[0] in kinds else ()
    if name == "list":
        return _beginning(current, of_kind if after else ((kind, "") for kind in kinds))
    if name == "help" and after:
        return _beginning(current, of_kind)
    if name == "help":
        parts = [pair for word in kinds for pair in names(word)]
        found = dict([*parts, *((one, command.summary) for one, command in commands.items())])
        return _beginning(current, found.items()) or _paths(current, python=True)
    if name == "completion":
        return _beginning(current, ((shell, "") for shell in SCRIPTS) if not after else ())
    if name == "study" and not after:
        return _beginning(current, names("studies")) or _paths(current)
    if name == "data" and not after:
        return _beginning(current, (("prepare", ""), ("convert", ""), ("cache", "")))
    if name == "launch":
        return []
    return _paths(current)


def _split(line: str) -> list[str]:
    """Splits a command line as the shell does, also if a quotation is still open; the last word may be empty."""
    for end in ("", '"', "'"):
        with contextlib.suppress(ValueError):
            words = shlex.split(line + end)
            return [*words, ""] if not words or (line[-1:].isspace() and not end) else words
    return [*line.split(), ""]
