import json
import zipfile

import numpy as np
import pytest

from jaxvision.data import sources
from jaxvision.data.reader import Reader
from jaxvision.errors import UserError


def open_manifest(folder, split="train", **options):
    return sources.open_source("manifest", split, data_dir=str(folder), options=options)


def write(file, text):
    file.write_text(text, encoding="utf-8")
    return file.parent


def test_csv(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"one")
    root = write(
        tmp_path / "train.csv", '\ufeffpath,label,caption\na/1.jpg,owl,"hoots, twice\nat night"\nb.jpg,cat,ä\n'
    )
    source = open_manifest(root)
    assert source.info == sources.Info(tmp_path.name, "train", 2, ("cat", "owl"), 2)
    assert source[0] == {"image": b"one", "label": 1, "text": "hoots, twice\nat night"}
    assert (source.labels.tolist(), source.describe(1)) == ([1, 0], str(tmp_path / "b.jpg"))


def test_json_lines(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"one")
    rows = [
        {"file": "1.png", "labels": ["cat", "owl"], "captions": ["a", "b"]},
        {"file": "2.png", "labels": [], "captions": "c"},
    ]
    root = write(tmp_path / "train.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    source = open_manifest(root, path="file", root="images")
    assert source.info == sources.Info(tmp_path.name, "train", 2, ("cat", "owl"), 2, multi_label=True)
    example = source[0]
    assert (example["image"], example["text"]) == (b"one", ("a", "b"))
    np.testing.assert_array_equal(source.labels, np.array([[1, 1], [0, 0]], np.float32))
    np.testing.assert_array_equal(example["label"], source.labels[0])


@pytest.mark.parametrize("cell", ["owl;cat", "owl; cat;", '"[""owl"", ""cat""]"'])
def test_several_labels_in_a_cell(tmp_path, cell):
    source = open_manifest(write(tmp_path / "train.csv", f"path,labels\n1.jpg,{cell}\n2.jpg,\n3.jpg,dog\n"))
    assert source.info.classes == ("cat", "dog", "owl")
    assert source.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_numbers_and_names_of_classes(tmp_path):
    root = write(tmp_path / "train.csv", "path,label\na.jpg,0\nb.jpg,2\n")
    write(tmp_path / "test.csv", "path,label\nc.jpg,4\n")
    assert open_manifest(root).info.num_classes == 5  # the classes of all splits
    write(root / "names.txt", "zero\none\ntwo\nthree\n\n")
    source = open_manifest(root, classes="names.txt")
    assert (source.info.classes, source.labels.tolist()) == (("zero", "one", "two", "three"), [0, 2])
    with pytest.raises(UserError, match=r"test\.csv:2: the label '4' is none of the 4 classes"):
        open_manifest(root, "test", classes="names.txt")
    with pytest.raises(UserError, match="no file of class names"):
        open_manifest(root, classes="nowhere.txt")
    with pytest.raises(UserError, match="'one' stands 2 times"):
        open_manifest(root, classes=("one", "two", "one"))
    assert open_manifest(root, "train+test[:50%]", classes=5).labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("file,label\n1.jpg,2\n", {}, r"unknown column at .*train\.csv:2 'path'"),
        ("path,label\n1.jpg,2\n", {"label": "labl"}, r"'labl'; did you mean 'label'\?"),
        ("path,label\n1.jpg,2\n,3\n", {}, r"train\.csv:3 lacks its 'path'"),
        ("path,label\n1.jpg,2\n2.jpg\n", {}, r"train\.csv:3 lacks its 'label'"),
        ("path,label\n1.jpg,2,4\n", {}, r"train\.csv:2 has more cells than the header"),
        ("path,label,labels\n1.jpg,2,4\n", {}, "give one of the options label and labels"),
        ("path,label\n", {}, "is empty"),
        ("path,label\n1.jpg,2\n", {"file": {"all": "train.csv"}}, "a split that is called 'all'"),
    ],
)
def test_a_bad_csv_is_told_by_its_line(tmp_path, text, options, message):
    with pytest.raises(UserError, match=message):
        open_manifest(write(tmp_path / "train.csv", text), **options)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "2.jpg"', r"train\.jsonl:2 is no JSON"),
        ('{"file": "2.jpg", "text": "a"}', r"train\.jsonl:2 lacks its 'path'"),
        ('{"path": "2.jpg", "text": null}', r"train\.jsonl:2 lacks its 'text'"),
    ],
)
def test_bad_json_lines_are_told_by_their_line(tmp_path, line, message):
    with pytest.raises(UserError, match=message):
        open_manifest(write(tmp_path / "train.jsonl", '{"path": "1.jpg", "text": "b"}\n' + line))


def test_emoji_captions(shared, tmp_path):
    with zipfile.ZipFile(shared("emoji_captions/emoji64.zip")) as archive:
        archive.extractall(tmp_path)
    lists = list(tmp_path.rglob("captions.jsonl"))
    source = sources.open_source(
        "manifest",
        "pairs",
        data_dir=str(lists[0].parent),
        options=dict(file=dict(pairs="captions.jsonl"), path="file", root="images"),
    )
    assert len(source) == 1653
    assert isinstance(source[0]["text"], str)
    image, readable = Reader(source, "decode", ["image"]).read(1000, 0, 0)
    assert (image["image"].shape, readable) == ((64, 64, 3), True)
