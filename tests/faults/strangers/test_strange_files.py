"""Real small files of every format with bytes of them changed, and files that say that they hold more than they may.

A reader gives what it reads, or the project's error. It starts no program, writes nothing elsewhere, and makes room for
nothing that it has not compared with the size of the file.
"""

import ast
import contextlib
import gzip
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from flax import serialization
from PIL import Image

import jaxvision
from jaxvision import unpacking
from jaxvision.commands import search
from jaxvision.data import decoding, formats, open_source, tfrecord
from jaxvision.data.decoding import BadImage, Jpeg
from jaxvision.data.host_ops import make_chain
from jaxvision.data.sources import BadExample, idx
from jaxvision.data.text import registry
from jaxvision.errors import MAX_LINE, UserError
from jaxvision.evals.store import FIELDS, Features, Store, digest
from jaxvision.models.weights import files as weights

with contextlib.suppress(ImportError):
    import h5py  # here, for it asks `uname` what machine this is

ROOT = Path(jaxvision.__file__).parent
SECONDS = 30  # of one read, on a machine that does other things too; these take milliseconds
QUICK, LONG = 25, 1500  # changed files of each format


def changed(data, count, seed):
    """So many copies of the bytes, each with a change of a kind that occurs, or that a stranger would try."""
    rng = random.Random(seed)
    for _ in range(count):
        copy, at = bytearray(data), rng.randrange(len(data))
        # The beginning and the end hold the headers of most formats.
        at = rng.choice([at, min(at, rng.randrange(64)), max(at, len(data) - 1 - rng.randrange(64))]) % len(data)
        size = rng.choice([1, 2, 4, 8, 64])
        kind = rng.randrange(7)
        if kind == 0:
            copy[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            copy[at : at + size] = rng.choice([b"\0", b"\xff", b"\x7f", b"9"]) * size
        elif kind == 2:
            copy[at : at + size] = rng.randbytes(size)
        elif kind == 3:
            del copy[at:]
        elif kind == 4:
            del copy[at : at + size]
        elif kind == 5:
            copy[at:at] = copy[max(at - 300, 0) : at] or b"\0"
        else:
            copy[at:at] = rng.randbytes(size)
        yield bytes(copy)


def picture(side=24):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (side, side + 3, 3), np.uint8))


def image(kind, **options):
    data = io.BytesIO()
    picture().save(data, kind, **options)
    return data.getvalue()


IMAGES = {
    "jpeg": image("JPEG"), "progressive": image("JPEG", progressive=True), "exif": image("JPEG", exif=Image.Exif()),
    "png": image("PNG"), "webp": image("WEBP"), "lossless": image("WEBP", lossless=True), "bmp": image("BMP"),
    "gif": image("GIF", save_all=True, append_images=[picture()]), "tiff": image("TIFF"), "ppm": image("PPM"),
    "lzw": image("TIFF", compression="tiff_lzw"), "deflate": image("TIFF", compression="tiff_deflate"),
    "jp2": image("JPEG2000"),
}  # fmt: skip


def read_image(data):
    image = decoding.read_image(data, formats.MAX_PIXELS)
    pixels = image.pixels() if isinstance(image, Jpeg) else image
    assert pixels.dtype == np.uint8


def npz_bytes(save=np.savez, **arrays):
    data = io.BytesIO()
    save(data, **arrays)
    return data.getvalue()


ARRAYS = {"a/kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(3, np.int8)}


def h5_bytes():
    pytest.importorskip("h5py")
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        group = file.create_group("model_weights").create_group("layer").create_group("layer")
        group.create_dataset("kernel:0", data=np.ones((30, 40), np.float32), compression="gzip")
        group.create_dataset("bias:0", data=np.ones(40, np.float32))
    return data.getvalue()


WEIGHTS = {
    "npz": lambda: npz_bytes(**ARRAYS), "compressed": lambda: npz_bytes(np.savez_compressed, **ARRAYS), "h5": h5_bytes,
    "safetensors": lambda: safetensors.numpy.save(ARRAYS), "msgpack": lambda: serialization.msgpack_serialize(ARRAYS),
}  # fmt: skip


def tar_bytes():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for key in ("a", "b", "ü" * 60):
            for suffix, content in (
                ("jpg", IMAGES["jpeg"]),
                ("json", b'{"label": 1, "caption": "x"}'),
                ("txt", b"words"),
            ):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def parquet_bytes():
    import pyarrow as pa
    import pyarrow.parquet

    data = io.BytesIO()
    rows = {"image": [{"bytes": IMAGES["jpeg"], "path": "a"}] * 4, "label": [0, 1, 1, 0], "text": ["a", "b", "c", "d"]}
    pyarrow.parquet.write_table(pa.table(rows), data, row_group_size=2)
    return data.getvalue()


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def cifar_pickle():
    return pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": [0, 1, 1]}, protocol=2)


def record(data):
    length = struct.pack("<Q", len(data))
    crc = lambda x: struct.pack("<I", tfrecord.masked_crc(x))
    return length + crc(length) + data + crc(data)


def of_source(kind, name, beside=None, **options):
    """Writes a file into an empty set, opens the set, and reads all of its examples."""

    def read(data):
        for file, content in ({name: data} | (beside or {})).items():
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_bytes(content)
        for file in Path().glob(".*index.npz"):
            file.unlink()
        source = open_source(kind, "train", data_dir=".", options=options)
        for i in range(min(len(source), 10)):
            try:
                make_chain("decode")(source[i], None)
            except (BadExample, BadImage, OSError):
                continue

    return read


def of_file(name, use, beside=None):
    def read(data):
        for file, content in ((beside or {}) | {name: data}).items():
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_bytes(content)
        use(Path(name))

    return read


def store_of(data):
    def use(file):
        store._file(store._folder, key).write_bytes(data)
        store.find({}, {}, "features")

    store = Store({}, ".")
    key = store._key(digest({}), {}, "features")
    use(data)


FEATURES = Features(np.ones((3, 2), np.float32), np.ones(3, np.int32), np.arange(3))
MADE_BY = {"workdir": "w", "step": 1, "variables": "v", "model": {}, "host": "decode", "augment": "", "tokenizer": None}
INDEX = dict(
    files=np.array(["a", "b"]), stamps=np.ones((2, 2), np.int64), embeddings=np.ones((2, 3), np.float32),
    model=np.array(json.dumps(MADE_BY)),
)  # fmt: skip
TEN = {f"data_batch_{i}": cifar_pickle() for i in range(1, 6)} | {"test_batch": cifar_pickle()}
NAMES = {"batches.meta": pickle.dumps({"label_names": ["a", "b"]}, protocol=2)}
MNIST = {"train-labels-idx1-ubyte": idx_bytes(np.zeros(3, np.uint8))}
TOKENIZER = {
    "version": "1.0",
    "model": {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"},
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
}
WORDS = ["a red cat on the mat", "two dogs, one ball!", "Ünïcode ≥ 3"] * 9
SPECIAL = ["[UNK]", "<pad>", "[CLS]", "[SEP]"]


def word_level():
    pytest.importorskip("tokenizers")
    return json.dumps(TOKENIZER).encode()


def bpe():
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.Replace(tokenizers.Regex("[0-9]+"), "0")
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    made.train_from_iterator(WORDS, tokenizers.trainers.BpeTrainer(vocab_size=60, special_tokens=SPECIAL))
    special = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    made.enable_padding()
    return made.to_str().encode()


def word_piece():
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = (
        tokenizers.normalizers.BertNormalizer(),
        tokenizers.pre_tokenizers.Whitespace(),
    )
    made.train_from_iterator(WORDS, tokenizers.trainers.WordPieceTrainer(vocab_size=60, special_tokens=SPECIAL))
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made.to_str().encode()


def sentencepiece_bytes():
    sentencepiece, model = pytest.importorskip("sentencepiece"), io.BytesIO()
    options = dict(vocab_size=40, hard_vocab_limit=False, normalization_rule_name="identity", minloglevel=2)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(WORDS), model_writer=model, **options)
    return model.getvalue()


OTHERS = {name: data for name, data in (TEN | NAMES).items() if name != "data_batch_1"}
CSV = b'path,label,text\na.jpg,1,"a, b"\nb.jpg,0,c\n'
LINES = b'{"path": "a.jpg", "label": 1}\n{"path": "b", "label": 0}\n'
DIGITS = idx_bytes(np.zeros((3, 4, 4), np.uint8))
KEY = Store({}, ".")._key(digest({}), {}, "features")


def tokenizer(kind, name):
    def use(file):
        made = registry.make_tokenizer(kind, path=str(file))
        ids = made(["a red cat", "Ünïcode \U0001f600" + "x" * 99, ""])
        assert 0 <= ids.min() <= ids.max() < made.vocabulary

    return of_file(name, use)


FILES = {
    **{kind: (lambda data=data: data, read_image) for kind, data in IMAGES.items()},
    **{kind: (made, of_file(f"w.{kind}", weights.read)) for kind, made in WEIGHTS.items()},
    "index": (
        lambda: b'{"weight_map": {"b": "w.safetensors"}}',
        of_file("w.index.json", weights.read, {"w.safetensors": safetensors.numpy.save(ARRAYS)}),
    ),
    "tar": (tar_bytes, of_source("webdataset", "train-0.tar")),
    "tar label": (tar_bytes, of_source("webdataset", "train-0.tar", label="label", text="caption")),
    "tar index": (
        lambda: npz_bytes(**INDEX),
        of_source("webdataset", ".train-0.tar.index.npz", {"train-0.tar": tar_bytes()}),
    ),
    "parquet": (parquet_bytes, of_source("parquet", "train.parquet")),
    "csv": (lambda: CSV, of_source("manifest", "train.csv")),
    "jsonl": (lambda: LINES, of_source("manifest", "train.jsonl")),
    "cifar python": (cifar_pickle, of_source("cifar", "data_batch_1", OTHERS)),
    "cifar names": (lambda: NAMES["batches.meta"], of_source("cifar", "batches.meta", TEN)),
    "idx": (lambda: DIGITS, of_source("idx", "train-images-idx3-ubyte", MNIST)),
    "idx gz": (lambda: gzip.compress(DIGITS), of_source("idx", "train-images-idx3-ubyte.gz", MNIST)),
    "tfrecord": (
        lambda: record(b"abc") + record(b"d" * 100),
        of_file("a.tfrecord", lambda f: list(tfrecord.read_records(f))),
    ),
    "features": (lambda: npz_bytes(key=KEY, **dict(zip(FIELDS, FEATURES))), store_of),
    "search index": (lambda: npz_bytes(**INDEX), of_file("search/index.npz", lambda file: search._load(file.parent))),
    "clip vocabulary": (lambda: gzip.compress(b"v\n" + b"a b\n" * 99), tokenizer("clip", "v.txt.gz")),
    "tokenizer.json": (word_level, tokenizer("huggingface", "tokenizer.json")),
    "bpe": (bpe, tokenizer("huggingface", "tokenizer.json")),
    "word pieces": (word_piece, tokenizer("huggingface", "tokenizer.json")),
    "sentencepiece": (sentencepiece_bytes, tokenizer("sentencepiece", "a.model")),
}


def check(read, data):
    began = time.monotonic()
    message = ""
    try:
        read(data)
    except (UserError, BadExample, BadImage) as error:
        message = str(error)
    assert max(map(len, message.split("\n"))) <= MAX_LINE
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("kind", FILES)
def test_changed_files(kind, scratch, record_property):
    made, read = FILES[kind]
    whole = made()
    if kind != "clip vocabulary":
        read(whole)  # else the changes would be of what is refused anyway
    for data in changed(whole, QUICK, kind):
        check(read, data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_many_changed_files(kind, scratch, record_property):
    made, read = FILES[kind]
    for data in changed(made(), LONG, f"long {kind}"):
        check(read, data)
    record_property("promise", "what a stranger hands over ends in the project's error")
    record_property("injections", LONG)
    for wrong in ("lost", "hung", "wrong"):
        record_property(wrong, 0)


def template(ids):
    parts = [{"SpecialToken": {"id": "X", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"X": {"id": "X", "ids": ids, "tokens": ["X"] * len(ids)}} if ids else {}
    return {"type": "TemplateProcessing", "single": parts, "pair": parts, "special_tokens": special}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": TOKENIZER["model"] | {"vocab": {"b": 0}}}, "makes no tokens of 'a'"),
        ({"model": TOKENIZER["model"] | {"vocab": {"a": 2**31, "[UNK]": 1}}}, "the id 2147483648 is too large"),
        ({"post_processor": template([9])}, "the id 9 is too large: its vocabulary has 2 ids"),
        ({"post_processor": template([])}, "makes no tokens of 'a'"),  # a panic of the library, which is no Exception
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"],
                    "continuing_subword_prefix": "a" * 8}}, "is not a tokenizer.json"),
    ],
    ids=range(5),
)  # fmt: skip
def test_tokenizers_that_were_seen_to_fail(changes, message, scratch):
    pytest.importorskip("tokenizers")
    Path("tokenizer.json").write_text(json.dumps(TOKENIZER | changes))
    with pytest.raises(UserError, match=message):
        registry.make_tokenizer("huggingface", path="tokenizer.json")


def test_ids_that_a_vocabulary_leaves_out_are_ids(scratch):
    pytest.importorskip("tokenizers")
    vocabulary = {"vocab": {"a": 0, "[UNK]": 70}}
    Path("tokenizer.json").write_text(json.dumps(TOKENIZER | {"model": TOKENIZER["model"] | vocabulary}))
    made = registry.make_tokenizer("huggingface", path="tokenizer.json")
    assert made("a b")[0, :2].tolist() == [0, 70]
    assert made.vocabulary == 71


def opened_without_formats(file):
    """Lines of a file that call Image.open without saying which formats may be tried."""
    for node in ast.walk(ast.parse(file.read_text())):
        opens = isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Image.open", "PIL.open"))
        if opens and "formats" not in [word.arg for word in node.keywords]:
            yield f"{file}:{node.lineno}"


def test_no_image_is_opened_without_saying_which_formats():
    folders = [ROOT, *(ROOT.parent / name for name in ("experiments", "benchmarks"))]
    lines = [line for folder in folders for file in folder.rglob("*.py") for line in opened_without_formats(file)]
    assert not lines


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(touch X) (w) file\nshowpage\n"


@pytest.mark.parametrize("data", [EPS, b"\xc5\xd0\xd3\xc6" + bytes(28) + EPS, b"%PDF-1.4\n", b"\n" + EPS, b"<svg/>"])
def test_bytes_of_programs_are_refused_everywhere(data, scratch):
    with pytest.raises(BadImage):
        read_image(data)
    for name in ("train/a/x.jpg", "train/a/y.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    source = open_source("folder", "train", data_dir=".")
    with pytest.raises(BadImage):
        make_chain("decode")(source[0], None)
    assert sorted(p.name for p in scratch.rglob("*") if p.is_file()) == ["x.jpg", "y.jpg"]


BOMBS = Path(__file__).with_name("bombs.py")


@pytest.mark.parametrize("size", ["small", pytest.param("full", marks=pytest.mark.slow)])
def test_what_says_that_it_holds_more_than_it_may_is_refused_before_room_is_made(tmp_path, size):
    """Each bomb is read by a process that may take 1 GB (3 GB for those of full size) beyond what it starts with."""
    done = subprocess.run(
        [sys.executable, BOMBS, size], cwd=tmp_path, capture_output=True, text=True, timeout=900,
        env={**os.environ, "PYTHONPATH": f"{ROOT.parent}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    sizes = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    assert len(sizes) >= 28
    assert not {name: words for name, words in sizes.items() if not words.startswith("refused")}


def test_the_bound_lets_pass_what_is_stored_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "FREE", 1000)
    noise = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    np.savez(tmp_path / "a.npz", a=noise, b=np.zeros(5000))
    assert np.array_equal(unpacking.read_npz(tmp_path / "a.npz")["a"], noise)
    np.savez_compressed(tmp_path / "b.npz", a=noise)
    assert np.array_equal(unpacking.read_npz(tmp_path / "b.npz")["a"], noise)
    np.savez_compressed(tmp_path / "c.npz", a=np.zeros(10**6))
    with pytest.raises(UserError, match="would unpack to 8,000,000, more than the"):
        unpacking.read_npz(tmp_path / "c.npz")
    (tmp_path / "d.gz").write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(UserError, match="unpacks to more than"):
        idx.read_idx(tmp_path / "d.gz")


def test_overlapping_members_of_a_zip_are_counted_each(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "FREE", 1000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy(np.zeros(100)))
        first = archive.infolist()[0]
        for i in range(50):  # further names for the one member
            copy = zipfile.ZipInfo(f"a{i}.npy")
            for attribute in ("header_offset", "compress_size", "file_size", "CRC"):
                setattr(copy, attribute, getattr(first, attribute))
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True
    with pytest.raises(UserError):
        unpacking.read_npz(tmp_path / "a.npz")


def npy(array):
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()
