"""Reads files that are bombs under a limit of memory, and tells of each, on a line, whether it was refused.

Not a test by itself: `test_strange_files.py` starts it, since a limit is one of a whole process.
"""

import gzip
import io
import pickle
import resource
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from jaxvision import unpacking
from jaxvision.data import open_source, tfrecord
from jaxvision.data.decoding import BadImage
from jaxvision.data.host_ops import make_chain
from jaxvision.data.sources import BadExample, files, idx, plain_pickle
from jaxvision.errors import UserError
from jaxvision.models.weights import files as weights
from jaxvision.reading import read_json

FULL = "full" in sys.argv  # else everything is a sixteenth of the size, with a bound to match, and takes seconds
SIZE = 2**30 if FULL else 2**26
MEMORY, SECONDS = 3 * SIZE if FULL else 2**30, 30
REFUSED = UserError, BadExample, BadImage, OSError, plain_pickle.NotPlainError


def limit():
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def header(shape):
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(data, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return data.getvalue()


def zipped(name, **members):
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for member, content in members.items():
            archive.writestr(f"{member}.npy", content)
    return Path(name)


def png(width, height, *chunks):
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*c) for c in chunks) + chunk(b"IEND", b"")


def rows(width):
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(100)) + packer.flush()


def saved(kind, size, mode="RGB", **options):
    data = io.BytesIO()
    Image.new(mode, size).save(data, kind, **options)
    return data.getvalue()


def scans():
    data = saved("JPEG", (64, 64), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 5000 + b"\xff\xd9"


def sof(width, height):
    data = bytearray(saved("JPEG", (8, 8)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def tiled():
    data = bytearray(saved("TIFF", (8, 8), compression="tiff_deflate"))
    (at,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[at : at + 2])
    for i in range(count):  # StripOffsets, RowsPerStrip and StripByteCounts become those of one huge tile
        entry = at + 2 + 12 * i
        (tag,) = struct.unpack("<H", data[entry : entry + 2])
        data[entry : entry + 2] = struct.pack("<H", {273: 324, 279: 325, 278: 323}.get(tag, tag))
        if tag == 278:
            data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, 2**20)
    return bytes(data)


def written(name, data):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)
    return Path(name)


def tar(size):
    member = tarfile.TarInfo("a.json")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


def opened(kind, folder, **options):
    def read():
        source = open_source(kind, "train", data_dir=folder, options=options)
        return [make_chain("decode")(source[i], None) for i in range(2)]

    return read


def record():
    length = struct.pack("<Q", 2**60)
    return length + struct.pack("<I", tfrecord.masked_crc(length)) + b"abc"


def doubled(depth, tuples):
    value = ["a"] if not tuples else ("a",)
    for _ in range(depth):
        value = (value, value) if tuples else [value, value]
    return value


def chunked(shape):
    import h5py

    with h5py.File("w.h5", "w") as file:
        file.create_dataset("a/kernel", shape, "f4", chunks=(1024, 1024), compression="gzip")
    return Path("w.h5")


def parquet():
    import pyarrow as pa
    import pyarrow.parquet

    image = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), [bytes(2**20)])
    pyarrow.parquet.write_table(pa.table({"image": image}), "train.parquet", compression="zstd", store_schema=False)


def bombs():
    """Makes each bomb; yields its name and a function that reads it."""
    zeros = bytes(SIZE)
    packed = {
        "npz that unpacks to too much": {"a": header((SIZE // 4,)) + zeros},
        "npz of 64 TB": {"a": header((2**44,)) + b"abc"},
        "npz of 10^200 bytes": {"a": header((10**100, 10**100)) + b"abc"},
        "npz of negative sides": {"a": header((-1, 2**40)) + b"abc"},
        "npz with a huge header": {"a": b"\x93NUMPY\x02\x00" + struct.pack("<I", SIZE) + zeros},
        "many arrays that fit one by one": {f"a{i}": header((SIZE // 20,)) + bytes(SIZE // 5) for i in range(6)},
    }
    for number, (name, members) in enumerate(packed.items()):
        yield name, partial(weights.read, zipped(f"{number}.npz", **members))
    inside = gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", SIZE) + zeros)
    yield "gzip that unpacks to too much", partial(idx.read_idx, written("i.gz", inside))
    yield "JSON that is nested deep", partial(read_json, written("deep.json", b"[" * 10**6), list)
    yield "JSON that is large", partial(read_json, written("large.json", b" " * 2**27 + b"{}"))
    entry = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    yield "safetensors of 4 TB", partial(weights.read, written("w.safetensors", struct.pack("<Q", len(entry)) + entry))
    yield "TFRecord of 2^60 bytes", lambda: list(tfrecord.read_records(written("a.tfrecord", record())))
    yield "h5 of 4 TB in no chunks", partial(weights.read, chunked((2**20, 2**20)))
    text = b"a\0\0" + zlib.compress(zeros, 9)
    bodies = {
        "png of 2^31 pixels": png(65536, 32768, (b"IDAT", rows(1000))),
        "png of 81 million pixels": png(9000, 9000, (b"IDAT", rows(9000))),
        "png with a huge text": png(4, 4, (b"zTXt", text), (b"IDAT", rows(4)[:3])),
        "png with a huge profile": png(4, 4, (b"iCCP", text), (b"IDAT", rows(4)[:3])),
        "jpeg of 4 billion pixels": sof(65500, 65500),
        "jpeg of 5,000 scans": scans(),
        "gif of 4 billion pixels": saved("GIF", (8, 8), "P").replace(b"\x08\0\x08\0", b"\xff\xff\xff\xff"),
        "tiff of a huge tile": tiled(),
    }
    for name, data in bodies.items():
        yield name, partial(make_chain("decode"), {"image": data}, None)
    yield "pickle of 2^60 lists", partial(plain, pickle.dumps(doubled(60, tuples=False), 2))
    key = pickle.dumps(doubled(60, tuples=True), 2)[2:-1]
    yield "pickle with a key of 2^60 tuples", partial(plain, b"\x80\x02}" + key + b"K\x01s.")
    yield "pickle of a million marks", partial(plain, b"\x80\x02" + b"]" * 10**6 + b"(t" * 10**6 + b"c")
    yield "pattern of 10^12 files", partial(files.expand_braces, "a-{0..999999999999}.tar")
    yield "pattern of 10^30 files", partial(files.expand_braces, "{a,b,c,d,e,f,g,h,i,j}" * 30)
    written("t/train-0.tar", tar(2**40))
    yield "tar member of a TB", opened("webdataset", "t", label="x")
    written("u/train-0.tar", tar(2**27) + bytes(2**27))
    yield "JSON member that is large", opened("webdataset", "u", label="x")
    parquet()
    yield "parquet of one image 200,000 times", opened("parquet", ".")


def plain(data):
    """It may be loaded, since its lists are each one thing in many places; then it is quick."""
    plain_pickle.load_plain(data)
    raise UserError("it is plain data")


def main():
    if not FULL:
        unpacking.FREE = SIZE // 4
    made = list(bombs())
    limit()
    for name, read in made:
        began = time.monotonic()
        try:
            read()
            outcome = "read"
        except REFUSED as error:
            outcome = f"refused: {str(error)[:200]!r}"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {str(error)[:200]!r}"
        seconds = time.monotonic() - began
        print(name, outcome if seconds < SECONDS else f"took {seconds:.0f} s", sep="\t", flush=True)


if __name__ == "__main__":
    main()
