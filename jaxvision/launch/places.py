"""Checks that the workdir of a command outlives the machines that run it."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from jaxvision import path_names
from jaxvision.errors import UserError


def value_of(command: Sequence[str], *flags: str) -> str | None:
    """Returns the value of a flag in a command line, written as --flag=value or --flag value.

    Args:
      command: Words of the command line.
      *flags: Names of flags; the first word that is one of them counts.

    >>> value_of(["jaxvision", "train", "--workdir", "gs://runs/a"], "workdir", "out")
    'gs://runs/a'
    """
    for word, following in zip(command, [*command[1:], ""]):
        key, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and key in flags:
            return value if equals else following
    return None


def check_workdir(command: Sequence[str], shared: str | None, who: str, instead: str) -> None:
    """Checks that a command does not write its run to a disk that disappears with its machine.

    Args:
      command: Words of the command line, such as `["jaxvision", "train", "--workdir=gs://BUCKET/vit"]`.
      shared: Folder in which all machines see the same files; "/" if any absolute path may be one, None for none.
      who: Name of the machines in the message, such as "the pods".
      instead: Alternative to a bucket, for the message.

    Raises:
      UserError: The workdir is on such a disk.
    """
    workdir = value_of(command, "workdir")
    if workdir is None:
        return
    path_names.check(workdir, "--workdir")
    if path_names.is_remote(workdir) or (shared and PurePosixPath(workdir).is_relative_to(shared)):
        return
    raise UserError(
        f"--workdir={workdir} is not on a disk that {who} share, and would be deleted with them: give "
        f"--workdir=gs://BUCKET/NAME, or {instead}"
    )
