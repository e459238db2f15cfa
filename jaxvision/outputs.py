"""Output folders of commands: a file that no earlier call wrote is not overwritten.

A file that the user names (`--out=photos.csv`) is replaced, as in other programs. In a folder the command chooses the
names, so a file of such a name may be the user's own: `.jaxvision.json` lists the files that the command wrote.
"""

import json
from collections.abc import Sequence

from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.reading import read_json
from jaxvision.storage import Path

MARK = ".jaxvision.json"


def check(folder: Path, names: Sequence[str], flag: str) -> None:
    """Checks that files may be written to a folder; writes nothing.

    Args:
      folder: Folder, which need not exist.
      names: Names of the files.
      flag: Option that named the folder, such as "--out".

    Raises:
      UserError: Files that no earlier call wrote would be overwritten; the message names them.
    """
    written = _written(folder)
    strangers = [name for name in names if name not in written and (folder / name).exists()]
    if strangers:
        raise UserError(
            f"{flag}={folder} holds {', '.join(strangers)}, which no earlier call of this command wrote. It would "
            "overwrite them: give another folder, or move them away"
        )


def claim(folder: Path, names: Sequence[str], flag: str) -> None:
    """Makes the folder and records in it that this command writes files of these names.

    Args:
      folder: Folder; created if absent.
      names: Names of the files.
      flag: Option that named the folder, such as "--out".

    Raises:
      UserError: `check` refuses the files, or the folder cannot be created.
    """
    storage.output_folder(folder, flag)
    check(folder, names, flag)
    storage.write(folder / MARK, json.dumps(sorted(_written(folder) | set(names))) + "\n")


def _written(folder: Path) -> set[str]:
    if not (folder / MARK).is_file():
        return set()
    return set(map(str, read_json(folder / MARK, list)))
