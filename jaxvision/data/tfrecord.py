"""Reads the records of a TFRecord file without TensorFlow."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from jaxvision.errors import UserError

_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")


def read_records(path: str | Path) -> Iterator[bytes]:
    """Yields the records of a file, verified by their checksums.

    Format: TensorFlow, core/lib/io/record_writer.h. A record is its length (uint64), a masked CRC-32C of the length,
    the data, and a masked CRC-32C of the data; all little-endian.

    Args:
      path: File.

    Raises:
      UserError: The file is truncated or damaged; the message names the file and the byte where the record starts.
    """
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        while header := file.read(_HEADER.size):
            start = file.tell() - len(header)
            if len(header) < _HEADER.size:
                raise _truncated(path, start, end)
            length, check = _HEADER.unpack(header)
            if check != masked_crc(header[:8]):
                raise UserError(f"{path}: at byte {start} there is no record, or a damaged one (the length is wrong)")
            if length > end - file.tell() - _FOOTER.size:
                raise _truncated(path, start, end)
            data, footer = file.read(length), file.read(_FOOTER.size)
            if _FOOTER.unpack(footer)[0] != masked_crc(data):
                raise UserError(f"{path}: the record at byte {start} is damaged (its checksum is wrong)")
            yield data


def masked_crc(data: bytes) -> int:
    """Returns the CRC-32C of some bytes, rotated by 15 bits and shifted by a constant.

    TensorFlow masks checksums in this way so that checksums of data that contains checksums stay useful.

    Args:
      data: Bytes of any length.

    >>> hex(masked_crc(b"123456789"))  # the CRC-32C is 0xe3069283
    '0xc78ab0e5'
    """
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _truncated(path: str | Path, start: int, end: int) -> UserError:
    return UserError(f"{path} is truncated: the record at byte {start} continues after the end at byte {end}")
