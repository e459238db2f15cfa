"""What every source does with every kind of bad input. The table of docs/data.md is made by this test."""

import gzip
import io
import logging
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxvision.data import sources
from jaxvision.data.reader import Reader
from jaxvision.errors import UserError

KINDS = ("missing", "truncated", "wrong type", "wrong encoding", "empty", "duplicate", "unreadable", "passed over")
GOOD = 4  # examples of a set before something is done to it
DOCS = Path(__file__).parents[3] / "docs" / "data.md"


class Maker:
    """Makes a small set of one kind of source, and does one bad thing to it."""

    def __init__(self, root, encode, photo, monkeypatch):
        self.root, self.monkeypatch = root, monkeypatch
        self.pictures = [encode(photo(i, 8, 8)) for i in range(GOOD)]
        self.options: dict = {}

    def write(self, name, content=b""):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def refuse(self, path):
        """From now on the file cannot be opened, as without the right to read it."""
        real = open

        def refused(file, *args, **kwargs):
            if str(file) == str(path):
                raise PermissionError(13, "Permission denied", str(path))
            return real(file, *args, **kwargs)

        self.monkeypatch.setattr("builtins.open", refused)

    # Each of these makes a good set; the bad things follow, one method a cell: what is done, and what must be named.

    def folder(self):
        return [self.write(f"train/{'ab'[i % 2]}/{i}.png", picture) for i, picture in enumerate(self.pictures)]

    def manifest(self, lines=(), header="path,label,text"):
        for i, picture in enumerate(self.pictures):
            self.write(f"{i}.png", picture)
        rows = [f"{i}.png,{i % 2},a text" for i in range(GOOD)]
        return self.write("train.csv", "\n".join([header, *rows, *lines]) + "\n")

    def webdataset(self, extra=(), without=(), change=None):
        members = [(f"{i}.png", p) for i, p in enumerate(self.pictures)]
        members += [(f"{i}.cls", str(i % 2).encode()) for i in range(GOOD)]
        members += [(f"{i}.txt", b"a text") for i in range(GOOD)]
        members = [(name, (change or {}).get(name, data)) for name, data in sorted(members) if name not in without]
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, data in [*members, *extra]:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return self.write("train-0.tar", file.getvalue())

    def parquet(self, images=None, labels=None, texts=None, name="train-0.parquet"):
        table = pa.table(
            {
                "image": [{"bytes": x, "path": None} for x in images or self.pictures],
                "label": labels or [i % 2 for i in range(GOOD)],
                "text": texts or ["a text"] * GOOD,
            }
        )
        path = self.write(name)
        pq.write_table(table, path)
        return path

    def cifar(self):
        records = np.random.default_rng(0).integers(0, 10, (5, 3073), np.uint8)
        self.write("batches.meta.txt", "\n".join(f"c{i}" for i in range(10)))
        return [self.write(f"data_batch_{i + 1}.bin", record.tobytes()) for i, record in enumerate(records)]

    def idx(self, labels=(0, 1, 0, 1), images=GOOD):
        def encoded(array):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            return gzip.compress(header + array.tobytes())

        self.write("train-labels-idx1-ubyte.gz", encoded(np.array(labels, np.uint8)))
        return self.write("train-images-idx3-ubyte.gz", encoded(np.zeros((images, 5, 5), np.uint8)))


def half(path):
    os.truncate(path, path.stat().st_size // 2)


def remove(path):
    path.unlink()


# (source, kind) -> what is done to a good set; returns the words that the message must hold, or None where nothing
# needs to be said.
def _folder(kind, m):
    first, *_ = m.folder()
    if kind == "missing":
        remove(first)
        first.symlink_to(m.root / "gone.png")
    elif kind == "truncated":
        half(first)
    elif kind == "wrong type":
        m.write("train/a/0.png", "<html>")
    elif kind == "wrong encoding":  # the name of a class folder, composed in another way
        m.write("train/caf\u00e9/1.png", m.pictures[0])
        m.write("train/cafe\u0301/2.png", m.pictures[0])
        return None
    elif kind == "empty":
        m.write("train/a/0.png")
    elif kind == "duplicate":  # the same picture twice
        m.write("train/a/9.png", m.pictures[0])
        return None
    elif kind == "unreadable":
        m.refuse(first)
    elif kind == "passed over":
        m.write("train/a/0.heic")
        return "train/a/0.heic"
    return "a/0.png"


def _manifest(kind, m):
    if kind == "duplicate":
        m.manifest(["0.png,0,another"])
        return "0.png"
    if kind == "wrong type":
        m.manifest(["4.png,1.5,a text"])
        return "train.csv:6"
    m.manifest()
    if kind == "missing":
        remove(m.root / "0.png")
    elif kind == "truncated":
        half(m.root / "0.png")
    elif kind == "wrong encoding":
        (m.root / "train.csv").write_bytes("path,label,text\n0.png,0,caf\u00e9\n".encode("latin-1"))
        return "train.csv is not UTF-8 (byte 27, line 2)"
    elif kind == "empty":
        m.write("0.png")
    elif kind == "unreadable":
        m.refuse(m.root / "0.png")
    elif kind == "passed over":
        m.write("train_old.jsonl.json")
        return "train_old.jsonl.json"
    return "0.png"


def _webdataset(kind, m):
    if kind == "missing":
        m.webdataset(without=["1.png"])
    elif kind == "truncated":
        half(m.webdataset())
    elif kind == "wrong type":
        m.webdataset(change={"1.cls": b"cat"})
    elif kind == "wrong encoding":
        m.webdataset(change={"1.txt": "caf\u00e9".encode("latin-1")})
    elif kind == "empty":
        m.webdataset(change={"1.png": b""})
    elif kind == "duplicate":
        m.webdataset(extra=[("1.png", m.pictures[0])])
        return "1.png"
    elif kind == "unreadable":
        m.webdataset()
        (m.root / "train-1.tar").mkdir()
        return "train-1.tar"
    elif kind == "passed over":
        m.webdataset(extra=[("1.npy", b"")])
        return "1.npy"
    return "train-0.tar"


def _parquet(kind, m):
    if kind == "missing":
        m.parquet(images=[None, *m.pictures[1:]])
    elif kind == "truncated":
        half(m.parquet())
    elif kind == "wrong type":
        m.parquet(labels=[0, 1, 0.5, 1])
    elif kind == "wrong encoding":
        m.parquet(texts=[b"a", b"caf\xe9", b"a", b"a"])
    elif kind == "empty":
        m.parquet(images=[b"", *m.pictures[1:]])
    elif kind == "duplicate":
        m.parquet(images=[m.pictures[0]] * GOOD)
        return None
    elif kind == "unreadable":
        m.parquet()
        (m.root / "train-1.parquet").mkdir()
        return "train-1.parquet"
    elif kind == "passed over":
        m.parquet()
        m.write("train.arrow")
        return "train.arrow"
    return "train-0.parquet"


def _cifar(kind, m):
    files = m.cifar()
    if kind == "missing":
        remove(files[1])
    elif kind == "truncated":
        half(files[1])
    elif kind == "wrong type":
        m.write("data_batch_2.bin", bytes([99]) + bytes(3072))
        return "label 99"
    elif kind == "wrong encoding":
        m.write("batches.meta.txt", "caf\u00e9".encode("latin-1"))
        return "batches.meta.txt is not UTF-8"
    elif kind == "empty":
        m.write("data_batch_2.bin")
    elif kind == "unreadable":
        remove(files[1])
        files[1].mkdir()
    else:
        return False
    return "data_batch_2.bin"


def _idx(kind, m):
    images = m.idx()
    if kind == "missing":
        remove(images)
        return "train-images-idx3-ubyte"
    if kind == "truncated":
        half(images)
    elif kind == "wrong type":
        m.write(images.name, (m.root / "train-labels-idx1-ubyte.gz").read_bytes())
    elif kind == "wrong encoding":
        m.write("names.txt", "caf\u00e9".encode("latin-1"))
        m.options = {"classes": "names.txt"}
        return "names.txt is not UTF-8"
    elif kind == "empty":
        m.write(images.name)
    elif kind == "unreadable":
        m.refuse(images)
    else:
        return False
    return images.name


MAKERS = {
    "folder": _folder,
    "manifest": _manifest,
    "webdataset": _webdataset,
    "parquet": _parquet,
    "cifar": _cifar,
    "idx": _idx,
}


def outcome(name, root, options, caplog) -> tuple[str, str]:
    """What happens when a set is opened and read whole, and what was said."""
    with caplog.at_level(logging.WARNING):
        try:
            source = sources.open_source(name, "train", data_dir=str(root), options=options)
        except UserError as error:
            return "error", str(error)
        messages = caplog.text
        fields = [f for f in ("image", "label") if f == "image" or source.info.num_classes]
        host = "decode"
        if name in ("manifest", "webdataset", "parquet"):
            host, fields = "decode|tokenize('bytes', 8)", [*fields, "tokens"]
        reader = Reader(source, host, fields, max_bad_fraction=1.0)
        read = [reader.read(i, 0, 0)[1] for i in range(len(source))]
    if read.count(False):
        assert read.count(False) == 1
        return "bad example", caplog.text
    return ("warning" if messages else "read"), messages


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MAKERS)
def test_the_table_of_the_docs(name, kind, tmp_path, encode, photo, monkeypatch, caplog):
    maker = Maker(tmp_path, encode, photo, monkeypatch)
    place = MAKERS[name](kind, maker)
    if place is False:
        in_table = "-"
    else:
        in_table, messages = outcome(name, tmp_path, maker.options, caplog)
        assert place is None or place in messages
        assert (in_table == "read") == (place is None)
    assert table()[name][kind] == in_table


def table() -> dict[str, dict[str, str]]:
    """The cells of the table in docs/data.md, by source and kind."""
    lines = DOCS.read_text().splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("| source | missing"))
    kinds = [cell.strip() for cell in lines[header].split("|")[2:-1]]
    assert tuple(kinds) == KINDS
    rows = {}
    for line in lines[header + 2 :]:
        if not line.startswith("|"):
            break
        first, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
        rows[first.strip("`")] = dict(zip(kinds, cells))
    return rows
