import json
import zipfile

import numpy as np
import pytest

from jaxvision.data import sources
from jaxvision.data.reader import Reader
from jaxvision.data.sources import BadExample
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
    assert source.info._replace(fields={}) == sources.Info(tmp_path.name, "train", 2, ("cat", "owl"), 2)
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
    assert source.info._replace(fields={}) == sources.Info(
        tmp_path.name, "train", 2, ("cat", "owl"), 2, multi_label=True
    )
    example = source[0]
    assert (example["image"], example["text"]) == (b"one", ("a", "b"))
    np.testing.assert_array_equal(source.labels, np.array([[1, 1], [0, 0]], np.float32))
    np.testing.assert_array_equal(example["label"], source.labels[0])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("file,label\n1.jpg,2\n", {}, r"unknown column at .*train\.csv:1 'path'"),
        ("path,label\n1.jpg,2\n", {"label": "labl"}, r"'labl'; did you mean 'label'\?"),
        ("path,label\n1.jpg,2\n,3\n", {}, r"train\.csv:3 has no 'path'"),
        ("path,label\n1.jpg,2\n2.jpg\n", {}, r"train\.csv:3 has no 'label'"),
        ("path,label\n1.jpg,2,4\n", {}, r"train\.csv:2 has more cells \(3\) than the header \(2\)"),
        ("path,label,labels\n1.jpg,2,4\n", {}, "give one of the options label and labels"),
        ("path,label\n", {}, "is empty"),
        ("", {}, r"train\.csv is empty; want a header"),
        ("path,label,label\n1.jpg,2,3\n", {}, r"train\.csv:1 names the column 'label' 2 times"),
        ('path,label\n1.jpg,"owl\n2.jpg,cat\n', {}, r"train\.csv:3 is not CSV: unexpected end of data"),
        (
            "path,label\n1.jpg,['cat']\n",
            {},
            r"train\.csv:2: the label .* is a list: name its column with labels='label'",
        ),
        ("path,labels\n1.jpg,['cat'\n", {}, r"train\.csv:2: the labels .* are not a list: write"),
        ("p\0a\0t\0h\0\n\0", {}, "may be UTF-16"),
        ("path,label\n1.jpg,nan\n2.jpg,3\n", {}, r"train\.csv:2: the label is missing \('nan'\)"),
        ("path,label\n1.jpg,N/A\n2.jpg,cat\n", {}, r"train\.csv:2: the label is missing"),
        ("path,label\n1.jpg,-1\n2.jpg,3\n", {}, r"train\.csv:2: the label '-1' is negative"),
        ("path,label\n1.jpg,4294967296\n", {}, r"train\.csv:2: the label '4294967296' is larger than 2,147,483,647"),
        (
            "path,label\n1.jpg,0.5\n2.jpg,1\n",
            {},
            r"train\.csv:2: the label 0\.5 is neither a whole number nor a name",
        ),
        ("path,label\n1.jpg,0\n2.jpg,cat\n", {"split_column": "part"}, "unknown column"),
        ("path,label\n1.jpg,2\n", {"file": {"all": "train.csv"}}, "a split that is called 'all'"),
    ],
)
def test_a_bad_csv_is_told_by_its_line(tmp_path, text, options, message):
    with pytest.raises(UserError, match=message):
        open_manifest(write(tmp_path / "train.csv", text), **options)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"path": "2.jpg"', r"train\.jsonl:2 is not JSON"),
        ('{"file": "2.jpg", "text": "a"}', r"train\.jsonl:2 has no 'path'"),
        ('["2.jpg", "a"]', r"train\.jsonl:2 holds \['2\.jpg', 'a'\], not an object"),
        ('{"path": 2, "text": "a"}', r"train\.jsonl:2: the 'path' 2 is not a path"),
        ('{"path": "2.jpg", "label": true}', r"train\.jsonl:1 has no 'label'"),
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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.tsv", "path\tlabel\n1.jpg\towl\n"),
        ("train.csv", "path\tlabel\n1.jpg\towl\n"),
        ("train.csv", "path;label\n1.jpg;owl\n"),
        ("train.csv", "label|path\nowl|1.jpg\n"),
        ("train.csv", "path, label\n1.jpg, owl \n"),
        ("train.csv", 'path ,"label"\r\n1.jpg,"owl"\r\n\r\n'),
        ("train.csv", "\ufeffpath,label\n\n1.jpg,owl\n,\n"),
    ],
)
def test_csv_as_programs_write_it(tmp_path, name, text):
    source = open_manifest(write(tmp_path / name, text))
    assert (source.info.classes, source.labels.tolist(), source.describe(0)) == (
        ("owl",),
        [0],
        str(tmp_path / "1.jpg"),
    )


def test_a_delimiter_that_no_header_shows(tmp_path):
    root = write(tmp_path / "train.csv", "path~label\na,b.jpg~owl\n")
    assert open_manifest(root, delimiter="~").describe(0) == str(tmp_path / "a,b.jpg")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize("name", ["train.csv", "train.jsonl"])
def test_another_encoding_is_told(tmp_path, encoding, name):
    text = "path,label\n1.jpg,café\n" if name.endswith("csv") else '{"path": "1.jpg", "label": "café"}\n'
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(UserError, match=rf"{name} is (UTF-16, )?not UTF-8.*save it as UTF-8"):
        open_manifest(tmp_path)


def test_one_manifest_names_the_split_of_each_line(tmp_path):
    root = write(tmp_path / "all.csv", "path,label,fold\n1.jpg,owl,train\n2.jpg,cat,val\n3.jpg,cat,train \n")
    train = open_manifest(root, split_column="fold")
    assert (train.labels.tolist(), train.info.classes) == ([1, 0], ("cat", "owl"))
    assert open_manifest(root, "val", split_column="fold").describe(0) == str(tmp_path / "2.jpg")
    assert len(open_manifest(root, "all", split_column="fold", file="all.csv")) == 3
    with pytest.raises(UserError, match=r"'test' .* which has train, val"):
        open_manifest(root, "test", split_column="fold")
    write(tmp_path / "all.csv", "path,fold\n1.jpg,train\n2.jpg,\n")
    with pytest.raises(UserError, match=r"all\.csv:3 has no 'fold'"):
        open_manifest(root, split_column="fold")


def test_a_key_that_the_first_line_lacks_is_a_column_all_the_same(tmp_path):
    root = write(tmp_path / "train.jsonl", '{"path": "1.jpg"}\n{"path": "2.jpg", "text": "a cat"}')
    source = open_manifest(root)
    (tmp_path / "1.jpg").touch()
    (tmp_path / "2.jpg").touch()
    assert source[1]["text"] == "a cat"
    with pytest.raises(BadExample, match=r"train\.jsonl:1 holds no caption"):
        source[0]


@pytest.mark.parametrize("text", ["", " ", None, [], [""], 3, {"a": 1}])
def test_an_example_without_a_text_is_a_bad_example(tmp_path, text):
    source = open_manifest(write(tmp_path / "train.jsonl", json.dumps(dict(path="1.jpg", text=text))))
    (tmp_path / "1.jpg").touch()
    with pytest.raises(BadExample, match=r"train\.jsonl:1 .*(no caption|not a text)"):
        source[0]


def test_a_path_that_no_file_can_have_is_a_bad_example(tmp_path):
    source = open_manifest(write(tmp_path / "train.jsonl", '{"path": "a\\u0000b.jpg"}'))
    with pytest.raises(BadExample, match=r"train\.jsonl:1: embedded null"):
        source[0]


def test_files_that_are_listed_twice_are_told(tmp_path, caplog):
    source = open_manifest(write(tmp_path / "train.csv", "path\n1.jpg\n2.jpg\n1.jpg\n"))
    assert len(source) == 3
    assert "lists 1 files more than once: " + str(tmp_path / "1.jpg") in caplog.text


def test_lists_that_belong_to_no_split_are_told(tmp_path, caplog):
    write(tmp_path / "train-old.csv", "path\n")
    write(tmp_path / "1.jpg", "")
    open_manifest(write(tmp_path / "train.csv", "path\n1.jpg\n"))
    assert "train passes over: name fits no split: 1 (train-old.csv)" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(delimiter="::"), "delimiter is one character"),
        (dict(file="/x/{split}.csv"), "the pattern '/x/{split}.csv' names no files inside data_dir"),
        (dict(file={"train": ""}), "the pattern '' names no files"),
        (dict(file="**{split}.csv"), "names no files inside data_dir"),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        open_manifest(write(tmp_path / "train.csv", "path\na.jpg\n"), **options)


def test_other_suffixes_long_cells_and_folds_that_are_numbers(tmp_path):
    root = write(tmp_path / "train.ndjson", '{"path": "a.jpg", "fold": 0}\n{"path": "b.jpg", "fold": 1}\n')
    assert len(open_manifest(root, file="{split}.ndjson")) == 2
    with pytest.raises(UserError, match="which has 0, 1"):
        open_manifest(root, file="train.ndjson", split_column="fold")
    root = write(tmp_path / "train.csv", f"path,text\na.jpg,{'x' * 200_000}\n")
    assert len(open_manifest(root)) == 1


def test_one_split_that_is_written_in_two_ways(tmp_path, caplog):
    lines = "".join(f"{i}.jpg,{fold}\n" for i, fold in enumerate(["train", "Train", "val", "Train"]))
    root = write(tmp_path / "all.csv", f"path,fold\n{lines}")
    words = r"'train' in 1 lines, such as .*all\.csv:2, and 'Train' in 2, such as .*all\.csv:3: write them alike"
    with pytest.raises(UserError, match=words):
        open_manifest(root, split_column="fold")
    (root / "all.csv").rename(root / "TRAIN.CSV")
    write(root / "train.csv", "path\n1.jpg\n")
    assert len(open_manifest(root)) == 1
    assert "the splits 'TRAIN' and 'train', which differ only in upper and lower case" in caplog.text


@pytest.mark.parametrize("suffix", [".CSV", ".Tsv", ".JSONL"])
def test_suffixes_in_capitals(tmp_path, suffix):
    text = {
        ".CSV": "path,fold\n1.jpg,a\n",
        ".Tsv": "path\tfold\n1.jpg\ta\n",
        ".JSONL": '{"path": "1.jpg", "fold": "a"}',
    }
    root = write(tmp_path / f"train{suffix}", text[suffix])
    assert open_manifest(root).describe(0) == str(tmp_path / "1.jpg")
    assert len(open_manifest(root, "a", split_column="fold")) == 1
    assert len(open_manifest(root, "x", file=dict(x=f"train{suffix.lower()}"))) == 1


@pytest.mark.parametrize("top", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n\n", "\n\n"])
def test_the_first_line_of_excel(tmp_path, top):
    root = write(tmp_path / "train.csv", f"\ufeff{top}path;label\n1.jpg;a\n2.jpg;\n")
    line = len(top.splitlines()) + 3
    with pytest.raises(UserError, match=rf"train\.csv:{line} has no 'label'"):
        open_manifest(root)
    source = open_manifest(write(tmp_path / "train.csv", f"{top}path;label\n1.jpg;a\n"))
    assert (source.describe(0), source.info.classes) == (str(tmp_path / "1.jpg"), ("a",))


def test_an_index_without_a_name_before_the_header(tmp_path):
    root = write(tmp_path / "train.tsv", "\tpath\tlabel\n0\t1.jpg\ta\n")
    assert open_manifest(root).describe(0) == str(tmp_path / "1.jpg")


def test_other_names_of_columns_are_hinted_at(tmp_path, caplog):
    root = write(tmp_path / "train.csv", "path,Class\n1.jpg,cat\n")
    assert open_manifest(root).info.num_classes is None
    assert "the columns are path, Class: if it is 'Class', set options=dict(label='Class')" in caplog.text
    caplog.clear()
    sources.open_source("manifest", "train", data_dir=str(root), fields=["image"])
    assert open_manifest(root, label="Class").info.classes == ("cat",)
    write(root / "train.csv", "path,width\n1.jpg,3\n")
    open_manifest(root)
    assert not caplog.text
    sources.open_source("manifest", "train", data_dir=str(root), fields=["image", "label"])
    assert "is called 'label', so its examples have no label; the columns are path, width" in caplog.text
    write(root / "train.csv", "file_name,label\n1.jpg,3\n")
    with pytest.raises(UserError, match=r"set options=dict\(path='file_name'\)"):
        open_manifest(root)


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl"])
def test_a_web_page_under_another_suffix(tmp_path, name):
    with pytest.raises(UserError, match=rf"{name} is not a manifest: it is a web page \(HTML\)"):
        open_manifest(write(tmp_path / name, "<!DOCTYPE html>\n<p>404"))
