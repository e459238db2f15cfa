"""How much may come out of a file: told from its headers, before room is made for it.

A file of a few MB can say that it holds TB, or unpack to as many. Whatever is read from a file, compressed or not, is
at most `FREE` bytes, or `RATIO` times the bytes of the file where that is more: so that what is stored as it is always
fits, and what is compressed fits unless its compression is the point of it. docs/data.md says so to users.
"""

import gzip
import io
import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxvision.errors import UserError, shown
from jaxvision.reading import reading

FREE = 2**28  # bytes, 268 MB
RATIO = 20
_HEAD = 2**16  # bytes of a member that hold the header of an array


def allowed(stored: int) -> int:
    """Bytes that may come out of a file of `stored` bytes."""
    return max(FREE, RATIO * stored)


def check(where: Any, unpacked: int, stored: int, advice: str = "", error: type[Exception] = UserError) -> None:
    """Raises a UserError (or `error`) where more would come out of a file than may.

    Args:
      where: file, for the message.
      unpacked: bytes that would come out.
      stored: bytes of the file.
      advice: other way out for the user, for the message.

    >>> check("a.npz", 10**9, 4_700_000)
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: a.npz has 4,700,000 bytes and would unpack to 1,000,000,000, more than the 268,435,456
    that may come out of it
    """
    if unpacked > allowed(stored):
        raise error(
            f"{where} has {stored:,} bytes and would unpack to {_count(unpacked)}, more than the {allowed(stored):,} "
            f"that may come out of it{advice and f': {advice}'}"
        )


def npz(file: Path | BinaryIO, where: Any = None) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` by their names; members that are no arrays are left out.

    The header of every array is read and compared with its member and with what may come out of the file before any of
    them is unpacked.

    Args:
      file: path, or an opened file.
      where: file for messages; its path by default.

    Raises:
      UserError: it is damaged, no zip archive, holds objects, or says that it holds more than it does or may.
    """
    where, arrays = file if where is None else where, {}
    with reading(where), zipfile.ZipFile(file) as archive:
        stored = archive.fp.seek(0, io.SEEK_END)
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        check(where, sum(_nbytes(archive, member, where) for member in members), stored, "save it with np.savez")
        for member in members:
            name = member.filename.removesuffix(".npy")
            with reading(f"{where}: {shown(name)}"), archive.open(member) as opened:
                arrays[name] = np.lib.format.read_array(opened, allow_pickle=False)
    return arrays


def _nbytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: Any) -> int:
    """Bytes of the array of a member, by its header."""
    place = f"{where}: {shown(member.filename.removesuffix('.npy'))}"
    with reading(place):
        with archive.open(member) as opened:
            head = io.BytesIO(opened.read(_HEAD))
        version = np.lib.format.read_magic(head)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise UserError(f"cannot read {place}: its header is of version {version}, not 1.0 or 2.0")
        shape, _, dtype = read(head)
        if dtype.hasobject:
            raise UserError(f"cannot read {place}: it holds Python objects, and a pickle may run any code")
        held = member.file_size - head.tell()
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size > held:
            raise UserError(
                f"{place} is damaged: its header says {shown(shape)} of {dtype}, {_count(size)} bytes, but it holds "
                f"{held:,}"
            )
    return size


def gunzip(path: Path, most: int | None = None) -> bytes:
    """The content of a gzip file.

    Args:
      path: file.
      most: bytes that may come out of it; by default `allowed` says.

    Raises:
      UserError: it is truncated, damaged, no gzip file, or holds more.
    """
    with reading(path):
        most = allowed(path.stat().st_size) if most is None else most
        with gzip.open(path) as stream:
            content = stream.read(most + 1)
        if len(content) > most:
            raise UserError(f"{path} unpacks to more than the {most:,} bytes that may come out of it")
    return content


def _count(number: int) -> str:
    """A number of bytes; of one with hundreds of digits, how many."""
    return f"{number:,}" if abs(number) < 10**30 else f"more than 10^{int(math.log10(abs(number)))}"
