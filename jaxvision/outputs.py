"""Folders that commands fill with files of fixed names: a file that no earlier call wrote is not overwritten.

A file that the user names (`--out=photos.csv`) is replaced, as programs do. The names in a folder are the command's, so
what has one of them may be the user's own: `.jaxvision.json` there lists those that were written.
"""

import json
from collections.abc import Sequence

from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.reading import read_json
from jaxvision.storage import Path

MARK = ".jaxvision.json"


def check(folder: Path, names: Sequence[str], flag: str) -> None:
    """Whether files of these names may be written to a folder; writes nothing.

    Args:
      folder: need not be there.
      names: names of the files.
      flag: option that named the folder, such as "--out".

    Raises:
      UserError: files that no earlier call wrote would be overwritten; they are named.
    """
    known = _written(folder)
    strangers = [name for name in names if name not in known and (folder / name).exists()]
    if strangers:
        raise UserError(
            f"{flag}={folder} holds {', '.join(strangers)}, which no earlier call of this command wrote and which it "
            "would overwrite: give another folder, or move them away"
        )


def claim(folder: Path, names: Sequence[str], flag: str) -> None:
    """Makes the folder, checks as `check` does, and takes note that files of these names are written there."""
    storage.output_folder(folder, flag)
    check(folder, names, flag)
    storage.write(folder / MARK, json.dumps(sorted(_written(folder) | set(names))) + "\n")


def _written(folder: Path) -> set[str]:
    if not (folder / MARK).is_file():
        return set()
    return set(map(str, read_json(folder / MARK, list)))
