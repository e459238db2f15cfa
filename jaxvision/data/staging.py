"""Writing a prepared set: it gets its name when it is complete, and an interrupted one can be resumed."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordWriter

from jaxvision.errors import UserError


def set_folder(data_dir: Path, name: str, config: str | None, version: str) -> Path:
    """Returns the folder in which TFDS keeps a set: `data_dir/name[/config]/version`.

    Args:
      data_dir: Folder of prepared sets.
      name: Name of the set.
      config: Name of its configuration, if it has one.
      version: Version.
    """
    return data_dir.joinpath(name, *([config] if config else []), version)


@contextlib.contextmanager
def staged(target: Path, recipe: Mapping[str, object]) -> Iterator[Path]:
    """Yields a folder `TARGET.incomplete` that is renamed to `target` if the block ends without an error.

    After an error or a kill the folder stays. The next call continues it if its `recipe` is the same, and else empties
    it. The recipe stays in the folder as recipe.json, to document how the set was made.

    Args:
      target: Folder of the set.
      recipe: Values that determine the set; written as JSON.

    Raises:
      UserError: `target` exists already, or cannot be written.
    """
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} exists already and is not overwritten: remove it, or choose another folder")
    folder, text = target.with_name(f"{target.name}.incomplete"), json.dumps(recipe, indent=2, default=str)
    file = folder / "recipe.json"
    try:
        if folder.exists() and any(folder.iterdir()) and not file.exists():
            raise UserError(f"{folder} is needed for the set, but holds other files (no {file.name}): move it away")
        if folder.exists() and not (file.exists() and file.read_text(errors="replace") == text):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from None
    yield folder
    os.rename(folder, target)


def write_shard(path: Path, records: Iterable[bytes]) -> None:
    """Writes an ArrayRecord file; if it exists, it is kept and `records` is not read.

    The file gets its name only when it is complete.

    Args:
      path: File.
      records: Records in order.

    Raises:
      UserError: The file cannot be written.
    """
    if path.exists():
        return
    partial = path.with_name(f"{path.name}.partial")
    writer = ArrayRecordWriter(str(partial), "group_size:1")  # one record per group, as in TFDS, for random access
    for record in records:
        _write(writer.write, record)
    _write(writer.close)
    partial.rename(path)


def _write(step: Callable[..., None], *arguments: bytes) -> None:
    try:
        step(*arguments)
    except RuntimeError as error:  # such as a full disk
        raise UserError(f"cannot write an ArrayRecord file: {error}") from None
