import gzip
import io
import json
import os
import pickle
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxvision.data import sources
from jaxvision.data.reader import Reader
from jaxvision.data.sources import tar_index
from jaxvision.errors import UserError


def write_tar(file, members, **options):
    """A tar of (name, bytes)."""
    with tarfile.open(file, "w", **options) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def open_shards(root, split="train", **options):
    return sources.open_source("webdataset", split, data_dir=str(root), options=options)


@pytest.fixture
def shards(tmp_path, encode, photo):
    """Seven training examples in two shards and two for validation, with a text and a class name each."""
    pictures = [encode(photo(i), "JPEG") for i in range(9)]

    def members(numbers):
        for i in numbers:
            yield f"{i:04d}.jpg", pictures[i]
            yield f"{i:04d}.txt", f"caption {i}".encode()
            yield f"{i:04d}.cls", ["cat", "dog", "owl"][i % 3].encode()

    for name, numbers in {"train-0": range(4), "train-1": range(4, 7), "val-0": range(7, 9)}.items():
        write_tar(tmp_path / f"{name}.tar", members(numbers))
    return tmp_path, pictures


def test_examples_come_in_the_order_of_the_shards(shards):
    root, pictures = shards
    source = open_shards(root)
    assert source.info._replace(fields={}) == sources.Info(root.name, "train", 7, ("cat", "dog", "owl"), 3)
    for i in range(7):
        assert source[i] == {"image": pictures[i], "label": i % 3, "text": f"caption {i}"}
    assert source.labels.tolist() == [i % 3 for i in range(7)]
    assert source.describe(5) == f"0005 in {root / 'train-1.tar'}"


def test_slices_and_sums_of_splits(shards):
    root, _ = shards
    assert [e["text"] for e in map(open_shards(root, "train[3:5]+val[-1:]").__getitem__, range(3))] == [
        "caption 3",
        "caption 4",
        "caption 8",
    ]


def test_classes_are_those_of_all_splits(shards):
    root, _ = shards
    validation = open_shards(root, "val")
    assert (validation.info.num_classes, validation.labels.tolist()) == (3, [1, 2])  # there is no cat in it
    (root / "names.txt").write_text("owl\ndog\ncat\n")
    assert open_shards(root, "val", classes="names.txt").labels.tolist() == [1, 0]
    with pytest.raises(UserError, match=r"0000 in .*: the label 'cat' is none of the 2 classes"):
        open_shards(root, classes=("dog", "owl"))


def test_the_webdataset_library_writes_and_groups_alike(tmp_path, encode, photo):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "train-0.tar"), encoder=False) as writer:
        for i in range(5):
            image = encode(photo(i), "JPEG")
            texts = json.dumps({"captions": [f"a {i}", f"b {i}"], "class_id": i}).encode()
            writer.write({"__key__": f"part.d/x{i}", "jpg": image, "json": texts, "seg.png": b"mask"})
    source = open_shards(tmp_path, text="captions", label="class_id")
    theirs = list(webdataset.WebDataset(str(tmp_path / "train-0.tar"), shardshuffle=False))
    assert len(source) == len(theirs) == 5
    for i, their in enumerate(theirs):
        fields = json.loads(their["json"])
        assert source[i] == {"image": their["jpg"], "label": fields["class_id"], "text": tuple(fields["captions"])}
        assert source.describe(i).startswith(their["__key__"])


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_longer_than_a_header_and_other_alphabets(tmp_path, kind):
    name = "ä" * 60 + "/" + "x" * 150
    write_tar(tmp_path / "train-0.tar", [(f"{name}.png", b"1"), (f"{name}.txt", b"one")], format=kind)
    source = open_shards(tmp_path)
    assert source[0] == {"image": b"1", "text": "one"}
    assert source.describe(0).startswith(name)


def test_patterns_of_shards(shards):
    root, _ = shards
    assert len(open_shards(root, shards="{split}-{0..1}.tar")) == 7
    assert len(open_shards(root, "a", shards=dict(a="train-1.tar", b="val-*.tar"))) == 3
    with pytest.raises(UserError, match=r"no train-2\.tar in"):
        open_shards(root, "a", shards=dict(a="train-{0..2}.tar"))
    with pytest.raises(UserError, match=r"write \{split\} in it"):
        open_shards(root, shards="train-*.tar")
    with pytest.raises(UserError, match="which has train, val"):
        open_shards(root, "validation")


def test_the_index_is_kept_until_the_shard_changes(shards, monkeypatch):
    root, _ = shards
    built = []
    build = tar_index.build_index
    monkeypatch.setattr(tar_index, "build_index", lambda tar, layout: built.append(tar.name) or build(tar, layout))
    open_shards(root, classes=("cat", "dog", "owl"))
    assert built == ["train-0.tar", "train-1.tar"]
    open_shards(root, classes=("cat", "dog", "owl"))
    assert len(built) == 2
    write_tar(root / "train-1.tar", [("new.jpg", b"?"), ("new.txt", b"new"), ("new.cls", b"owl")])
    source = open_shards(root, classes=("cat", "dog", "owl"))
    assert built[2:] == ["train-1.tar"]
    assert (len(source), source[4]["text"]) == (5, "new")
    assert not [f for f in os.listdir(root) if not f.endswith((".tar", ".npz"))], "a temporary file was left"


def test_a_folder_that_cannot_be_written(shards, tmp_path_factory, monkeypatch):
    root, _ = shards
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("JAXVISION_DATA", str(cache))
    save = tar_index._save

    def read_only(place, *rest):
        if place.parent == root:
            raise PermissionError(place)
        save(place, *rest)

    monkeypatch.setattr(tar_index, "_save", read_only)
    assert len(open_shards(root)) == 7
    monkeypatch.setattr(tar_index, "build_index", None)
    assert len(open_shards(root)) == 7
    assert not list(root.glob(".*"))
    assert list(cache.rglob("*.npz"))


@pytest.mark.parametrize("keep", ["half of a member", "whole members, no end", "half of a header", "nothing"])
def test_a_truncated_shard_is_named(shards, keep):
    root, _ = shards
    tar = root / "train-1.tar"
    with tarfile.open(tar) as archive:
        second = archive.getmembers()[3]
    size = {"half of a member": second.offset_data + 100, "whole members, no end": second.offset}.get(keep, 0)
    os.truncate(tar, second.offset + 100 if keep == "half of a header" else size)
    with pytest.raises(UserError, match=r"train-1\.tar is truncated"):
        open_shards(root)


def test_a_compressed_shard_is_refused(shards):
    root, _ = shards
    with open(root / "train-0.tar", "rb") as tar, gzip.open(root / "packed-0.tar.gz", "wb") as packed:
        shutil.copyfileobj(tar, packed)
    with pytest.raises(UserError, match="is compressed, so has no random access"):
        open_shards(root, "packed", shards="{split}-*.tar.gz")
    os.rename(root / "packed-0.tar.gz", root / "train-0.tar")
    with pytest.raises(UserError, match=r"train-0\.tar is truncated, damaged or no tar"):
        open_shards(root)


def test_examples_that_lack_something(tmp_path, encode, photo, caplog):
    picture = encode(photo(0), "JPEG")
    whole = [(f"{i}.{e}", data) for i in range(3) for e, data in (("jpg", picture), ("txt", b"words"))]
    write_tar(tmp_path / "train-0.tar", [*whole, ("3.txt", b"no image"), ("4.jpg", picture)])
    source = open_shards(tmp_path)
    host = "decode|resize(8)"
    reader = Reader(source, host, ["image"], max_bad_fraction=0.4)
    assert [reader.read(i, 0, i)[1] for i in range(5)] == [True, True, True, False, False]
    for words in ("cannot read 3 in", "no image member", "cannot read 4 in", "no text member"):
        assert words in caplog.text


def test_labels_that_are_missing(tmp_path):
    write_tar(tmp_path / "train-0.tar", [("0.jpg", b"0"), ("0.cls", b"7"), ("1.jpg", b"1")])
    with pytest.raises(UserError, match=r"1 examples of .*train-0\.tar lack a \.cls member, such as 1"):
        open_shards(tmp_path)
    write_tar(tmp_path / "train-0.tar", [("0.jpg", b"0"), ("0.json", b'{"class_id": 3}')])
    with pytest.raises(UserError, match="lack the key 'class' in a .json member"):
        open_shards(tmp_path, label="class")
    assert open_shards(tmp_path, label="class_id").labels.tolist() == [3]


def test_damaged_json(tmp_path, caplog):
    members = [("0.jpg", b"0"), ("0.json", b'{"text": "a"'), ("1.jpg", b"1"), ("1.json", b'{"text": "b"}')]
    write_tar(tmp_path / "train-0.tar", members)
    with pytest.raises(UserError, match=r"0\.json in .*train-0\.tar is not JSON"):
        open_shards(tmp_path, label="text")
    source = open_shards(tmp_path, text="text")
    assert source[1]["text"] == "b"
    with pytest.raises(sources.BadExample, match="JSON"):
        source[0]


@pytest.mark.parametrize("damage", [b"", b"PK no zip", "half", "flipped", "stamp alone"])
def test_a_damaged_index_is_made_anew(shards, damage):
    root, _ = shards
    before = open_shards(root).labels
    kept = root / ".train-1.tar.index.npz"
    data = kept.read_bytes()
    if damage == "stamp alone":
        with np.load(kept) as arrays:
            stamp = arrays["stamp"]
        np.savez(kept, stamp=stamp)
    else:
        middle = len(data) // 2
        flipped = data[: middle - 50] + bytes(100) + data[middle + 50 :]
        kept.write_bytes({"half": data[:middle], "flipped": flipped}.get(damage, damage))
    np.testing.assert_array_equal(open_shards(root).labels, before)
    assert kept.read_bytes()[:300] == data[:300]


def test_many_open_a_set_at_once(shards):
    root, _ = shards
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: len(open_shards(root)), range(16))) == {7}
    assert sorted(p.name for p in root.glob(".*")) == [f".{n}.tar.index.npz" for n in ("train-0", "train-1", "val-0")]


def test_captions_that_are_none(tmp_path):
    texts = {"0": b"", "1": b" \n", "2": b"caf\xe9", "3": "\ufeffk\u00e4se".encode(), "4": b"a"}
    write_tar(tmp_path / "train-0.tar", [m for k, t in texts.items() for m in ((f"{k}.jpg", b"."), (f"{k}.txt", t))])
    source = open_shards(tmp_path)
    for index, words in enumerate(["no caption", "no caption", r"its text member is not UTF-8 \(byte 3"]):
        with pytest.raises(sources.BadExample, match=words):
            source[index]
    assert [source[i]["text"] for i in (3, 4)] == ["k\u00e4se", "a"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'["a"]', "holds \\['a'\\], not an object"),
        (b"null", "holds None"),
        (b"\xff\xfe{", "is UTF-16, not UTF-8"),
        (b"[" * 100_000, "read as JSON|is not JSON|recursion"),
        (b'{"captions": "a"}', "has no 'caption'; did you mean 'captions'"),
        (b'{"caption": null}', "no caption"),
        (b'{"caption": ["", " "]}', "no caption"),
        (b'{"caption": 7}', "holds 7, which is not a text"),
        (b'{"caption": {"en": "a"}}', "not a text"),
    ],
)
def test_json_that_is_not_what_it_should_be(tmp_path, content, words):
    write_tar(tmp_path / "train-0.tar", [("0.jpg", b"."), ("0.json", content)])
    with pytest.raises(sources.BadExample, match=words):
        open_shards(tmp_path, text="caption")[0]


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("json", b"[3]", "1.json in .*train-0.tar holds \\[3\\], not an object"),
        ("json", b"\xe9", "1.json in .* is not UTF-8"),
        ("json", b'{"kind": null}', "1 in .*train-0.tar: the label is missing"),
        ("json", b'{"kind": 1.5}', "1 in .*train-0.tar: the label 1.5 is neither"),
        ("json", b'{"kind": true}', "1 in .*: the label True is neither"),
        ("json", b'{"kind": {"id": 1}}', "1 in .*: the label {'id': 1} is neither"),
        ("json", b'{"kind": [[1]]}', "1 in .*: the label \\[1\\] is neither"),
        ("json", b'{"kind": "cat"}', "the labels mix"),
        ("json", b'{"kinds": 1}', "lack the key 'kind' in a .json member; did you mean 'kinds'"),
        ("cls", b"", "1 in .*: the label is missing"),
        ("cls", b"\xff\xfe1\0", "1.cls in .* is UTF-16"),
        ("cls", b"-1", "1 in .*: the label '-1' is negative"),
    ],
)
def test_labels_that_are_none_are_named_with_their_place(tmp_path, member, content, words):
    whole = b'{"kind": 2.0}' if member == "json" else b"2\n"
    members = [(f"{i}.{e}", d) for i, c in enumerate([whole, content]) for e, d in (("jpg", b"."), (member, c))]
    write_tar(tmp_path / "train-0.tar", members)
    label = "kind" if member == "json" else None
    with pytest.raises(UserError, match=words):
        open_shards(tmp_path, label=label)
    write_tar(tmp_path / "train-0.tar", members[:2])
    assert open_shards(tmp_path, label=label).labels.tolist() == [2]


def test_a_pointer_of_git_lfs(tmp_path):
    (tmp_path / "train-0.tar").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="git lfs pull"):
        open_shards(tmp_path)


def test_lists_of_labels(tmp_path):
    rows = [["owl", "cat"], [], ["dog"]]
    members = [
        m for i, tags in enumerate(rows) for m in ((f"{i}.png", b"."), (f"{i}.json", json.dumps({"t": tags}).encode()))
    ]
    write_tar(tmp_path / "train-0.tar", members)
    source = open_shards(tmp_path, label="t")
    assert (source.info.classes, source.info.multi_label) == (("cat", "dog", "owl"), True)
    assert source.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert source[0]["label"].tolist() == [1, 0, 1]


def test_read_by_many_threads_and_by_a_copy(shards):
    root, pictures = shards
    source = open_shards(root)
    with ThreadPoolExecutor(8) as pool:
        images = pool.map(lambda i: source[i % 7]["image"], range(200))
        assert all(image == pictures[i % 7] for i, image in enumerate(images))
    assert pickle.loads(pickle.dumps(source))[6] == source[6]


def test_ucm_captions(shared, tmp_path):
    for name in ("train-00000.tar", "train-00001.tar", "val-00000.tar"):
        os.symlink(shared(f"ucm_captions/{name}"), tmp_path / name)
    source = open_shards(tmp_path, text="captions", label="class")
    assert (len(source), source.info.num_classes) == (840, 21)
    assert {len(source[i]["text"]) for i in range(0, 840, 60)} == {5}
    image, _ = Reader(source, "decode", ["image", "label"]).read(500, 0, 0)
    assert image["image"].shape == (224, 224, 3)
    numbers = open_shards(tmp_path, label="class_id")
    assert len(set(zip(numbers.labels.tolist(), source.labels.tolist()))) == 21  # numbers and names agree
