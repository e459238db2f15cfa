"""Output folders of commands: a file that no earlier call wrote is neither overwritten nor deleted.

A file that the user names (`--out=photos.csv`) is replaced, as in other programs. In a folder the command chooses the
names, so a file of such a name may be the user's own: `.jaxvision.json` lists the files that the command wrote, with
their digests.
"""

import contextlib
import hashlib
import json
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

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
    _record(folder, {**dict.fromkeys(names), **_written(folder)})


@contextlib.contextmanager
def filling(folder: Path, names: Sequence[str], flag: str, own: Sequence[str] = ()) -> Iterator[pathlib.Path]:
    """Yields an empty local folder to fill. At the end its files go to `folder`, and take the place of earlier ones.

    A file that an earlier call wrote and this one does not, such as a figure of a metric that the runs now shown do not
    have, is deleted, unless somebody changed it. If the block fails, all files stay as they were.

    Args:
      folder: Folder; created if absent.
      names: Names of the files that the block may write.
      flag: Option that named the folder, such as "--out".
      own: Names of the files that the command may write with other options.

    Raises:
      UserError: For the reasons of `claim`.
    """
    claim(folder, names, flag)
    with tempfile.TemporaryDirectory(prefix="jaxvision-") as temporary:
        yield pathlib.Path(temporary)
        contents = {file.name: file.read_bytes() for file in sorted(pathlib.Path(temporary).iterdir())}
    earlier = _written(folder)
    for name, content in contents.items():
        storage.write(folder / name, content)
    for name in {*names, *own} - set(contents):
        digest = earlier.pop(name, None)
        if digest and (folder / name).is_file() and _digest((folder / name).read_bytes()) == digest:
            (folder / name).unlink()
    _record(folder, {**earlier, **{name: _digest(content) for name, content in contents.items()}})


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _record(folder: Path, digests: Mapping[str, str | None]) -> None:
    storage.write(folder / MARK, json.dumps(dict(sorted(digests.items())), indent=1) + "\n")


def _written(folder: Path) -> dict[str, str | None]:
    """The digests of the files that earlier calls wrote, by name; None for a file of which only the name is known."""
    if not (folder / MARK).is_file():
        return {}
    content = read_json(folder / MARK, object)
    if isinstance(content, list):  # of an earlier version, which kept the names only
        return dict.fromkeys(map(str, content))
    return content if isinstance(content, dict) else {}
