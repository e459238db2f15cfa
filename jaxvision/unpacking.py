"""How many bytes a file may unpack to, decided from its headers before memory is reserved for them.

A file of a few MB can claim to hold TB, or unpack to that much. So what is read from a file, compressed or not, is
limited to `FREE` bytes, or to `RATIO` times the size of the file if that is more. Uncompressed content always fits
this limit, and compressed content fits unless its compression is extreme. docs/data.md says so to users.
"""

import gzip
import io
import math
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxvision.errors import UserError, shown
from jaxvision.reading import reading

FREE = 2**28  # bytes, 268 MB
RATIO = 20
_HEAD = 2**16  # bytes of a member that contain the header of an array


def allowed_bytes(stored: int) -> int:
    """Returns how many bytes may come out of a file.

    Args:
      stored: Size of the file in bytes.

    >>> allowed_bytes(1000), allowed_bytes(10**9)
    (268435456, 20000000000)
    """
    return max(FREE, RATIO * stored)


def check_size(
    where: str | Path, unpacked: int, stored: int, advice: str = "", error: type[Exception] = UserError
) -> None:
    """Raises an error if more bytes would come out of a file than `allowed_bytes` permits.

    Args:
      where: Name of the file, for the message.
      unpacked: Number of bytes that would come out.
      stored: Size of the file in bytes.
      advice: Advice to the user, the end of the message.
      error: Type of the exception.

    Raises:
      UserError: (Or `error`.) The file would unpack to too many bytes.

    >>> check_size("a.npz", 10**9, 4_700_000)
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: a.npz has 4,700,000 bytes and would unpack to 1,000,000,000, more than the 268,435,456
    that may come out of it
    """
    most = allowed_bytes(stored)
    if unpacked > most:
        raise error(
            f"{where} has {stored:,} bytes and would unpack to {_count(unpacked)}, more than the {most:,} "
            f"that may come out of it{advice and f': {advice}'}"
        )


def read_npz(file: Path | BinaryIO, where: str | Path | None = None) -> dict[str, np.ndarray]:
    """Reads the arrays of an `.npz` file; members that are not arrays are left out.

    Before anything is unpacked, the header of every array is compared with the size of its member and with the number
    of bytes that may come out of the file.

    Args:
      file: Path, or an open binary file.
      where: Name of the file for messages; its path by default.

    Returns:
      The arrays by name.

    Raises:
      UserError: The file is damaged, is no zip archive, contains objects, or claims more bytes than it has or may have.
    """
    where = str(file) if where is None else where
    arrays: dict[str, np.ndarray] = {}
    with reading(where), zipfile.ZipFile(file) as archive:
        assert archive.fp is not None  # the archive is open
        stored = archive.fp.seek(0, io.SEEK_END)
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        check_size(where, sum(_nbytes(archive, member, where) for member in members), stored, "save it with np.savez")
        for member in members:
            name = member.filename.removesuffix(".npy")
            with reading(f"{where}: {shown(name)}"), archive.open(member) as opened:
                arrays[name] = np.lib.format.read_array(opened, allow_pickle=False)
    return arrays


def _nbytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str | Path) -> int:
    """Returns the size in bytes of the array of a member, by its header."""
    place = f"{where}: {shown(member.filename.removesuffix('.npy'))}"
    with reading(place):
        with archive.open(member) as opened:
            head = io.BytesIO(opened.read(_HEAD))
        version = np.lib.format.read_magic(head)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        read_header = readers.get(version)
        if read_header is None:
            raise UserError(f"cannot read {place}: its header is of version {version}, not 1.0 or 2.0")
        shape, _, dtype = read_header(head)
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


def read_gzip(path: Path, most: int | None = None) -> bytes:
    """Returns the content of a gzip file.

    Args:
      path: File.
      most: Number of bytes that may come out of it; by default what `allowed_bytes` returns for its size.

    Raises:
      UserError: The file is truncated, damaged or no gzip file, or holds more bytes than may come out of it.
    """
    with reading(path):
        most = allowed_bytes(path.stat().st_size) if most is None else most
        with gzip.open(path) as stream:
            content = stream.read(most + 1)
        if len(content) > most:
            raise UserError(f"{path} unpacks to more than the {most:,} bytes that may come out of it")
    return content


def _count(number: int) -> str:
    """Formats a number of bytes; one with hundreds of digits as a power of ten."""
    return f"{number:,}" if abs(number) < 10**30 else f"more than 10^{int(math.log10(abs(number)))}"
