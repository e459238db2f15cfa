"""TFRecord sets are written here by hand, from the format's description, with the records that TFDS itself wrote."""

import json
import shutil
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxvision import progress
from jaxvision.data import convert, sources, staging, tfrecord
from jaxvision.errors import UserError

N = 7


def crc32c(data: bytes) -> int:
    """The CRC of RFC 3720, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def framed(record: bytes) -> bytes:
    def masked(data):
        crc = crc32c(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)

    length = struct.pack("<Q", len(record))
    return length + masked(length) + record + masked(record)


class TinyCaptions(tfds.core.GeneratorBasedBuilder):
    """Small images with a class and captions, in two splits."""

    VERSION = tfds.core.Version("2.0.1")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="square")]

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog", "owl"]),
            "captions": tfds.features.Sequence(tfds.features.Text()),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(N), "test": self._generate_examples(2)}

    def _generate_examples(self, n):
        for i, png in enumerate(self.files[:n]):
            yield i, {"image": png, "label": i % 3, "captions": [f"one {i}", f"other {i}"]}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data_dir with the set as ArrayRecord, and the same as TFRecord: train in two shards, test in one."""
    root = tmp_path_factory.mktemp("prepared")
    TinyCaptions.files = []
    for i in range(N):
        path = root / f"{i}.png"
        noise = np.random.default_rng(i).integers(0, 256, (5, 6, 3), np.uint8)
        Image.fromarray(noise).save(path)
        TinyCaptions.files.append(path)
    tfds.disable_progress_bar()
    builder = TinyCaptions(data_dir=root / "array_record", file_format="array_record")
    builder.download_and_prepare()
    old = root / "tfrecord" / "tiny_captions" / "square" / "2.0.1"
    shutil.copytree(builder.data_path, old)
    for file in old.glob("*array_record*"):
        file.unlink()
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    train, test = (list(builder.as_data_source(s, deserialize_method=raw)) for s in ("train", "test"))
    for name, records in {
        "train.tfrecord-00000-of-00002": train[:4],
        "train.tfrecord-00001-of-00002": train[4:],
        "test.tfrecord-00000-of-00001": test,
    }.items():
        (old / f"tiny_captions-{name}").write_bytes(b"".join(map(framed, records)))
    info = json.loads((old / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    for split in info["splits"]:
        split["shardLengths"] = {"train": ["4", "3"], "test": ["2"]}[split["name"]]
    (old / "dataset_info.json").write_text(json.dumps(info))
    return root


@pytest.fixture
def old(prepared, tmp_path):
    """A copy of the TFRecord set, to be damaged."""
    return shutil.copytree(
        prepared / "tfrecord" / "tiny_captions" / "square" / "2.0.1", tmp_path / "old" / "square" / "2.0.1"
    )


def _examples(data_dir, split):
    source = sources.open_source("tiny_captions/square", split, data_dir=str(data_dir))
    return source.info, [source[i] for i in range(len(source))]


@pytest.mark.parametrize("split", ["train", "test", "train[2:6]"])
def test_the_copy_holds_the_same_examples_in_the_same_order(old, prepared, tmp_path, split):
    folder = convert.convert_set(old, tmp_path / "new")
    assert folder == tmp_path / "new" / "tiny_captions" / "square" / "2.0.1"
    assert sorted(f.name for f in folder.glob("*array_record*")) == [
        "tiny_captions-test.array_record-00000-of-00001",
        "tiny_captions-train.array_record-00000-of-00002",
        "tiny_captions-train.array_record-00001-of-00002",
    ]
    (info, examples), (expected_info, expected) = (
        _examples(tmp_path / "new", split),
        _examples(prepared / "array_record", split),
    )
    assert info == expected_info
    assert info.classes == ("cat", "dog", "owl")
    for example, wanted in zip(examples, expected, strict=True):
        assert example.keys() == wanted.keys()
        assert all(np.array_equal(example[field], wanted[field]) for field in wanted)


def test_an_interrupted_conversion_goes_on_with_the_next_shard(old, tmp_path, monkeypatch):
    damaged = old / "tiny_captions-train.tfrecord-00001-of-00002"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    target = tmp_path / "new" / "tiny_captions" / "square" / "2.0.1"
    with pytest.raises(UserError, match="truncated"):
        convert.convert_set(old, tmp_path / "new")
    assert not target.exists()
    with pytest.raises(UserError, match="not prepared"):
        sources.open_source("tiny_captions/square", "train", data_dir=str(tmp_path / "new"))
    damaged.write_bytes(whole)
    read, read_all = [], tfrecord.read_records
    monkeypatch.setattr(tfrecord, "read_records", lambda path: read.append(path) or read_all(path))
    convert.convert_set(old, tmp_path / "new")
    assert damaged in read
    assert old / "tiny_captions-train.tfrecord-00000-of-00002" not in read
    assert len(_examples(tmp_path / "new", "train")[1]) == N
    assert not list(target.glob("*.partial"))


def test_a_copy_that_is_there_is_not_overwritten(old, tmp_path):
    convert.convert_set(old, tmp_path / "new")
    with pytest.raises(UserError, match="exists already"):
        convert.convert_set(old, tmp_path / "new")


def test_what_is_left_by_another_recipe_is_not_used(tmp_path):
    left = tmp_path / "set.incomplete"
    left.mkdir()
    (left / "recipe.json").write_text(json.dumps({"quality": 95}))
    (left / "shard").write_bytes(b"")
    with staging.staged(tmp_path / "set", {"quality": 80}) as folder:
        assert [file.name for file in folder.iterdir()] == ["recipe.json"]
    assert json.loads((tmp_path / "set" / "recipe.json").read_text()) == {"quality": 80}


def test_progress_is_told_on_stderr(old, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "FIRST", 0)
    monkeypatch.setattr(progress, "BETWEEN", 0)
    convert.convert_set(old, tmp_path / "new")
    assert f"converting tiny_captions: {N + 2} of {N + 2} examples, " in capsys.readouterr().err


def test_errors_of_the_folder(old, tmp_path):
    with pytest.raises(UserError, match=r"no dataset_info.json in .*Choices below it: .*2\.0\.1"):
        convert.convert_set(old.parent, tmp_path / "new")
    shard = old / "tiny_captions-train.tfrecord-00001-of-00002"
    hidden = shard.rename(tmp_path / "hidden")
    with pytest.raises(UserError, match="1 of 3 shards are missing: .*train.tfrecord-00001"):
        convert.convert_set(old, tmp_path / "new")
    hidden.rename(shard)
    shard.write_bytes(shard.read_bytes() + framed(b"one more"))
    with pytest.raises(UserError, match="00001-of-00002 has 4 records, but dataset_info.json says 3"):
        convert.convert_set(old, tmp_path / "new")
    (old / "features.json").unlink()
    with pytest.raises(UserError, match="before 4.0"):
        convert.convert_set(old, tmp_path / "new")


def test_a_set_in_array_record_is_not_converted(prepared, tmp_path):
    with pytest.raises(UserError, match="is prepared as array_record"):
        convert.convert_set(prepared / "array_record" / "tiny_captions" / "square" / "2.0.1", tmp_path / "new")


RECORDS = [b"", b"first", b"second" * 50]
STARTS = [0, 16, 16 + 21]


@pytest.mark.parametrize("cut", [1, 15, 17, 30, 40, 352])
def test_a_truncated_file_is_named_with_the_record(tmp_path, cut):
    path = tmp_path / "shard"
    path.write_bytes(b"".join(map(framed, RECORDS)))
    assert list(tfrecord.read_records(path)) == RECORDS
    path.write_bytes(path.read_bytes()[:cut])
    start = max(s for s in STARTS if s < cut)
    with pytest.raises(UserError, match=rf"shard is truncated: the record at byte {start} continues .* byte {cut}$"):
        list(tfrecord.read_records(path))


@pytest.mark.parametrize("place", range(0, 353, 11))
def test_no_flipped_bit_goes_unseen(tmp_path, place):
    path = tmp_path / "shard"
    data = bytearray(b"".join(map(framed, RECORDS)))
    data[place] ^= 4
    path.write_bytes(data)
    start = max(s for s in STARTS if s <= place)
    with pytest.raises(UserError, match=rf"at byte {start} "):
        list(tfrecord.read_records(path))
