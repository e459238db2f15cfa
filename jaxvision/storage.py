"""Where the files of a run may lie: a folder of this machine, or a place in a Google Cloud Storage bucket.

Every file of a workdir is named, read and written through this page. A path is a `pathlib.Path`, or for `gs://` an
`epath.Path`, which has the same methods. A bucket differs from a disk in three things, which callers need not know:

- An object is written whole or not at all, and cannot be renamed: `write` and `file` need no temporary name there.
- An object cannot grow, and can be replaced about once a second: `line_files.Lines` writes several, and joins them.
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
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from etils import epath

from jaxvision.errors import UserError, shown

Path: TypeAlias = pathlib.Path | epath.Path

# epath would reach buckets through TensorFlow where that is installed; what is tested here is fsspec.
os.environ.setdefault("EPATH_USE_TF", "false")

BUCKETS = "gs"  # the scheme that is supported
# Those that are known to be none of a local folder's name. Of others, "NAME:/" tells.
_KNOWN = "gs|gcs|s3|s3a|s3n|az|abfs|abfss|adl|wasb|hf|hdfs|file|http|https|ftp|sftp|ssh|memory|viewfs|dbfs"
_SCHEME = re.compile(rf"(?:(?P<known>{_KNOWN})|(?P<other>[a-z][a-z0-9+.-]+)(?=:/)):(?P<rest>.*)", re.IGNORECASE | re.S)
_BUCKET = re.compile(r"//(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>.*)", re.S)
# fsspec takes *, ? and brackets for patterns, Orbax drops what follows # or ?, and Cloud Storage refuses line ends.
_UNFIT = re.compile(r"[*?\[\]#\x00-\x1f\x7f]")
# A NUL ends a name in the system's calls, a line end would make two lines of a journal's one, and half of a surrogate
# pair is no character; those with which Python stands for bytes that are not UTF-8 are names of files that there are.
_NO_NAME = re.compile(r"[\x00\n\r]|[\ud800-\udc7f\udd00-\udfff]")
LONGEST = 255  # bytes of a name, of every file system in use
_MOUNT = "mount the bucket and give the folder where it is mounted (docs/clusters.md, section Buckets)"


def is_remote(where: str | os.PathLike) -> bool:
    """Whether `where` is no folder or file of this machine.

    >>> is_remote("gs://bucket/run"), is_remote("hdfs://host/run"), is_remote("runs/12:30")
    (True, True, False)
    """
    return _SCHEME.match(os.fspath(where)) is not None


def check(where: str | os.PathLike, what: str = "the path") -> None:
    """Raises UserError where `where` is neither a local path nor gs://BUCKET/NAME. Nothing is looked at.

    Args:
      where: path of a file or folder.
      what: name of the thing for the message, such as "--workdir".

    >>> check("gs:/bucket/run", "--workdir")
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: --workdir is 'gs:/bucket/run': want gs://BUCKET/NAME, with two slashes
    """
    text = os.fspath(where)
    if not text:
        raise UserError(f"{what} is empty: want a folder, or gs://BUCKET/NAME")
    is_, match = f"{what} is {shown(text)}:", _SCHEME.match(text)
    if bad := _NO_NAME.search(text):
        raise UserError(f"{is_} a name of a file or folder must not hold {bad[0]!r}")
    if longest := [part for part in text.split("/") if len(os.fsencode(part)) > LONGEST]:
        raise UserError(f"{is_} a name of a file or folder has at most {LONGEST} bytes, not {len(longest[0])}")
    if match is None:
        first = pathlib.Path(text).absolute().parts[1:2]
        if first and first[0] in ("gs", "s3", "az", "hf"):
            raise UserError(
                f"{is_} Orbax, which writes checkpoints, takes folders under /{first[0]} for buckets: give the folder "
                "by another name, such as a link to it"
            )
        return
    scheme, rest = (match["known"] or match["other"]), match["rest"]
    if scheme == "file":
        raise UserError(f"{is_} a local path is written without file:, as in {('/' + rest.lstrip('/'))!r}")
    if scheme.lower() in ("s3", "s3a", "s3n"):
        raise UserError(f"{is_} Orbax, which writes checkpoints, cannot write to S3: {_MOUNT}")
    if scheme != BUCKETS:
        meant = "; did you mean gs://?" if scheme.lower() in ("gs", "gcs") else "."
        raise UserError(f"{is_} {scheme}: is not supported{meant} Give a local folder or gs://BUCKET/NAME, or {_MOUNT}")
    found = _BUCKET.fullmatch(rest)
    if not rest.startswith("//"):
        raise UserError(f"{is_} want gs://BUCKET/NAME, with two slashes")
    if found is None or not found["name"].strip("/"):
        raise UserError(
            f"{is_} want gs://BUCKET/NAME: the name of a bucket (3 or more of a-z, 0-9, '.', '_', '-'), and one in it"
        )
    if bad := _UNFIT.search(found["name"]):
        raise UserError(f"{is_} a name in a bucket must not hold {bad[0]!r}")
    if {".", ".."} & set(found["name"].split("/")):
        raise UserError(f"{is_} a name in a bucket must not hold '.' or '..' as a part")


def expanded(where: str | os.PathLike, what: str = "the path") -> pathlib.Path:
    """A local path with `~` and `~name` expanded.

    Raises:
      UserError: There is no user of that name.

    >>> expanded("~no-such-user/runs", "--workdir")
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: --workdir is '~no-such-user/runs': no user '~no-such-user' has a home folder here
    """
    try:
        return pathlib.Path(where).expanduser()
    except RuntimeError:
        user = shown(os.fspath(where).split("/")[0])
        raise UserError(f"{what} is {shown(os.fspath(where))}: no user {user} has a home folder here") from None


def path(where: str | os.PathLike, what: str = "the path") -> Path:
    """The path of a file or folder: local, with `~` expanded, or in a bucket that can be reached.

    Args:
      where: path, or gs://BUCKET/NAME.
      what: name of the thing for messages, such as "--workdir".

    Raises:
      UserError: another kind of place, gcsfs is not installed, or the bucket cannot be reached.
    """
    check(where, what)
    if not is_remote(where):
        return expanded(where, what)
    if not all(map(_installed, ("gcsfs", "google.cloud.storage"))):
        raise UserError(f"{what} is {shown(os.fspath(where))}, which needs gcsfs: pip install 'jaxvision[gcs]'")
    found = epath.Path(where)
    _reach(_BUCKET.fullmatch(os.fspath(found).partition(":")[2])["bucket"])
    return found


def local(where: str | os.PathLike, what: str = "the path", why: str = "") -> pathlib.Path:
    """The path of what must lie on this machine, with `~` expanded.

    Args:
      where: path of a file or folder.
      what: name of the thing for the message, such as "--out".
      why: reason, as in "its lock and journal need a file system".

    Raises:
      UserError: it lies in a bucket or another remote place.
    """
    if is_remote(where):
        because = f", since {why}" if why else ""
        raise UserError(
            f"{what} is {shown(os.fspath(where))}, but must lie on a file system{because}: give a local folder, or "
            "one where the bucket is mounted"
        )
    return expanded(where, what)


def absolute(where: Path) -> Path:
    """The path from the root: what stays right in another folder, and in a config."""
    return where if is_remote(where) else where.absolute()


def make_folder(where: Path) -> None:
    """Makes a folder and those that it lies in, where they are absent; in a bucket they need not be made."""
    if not is_remote(where):
        where.mkdir(parents=True, exist_ok=True)


def output_folder(where: Path, flag: str) -> None:
    """Makes a folder for what is written, where it is not there yet.

    Args:
      where: folder.
      flag: what named it, such as "--out".

    Raises:
      UserError: it cannot be made: a file has its name, or its place cannot be written.
    """
    try:
        make_folder(where)
    except FileExistsError:
        raise UserError(f"{flag}={where} is a file, but should be a folder") from None
    except OSError as error:
        raise UserError(f"cannot make the folder {flag}={where}: {error.strerror}") from None


def write(where: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all. Its folder must exist, which a bucket has no need of."""
    content = content.encode() if isinstance(content, str) else content
    with file(where) as path:
        path.write_bytes(content)


@contextlib.contextmanager
def file(where: Path) -> Iterator[pathlib.Path]:
    """A local file to be written, for libraries that want a name; at the end it becomes `where`, whole or not at all.

    Args:
      where: file that is written; its suffix is that of the local one.
    """
    if is_remote(where):
        with tempfile.TemporaryDirectory(prefix="jaxvision-") as folder:
            made = pathlib.Path(folder, where.name)
            yield made
            _upload(made, where)
        return
    made = temporary(where)
    try:
        yield made
        sync(made)
        os.replace(made, where)
        sync(where.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            made.unlink()


def temporary(where: pathlib.Path) -> pathlib.Path:
    """A name beside a file, with its suffix, that no other process and no user has given."""
    return where.with_name(f".{where.stem[:100]}-{secrets.token_hex(8)}{where.suffix}")


def sync(where: Path) -> None:
    """Returns once a file, or the names in a folder, survive a loss of power; in a bucket they do when written."""
    if is_remote(where):
        return
    handle = os.open(where, os.O_RDONLY)
    try:
        with naming(where):
            os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # file systems that cannot, of folders
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def naming(where: Path) -> Iterator[None]:
    """An OSError of an open file, which does not know its name, gets it."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(where)
        raise


@contextlib.contextmanager
def folder(where: Path) -> Iterator[pathlib.Path]:
    """A local folder to be filled: `where` itself, which is made, or one whose files go into the bucket at the end."""
    make_folder(where)
    if not is_remote(where):
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="jaxvision-") as made:
        yield pathlib.Path(made)
        for one in sorted(f for f in pathlib.Path(made).rglob("*") if f.is_file()):
            _upload(one, where / one.relative_to(made).as_posix())


def append(where: Path, text: str) -> None:
    """Appends to a file, seldom: in a bucket all of it is written anew."""
    if is_remote(where):
        write(where, (where.read_text() if where.exists() else "") + text)
        return
    with where.open("a") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


class File(NamedTuple):
    """A file as its store lists it: `size` in bytes; `crc32c` where the store knows it, else None."""

    size: int
    crc32c: int | None = None


def files(where: Path) -> dict[str, File]:
    """All files in a folder and those below it, by their path in it. A bucket knows the CRC-32C of each.

    A file that vanishes meanwhile is none.

    Raises:
      OSError: the folder cannot be read, or one in it vanished meanwhile.
    """
    if is_remote(where):
        found = filesystem().find(os.fspath(where), detail=True)
        root = os.fspath(where).partition("://")[2].rstrip("/") + "/"
        return {name.removeprefix(root): _listed(one) for name, one in sorted(found.items()) if name != root}
    found, folders = {}, [where]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(pathlib.Path(entry.path))
                    continue
                with contextlib.suppress(FileNotFoundError):
                    found[pathlib.Path(entry.path).relative_to(where).as_posix()] = File(entry.stat().st_size)
    return dict(sorted(found.items()))


def _listed(entry: dict[str, Any]) -> File:
    known = entry.get("crc32c")  # base64 of four bytes, the highest first
    return File(int(entry["size"]), int.from_bytes(base64.b64decode(known), "big") if known else None)


def move(where: Path, to: Path) -> None:
    """Gives a file or folder another name; what is in a bucket is copied there, by the bucket itself."""
    if not is_remote(where):
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
    """Deletes a folder with all that is in it; one that is not there is none."""
    if is_remote(where):
        with contextlib.suppress(FileNotFoundError):
            where.rmtree()
    elif where.is_symlink():
        where.unlink()
    elif where.exists():
        shutil.rmtree(where)


@contextlib.contextmanager
def reaching(where: Path, doing: str = "reach") -> Iterator[None]:
    """What is raised inside because `where` cannot be read or written becomes a UserError that names it."""
    # The libraries below raise OSError, their own HttpError, and whatever the authentication raises.
    errors = Exception if is_remote(where) else OSError
    try:
        yield
    except UserError:
        raise
    except errors as error:
        text = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        hint = ""
        if is_remote(where):
            text = "there is no such bucket" if isinstance(error, FileNotFoundError) else text
            hint = ". Is the name right, and may this account use the bucket (gcloud auth application-default login)?"
        raise UserError(f"cannot {doing} {where}: {text.rstrip('.')}{hint}") from error


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it lies in
        return False


@functools.cache
def _reach(bucket: str) -> None:
    """Asks once whether the bucket is there, so that a wrong name is told before anything else is done."""
    # gcsfs would ask another service for the kind of the bucket, at every turn where this account may not know it. It
    # matters to renaming alone, which is not done here.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    import fsspec

    # Other processes write there too: evaluations, and Orbax, which has its own connection.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # what it logs with a traceback, it raises, too
    with reaching(epath.Path(f"{BUCKETS}://{bucket}")):
        filesystem().info(bucket)


def filesystem() -> Any:
    """The store of all buckets, from fsspec."""
    import fsspec

    return fsspec.filesystem("gcs")


def _upload(made: pathlib.Path, where: Path) -> None:
    with made.open("rb") as source, where.open("wb") as target:
        shutil.copyfileobj(source, target, 2**24)
