"""Where the files of a run are stored: in a folder of this machine, or in a Google Cloud Storage bucket.

Every file of a workdir is named, read and written through this module. A path is a `pathlib.Path`, or for `gs://` an
`epath.Path`, which has the same methods. A bucket differs from a disk in three ways, which callers need not know:

- An object is written whole or not at all, and cannot be renamed: `write` and `file` need no temporary name there.
- An object cannot grow, and can be replaced about once a second: `line_files.Lines` writes several and joins them.
- Libraries that write to a file name cannot reach it: `file` and `folder` lend them a local one.
"""

import base64
import contextlib
import errno
import functools
import importlib.util
import logging
import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from etils import epath

from jaxvision import path_names
from jaxvision.errors import UserError, shown

if TYPE_CHECKING:
    import fsspec

Path: TypeAlias = pathlib.Path | epath.Path

# If TensorFlow is installed, epath would reach buckets through it; the tests here cover fsspec.
os.environ.setdefault("EPATH_USE_TF", "false")


def path(where: str | os.PathLike, what: str = "the path") -> Path:
    """Returns the path of a file or folder: local, with `~` expanded, or in a bucket that can be reached.

    Args:
      where: Local path, or gs://BUCKET/NAME.
      what: Name of the path for messages, such as "--workdir".

    Raises:
      UserError: The path is of another kind, gcsfs is not installed, or the bucket cannot be reached.
    """
    path_names.check(where, what)
    if not path_names.is_remote(where):
        return path_names.expanded(where, what)
    if not all(map(_installed, ("gcsfs", "google.cloud.storage"))):
        raise UserError(f"{what} is {shown(os.fspath(where))}, which needs gcsfs: pip install 'jaxvision[gcs]'")
    remote = epath.Path(where)
    _reach(path_names.bucket_of(remote))
    return remote


def local(where: str | os.PathLike, what: str = "the path", why: str = "") -> pathlib.Path:
    """Returns the path of a file or folder that must be on this machine, with `~` expanded.

    Args:
      where: Path of a file or folder.
      what: Name of the path for the message, such as "--out".
      why: Reason for the message, as in "its lock and journal need a file system".

    Raises:
      UserError: The path is in a bucket or another remote place.
    """
    if path_names.is_remote(where):
        because = f", since {why}" if why else ""
        raise UserError(
            f"{what} is {shown(os.fspath(where))}, but must be on a file system{because}: give a local folder, or "
            "one where the bucket is mounted"
        )
    return path_names.expanded(where, what)


def absolute(where: Path) -> Path:
    """Returns the absolute path, which stays right in another folder and in a config.

    Args:
      where: Path, local or in a bucket.
    """
    return where if path_names.is_remote(where) else where.absolute()


def make_folder(where: Path) -> None:
    """Makes a folder and its parents if they do not exist; a bucket does not need them.

    Args:
      where: Folder.
    """
    if not path_names.is_remote(where):
        where.mkdir(parents=True, exist_ok=True)


def output_folder(where: Path, flag: str) -> None:
    """Makes a folder for output if it does not exist.

    Args:
      where: Folder.
      flag: Flag that named it, such as "--out".

    Raises:
      UserError: It cannot be made: a file has its name, or its parent cannot be written.
    """
    try:
        make_folder(where)
    except FileExistsError:
        raise UserError(f"{flag}={where} is a file, but should be a folder") from None
    except OSError as error:
        raise UserError(f"cannot make the folder {flag}={where}: {error.strerror}") from None


def write(where: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all.

    Args:
      where: File. On a disk its folder must exist.
      content: New content; a str is encoded as UTF-8.
    """
    content = content.encode() if isinstance(content, str) else content
    with file(where) as path:
        path.write_bytes(content)


@contextlib.contextmanager
def file(where: Path) -> Iterator[pathlib.Path]:
    """Yields a local path to write to, for libraries that need one; at the end it becomes `where`, whole or not at all.

    Args:
      where: Path of the file at the end; the local file has the same suffix.
    """
    if path_names.is_remote(where):
        with tempfile.TemporaryDirectory(prefix="jaxvision-") as folder:
            written = pathlib.Path(folder, where.name)
            yield written
            _upload(written, where)
        return
    written = temporary(where)
    try:
        yield written
        sync(written)
        os.replace(written, where)
        sync(where.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            written.unlink()


def temporary(where: pathlib.Path) -> pathlib.Path:
    """Returns a name in the folder of a file, with its suffix, that no other process and no user uses.

    Args:
      where: File.
    """
    return where.with_name(f".{where.stem[:100]}-{secrets.token_hex(8)}{where.suffix}")


def sync(where: Path) -> None:
    """Waits until a file, or the names in a folder, would survive a loss of power; in a bucket they always do.

    Args:
      where: File or folder.

    Raises:
      OSError: The disk reports an error.
    """
    if path_names.is_remote(where):
        return
    handle = os.open(where, os.O_RDONLY)
    try:
        with naming(where):
            os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some file systems cannot sync folders
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def naming(where: Path) -> Iterator[None]:
    """Adds the name of a file to an OSError that is raised inside: errors of an open file lack it.

    Args:
      where: File.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(where)
        raise


@contextlib.contextmanager
def folder(where: Path) -> Iterator[pathlib.Path]:
    """Yields a local folder to fill: `where` itself, or for a bucket a temporary one that is uploaded at the end.

    Args:
      where: Folder, which is made if it does not exist.
    """
    make_folder(where)
    if not path_names.is_remote(where):
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="jaxvision-") as temporary_folder:
        yield pathlib.Path(temporary_folder)
        for written in sorted(f for f in pathlib.Path(temporary_folder).rglob("*") if f.is_file()):
            _upload(written, where / written.relative_to(temporary_folder).as_posix())


def append(where: Path, text: str) -> None:
    """Appends text to a file. Call it seldom: in a bucket the whole file is written again.

    Args:
      where: File; it is made if it does not exist.
      text: Text to add.
    """
    if path_names.is_remote(where):
        write(where, (where.read_text() if where.exists() else "") + text)
        return
    with where.open("a") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


class File(NamedTuple):
    """A file as its store lists it.

    Attributes:
      size: Number of bytes.
      crc32c: CRC-32C of the content; None if the store does not know it.
    """

    size: int
    crc32c: int | None = None


def files(where: Path) -> dict[str, File]:
    """Returns all files in a folder and its subfolders. A file that vanishes meanwhile is left out.

    Args:
      where: Folder.

    Returns:
      The files by their path relative to `where`, sorted. Files in a bucket have their CRC-32C.

    Raises:
      OSError: The folder cannot be read, or a subfolder vanished meanwhile.
    """
    if path_names.is_remote(where):
        entries_by_name = filesystem().find(os.fspath(where), detail=True)
        root = os.fspath(where).partition("://")[2].rstrip("/") + "/"
        return {name.removeprefix(root): _listed(e) for name, e in sorted(entries_by_name.items()) if name != root}
    listed, folders = {}, [where]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(pathlib.Path(entry.path))
                    continue
                with contextlib.suppress(FileNotFoundError):
                    listed[pathlib.Path(entry.path).relative_to(where).as_posix()] = File(entry.stat().st_size)
    return dict(sorted(listed.items()))


def _listed(entry: dict[str, Any]) -> File:
    checksum = entry.get("crc32c")  # base64 of four bytes, the highest first
    return File(int(entry["size"]), int.from_bytes(base64.b64decode(checksum), "big") if checksum else None)


def move(where: Path, to: Path) -> None:
    """Renames a file or folder; in a bucket, the bucket itself copies it to the new name.

    Args:
      where: File or folder.
      to: New path, in the same store.
    """
    if not path_names.is_remote(where):
        os.rename(where, to)
        return
    store, old, new = filesystem(), os.fspath(where), os.fspath(to)
    if store.isfile(old):
        store.cp_file(old, new)
        store.rm_file(old)
        return
    for name in files(where):
        store.cp_file(f"{old}/{name}", f"{new}/{name}")
    remove(where)


def remove(where: Path) -> None:
    """Deletes a folder with its content; does nothing if it does not exist.

    Args:
      where: Folder; of a symbolic link only the link is deleted.
    """
    if path_names.is_remote(where):
        with contextlib.suppress(FileNotFoundError):
            where.rmtree()  # type: ignore[union-attr]  # of epath, since it is remote
    elif where.is_symlink():
        where.unlink()
    elif where.exists():
        shutil.rmtree(where)


@contextlib.contextmanager
def reaching(where: Path, doing: str = "reach") -> Iterator[None]:
    """Turns an error that is raised inside because a place cannot be read or written into a UserError that names it.

    Args:
      where: File or folder.
      doing: Verb for the message: `cannot {doing} {where}`.

    Raises:
      UserError: The place could not be read or written; the original exception is its cause.
    """
    # The libraries below raise OSError, their own HttpError, and whatever the authentication raises.
    errors = Exception if path_names.is_remote(where) else OSError
    try:
        yield
    except UserError:
        raise
    except errors as error:
        text = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        hint = ""
        if path_names.is_remote(where):
            text = "there is no such bucket" if isinstance(error, FileNotFoundError) else text
            hint = ". Is the name right, and may this account use the bucket (gcloud auth application-default login)?"
        raise UserError(f"cannot {doing} {where}: {text.rstrip('.')}{hint}") from error


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is missing
        return False


@functools.cache
def _reach(bucket: str) -> None:
    """Asks once whether the bucket exists, so that a wrong name is reported before anything else is done."""
    # gcsfs would ask another service for the kind of the bucket, again and again if this account may not know it. The
    # kind matters only for renaming, which is not done here.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    import fsspec

    # Other processes write to the bucket too: evaluations, and Orbax, which has its own connection.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it also raises what it logs with a traceback
    with reaching(epath.Path(f"{path_names.BUCKETS}://{bucket}")):
        filesystem().info(bucket)


def filesystem() -> "fsspec.AbstractFileSystem":
    """Returns the store of all buckets, an fsspec file system."""
    import fsspec

    return fsspec.filesystem("gcs")


def _upload(written: pathlib.Path, where: Path) -> None:
    with written.open("rb") as source, where.open("wb") as target:
        shutil.copyfileobj(source, target, 2**24)
