"""Which members of tar shards are read, and what is said of the others."""

import io
import os
import tarfile

import pytest

from jaxvision.data import sources
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
def shards(tmp_path):
    """Two shards for training with two examples each."""
    for shard in range(2):
        members = [(f"{shard}{i}.{suffix}", b"1") for i in range(2) for suffix in ("jpg", "txt", "cls")]
        write_tar(tmp_path / f"train-{shard}.tar", members)
    return tmp_path


def test_of_two_members_of_one_kind_the_other_is_counted(tmp_path, caplog):
    write_tar(tmp_path / "train-0.tar", [("0.jpg", b"jpg"), ("0.png", b"png"), ("0.txt", b"old"), ("0.txt", b"new")])
    assert open_shards(tmp_path)[0] == {"image": b"jpg", "text": "new"}  # as tar itself, which appends to replace
    assert (
        "second image of its example: 1 (0.png); replaced by a later member of the same name: 1 (0.txt)" in caplog.text
    )
    source = open_shards(tmp_path, image=("png", "jpg"))
    assert source[0]["image"] == b"png"
    assert source.passed_over.as_dict()["second image of its example"] == (1, ["0.jpg"])


def dotted(name, count=3):
    """Members whose names are `name` with a number and an extension."""
    return [(name.format(i) + e, f"{i}{e}".encode()) for i in range(count) for e in (".png", ".txt")]


def test_names_with_dots_are_counted_and_an_option_reads_them(tmp_path, caplog):
    write_tar(tmp_path / "train-0.tar", [*dotted("{:04d}"), *dotted("at 1.5 km, {}"), *dotted("d.ir/x{}.v2")])
    assert len(open_shards(tmp_path)) == 3
    assert "passes over: suffix (all after the first dot) that is not read" in caplog.text
    assert "dot='last'" in caplog.text
    assert ": 12 (at 1.5 km, 0.png, at 1.5 km, 0.txt, at 1.5 km, 1.png, ...)" in caplog.text
    source = open_shards(tmp_path, dot="last")
    assert not source.passed_over
    assert [source[i]["text"] for i in range(9)] == [f"{i}.txt" for i in range(3)] * 3
    assert source.describe(8).startswith("d.ir/x2.v2 in ")


def test_suffixes_of_several_words(tmp_path, caplog):
    members = [(f"s{i}.{e}", data) for i in range(3) for e, data in {"input.JPG": b"i", "outputs.txt": b"o"}.items()]
    write_tar(tmp_path / "train-0.tar", [*members, ("s0.target.jpg", b"t"), ("s0.caption", b"c"), ("s0.npy", b"n")])
    with pytest.raises(
        UserError,
        match=r"hold no example; passed over: suffix .* is not read; give dot.*: 7 \(s0\.input\.JPG.*: 2 \(s0\.caption",
    ):
        open_shards(tmp_path)
    source = open_shards(tmp_path, image="input.jpg", text="outputs.txt")
    assert [source[i] for i in range(3)] == [{"image": b"i", "text": "o"}] * 3
    assert len(source.passed_over) == 3
    assert "s0.target.jpg" in str(source.passed_over)
    assert open_shards(tmp_path, image=("target.jpg", "input.jpg"), text=".caption")[0] == {"image": b"t", "text": "c"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(image=3), "image must be a text or a list of texts"),
        (dict(image=()), "image is a suffix of members"),
        (dict(text=("captions", "txt")), "one key of the .json members, or suffixes"),
        (dict(dot="lsat"), "did you mean 'last'"),
        (dict(dot="last", image="input.jpg"), "no suffix has a dot in it, but image has 'input.jpg'"),
        (dict(label=3), "label must be a text or None"),
    ],
)
def test_options_that_make_no_sense(shards, options, message):
    with pytest.raises(UserError, match=message):
        open_shards(shards, **options)


def test_what_is_no_member_of_an_example_is_counted(tmp_path):
    names = [
        "._0.jpg",
        "a/.hidden.png",
        "__MACOSX/0.jpg",
        "b/__MACOSX/x/0.png",
        "0.jpg",
        "0.seg.png",
        "0.pyd",
        "LICENSE",
    ]
    write_tar(tmp_path / "train-0.tar", [(name, b"x") for name in names])
    with tarfile.open(tmp_path / "train-0.tar", "a") as archive:
        for name, kind in {"1.jpg": tarfile.LNKTYPE, "2.jpg": tarfile.SYMTYPE, "folder": tarfile.DIRTYPE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "0.jpg"
            archive.addfile(info)
    source = open_shards(tmp_path)
    assert len(source) == 1
    counted = {reason.split(",")[0]: names for reason, (_, names) in source.passed_over.as_dict().items()}
    assert counted == {
        "hidden": names[:3],
        "suffix (all after the first dot) that is not read; give dot='last' where the dots belong to the names": [
            "0.seg.png"
        ],
        "suffix that is not read": ["0.pyd", "LICENSE"],
        "link or special file": ["1.jpg", "2.jpg"],
    }
    assert len(source.passed_over) == 9
    again = open_shards(tmp_path)  # from the index that is kept
    assert again.passed_over.as_dict() == source.passed_over.as_dict()


def test_members_without_an_image_need_no_label(tmp_path):
    members = [("0.jpg", b"0"), ("0.cls", b"1"), ("README.txt", b"words"), ("info.json", b"{}")]
    write_tar(tmp_path / "train-0.tar", members)
    source = open_shards(tmp_path)
    assert source.labels.tolist() == [1]
    assert source.passed_over.as_dict() == {"example without image and label": (2, ["README.txt", "info.json"])}


def test_labels_in_some_shards_alone(shards):
    root = shards
    write_tar(root / "train-1.tar", [("9.jpg", b"9")])
    with pytest.raises(UserError, match=r"some shards in .* others like .*train-1\.tar have none"):
        open_shards(root)
    assert sources.open_source("webdataset", "train", data_dir=str(root), fields=["image"]).info.num_classes is None


@pytest.mark.parametrize(
    ("suffixes", "options", "words"),
    [
        (
            ("jpg", "caption"),
            dict(text="caption"),
            r"has none. For the .caption members write text='.caption'; .*\.jpg \(2\)",
        ),
        (("jpg", "txt"), dict(text="captions"), r"has none; the members there end in \.jpg \(2\), \.txt \(2\)"),
        (("jpg", "txt"), dict(text=".caption"), r"no member of .*train-0.tar ends in \.caption, which the option text"),
        (("jpg", "txt"), dict(image=("webp", "png")), r"ends in \.webp or \.png, which the option image names"),
        (("jpg", "cls"), dict(label="cls"), "leave the option label out, and the .cls members are the labels"),
        (("jpg", "cls", "json"), dict(label=".cls"), "leave the option label out, and the .cls members"),
        (("jpg", "txt"), dict(label="kind"), r"there are no .json members, only \.jpg \(2\), \.txt \(2\)"),
    ],
)
def test_members_that_an_option_names_and_are_not_there(tmp_path, suffixes, options, words):
    members = [(f"{i}.{suffix}", b"{}") for i in range(2) for suffix in suffixes]
    write_tar(tmp_path / "train-0.tar", members)
    for _ in range(2):  # the second time from the index that is kept
        with pytest.raises(UserError, match=words):
            open_shards(tmp_path, **options)


def test_options_of_members_that_are_not_wanted_are_not_looked_at(shards):
    source = sources.open_source(
        "webdataset", "train", data_dir=str(shards), options=dict(text="caption"), fields=["image", "label"]
    )
    assert len(source) == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train-0.tar.gz", "train-0.tar.gz is compressed, so has no random access: unpack it to .tar"),
        ("train-0.TGZ", "unpack it to .tar"),
        ("train.tar", r"If train.tar is a shard, set options=dict\(shards=\"{split}.tar\"\)"),
        ("cats-and-dogs.tar.tar", r"options=dict\(shards=dict\(cats=\"cats-and-dogs.tar.tar\"\)\)"),
    ],
)
def test_shards_of_other_names(tmp_path, name, words):
    write_tar(tmp_path / name, [("0.jpg", b"0")])
    with pytest.raises(UserError, match=words):
        open_shards(tmp_path, shards="{split}-?.tar")


def test_a_suffix_in_capitals(shards):
    os.rename(shards / "train-0.tar", shards / "train-0.TAR")
    assert len(open_shards(shards)) == 4
