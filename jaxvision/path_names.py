"""What the path of a file or folder may be called: local names, and names of buckets and other places.

`storage.py` opens what has passed these checks.
"""

import os
import pathlib
import re

from jaxvision.errors import UserError, shown

BUCKETS = "gs"  # the scheme that is supported
# Schemes that cannot be the name of a local folder. Others are recognised by "NAME:/".
_KNOWN = "gs|gcs|s3|s3a|s3n|az|abfs|abfss|adl|wasb|hf|hdfs|file|http|https|ftp|sftp|ssh|memory|viewfs|dbfs"
_SCHEME = re.compile(rf"(?:(?P<known>{_KNOWN})|(?P<other>[a-z][a-z0-9+.-]+)(?=:/)):(?P<rest>.*)", re.IGNORECASE | re.S)
_BUCKET = re.compile(r"//(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>.*)", re.S)
# fsspec takes *, ? and brackets for patterns, Orbax drops what follows # or ?, and Cloud Storage refuses line ends.
_UNFIT = re.compile(r"[*?\[\]#\x00-\x1f\x7f]")
# A NUL ends a name in system calls, a line end would split a line of a journal, and half of a surrogate pair is no
# character. The surrogates by which Python represents bytes that are not UTF-8 are allowed: such files exist.
_NO_NAME = re.compile(r"[\x00\n\r]|[\ud800-\udc7f\udd00-\udfff]")
LONGEST = 255  # bytes of a name, the limit of the usual file systems
_MOUNT = "mount the bucket and give the folder where it is mounted (docs/clusters.md, section Buckets)"


def is_remote(where: str | os.PathLike) -> bool:
    """Returns whether a path is not of this machine.

    Args:
      where: Path of a file or folder.

    >>> is_remote("gs://bucket/run"), is_remote("hdfs://host/run"), is_remote("runs/12:30")
    (True, True, False)
    """
    return _SCHEME.match(os.fspath(where)) is not None


def check(where: str | os.PathLike, what: str = "the path") -> None:
    """Checks that a path is local or gs://BUCKET/NAME, without any access to it.

    Args:
      where: Path of a file or folder.
      what: Name of the path for the message, such as "--workdir".

    Raises:
      UserError: The path is neither.

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
    place = _BUCKET.fullmatch(rest)
    if not rest.startswith("//"):
        raise UserError(f"{is_} want gs://BUCKET/NAME, with two slashes")
    if place is None or not place["name"].strip("/"):
        raise UserError(
            f"{is_} want gs://BUCKET/NAME: the name of a bucket (3 or more of a-z, 0-9, '.', '_', '-'), and one in it"
        )
    if bad := _UNFIT.search(place["name"]):
        raise UserError(f"{is_} a name in a bucket must not hold {bad[0]!r}")
    if {".", ".."} & set(place["name"].split("/")):
        raise UserError(f"{is_} a name in a bucket must not hold '.' or '..' as a part")


def expanded(where: str | os.PathLike, what: str = "the path") -> pathlib.Path:
    """Returns a local path with `~` and `~name` expanded.

    Args:
      where: Path of a file or folder.
      what: Name of the path for the message, such as "--workdir".

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


def bucket_of(where: os.PathLike) -> str:
    """Returns the name of the bucket of a path that `check` has accepted.

    Args:
      where: Path in a bucket.

    >>> bucket_of(pathlib.PurePosixPath("gs://my-bucket/run"))
    'my-bucket'
    """
    _, _, rest = os.fspath(where).partition(":")
    return rest.lstrip("/").partition("/")[0]
