"""Whether the workdir of a command will still be there when the machines that run it have gone."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from jaxvision import storage
from jaxvision.errors import UserError


def value_of(command: Sequence[str], *flags: str) -> str | None:
    """The value of the first of the flags in a command line, given as --flag=value or --flag value.

    >>> value_of(["jaxvision", "train", "--workdir", "gs://runs/a"], "workdir", "out")
    'gs://runs/a'
    """
    for word, following in zip(command, [*command[1:], ""]):
        key, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and key in flags:
            return value if equals else following
    return None


def check_workdir(command: Sequence[str], shared: str | None, who: str, instead: str) -> None:
    """Raises UserError where a command would write its run on a disk that goes with its machine.

    Args:
      command: words of the command line, such as `["jaxvision", "train", "--workdir=gs://BUCKET/vit"]`.
      shared: folder under which all machines see one disk; "/" where any absolute path may be one, None for none.
      who: machines, for the message, such as "the pods".
      instead: what else than a bucket the user may do, for the message.
    """
    workdir = value_of(command, "workdir")
    if workdir is None:
        return
    storage.check(workdir, "--workdir")
    if storage.is_remote(workdir) or (shared and PurePosixPath(workdir).is_relative_to(shared)):
        return
    raise UserError(
        f"--workdir is {workdir!r}, but {who} share no disk there, and what they write there goes with them: give "
        f"--workdir=gs://BUCKET/NAME, or {instead}"
    )
