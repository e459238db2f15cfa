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
    with pytest.raises(UserError, match="has the name 'one' 2 times"):
        open_manifest(root, classes=("one", "two", "one"))
    assert open_manifest(root, "train+test[:50%]", classes=5).labels.tolist() == [0, 2]


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


def test_blanks_around_a_label_and_ways_to_compose_it_make_no_class(tmp_path):
    rows = ["cat", "cat ", " cat", "caf\u00e9", "cafe\u0301"]
    source = open_manifest(
        write(tmp_path / "train.jsonl", "\n".join(json.dumps(dict(path="1.jpg", label=x)) for x in rows))
    )
    assert (source.info.classes, source.labels.tolist()) == (("caf\u00e9", "cat"), [1, 1, 1, 0, 0])


@pytest.mark.parametrize("labels", [["10", "9", "2"], [10, 9, 2], [10.0, 9.0, 2.0], ["10.0", "9.0", "2"]])
def test_whole_numbers_stay_numbers_in_their_order(tmp_path, labels):
    lines = [json.dumps(dict(path=f"{i}.jpg", label=label)) for i, label in enumerate(labels)]
    source = open_manifest(write(tmp_path / "train.jsonl", "\n".join(lines)))
    assert (source.labels.tolist(), source.info.num_classes, source.info.classes) == ([10, 9, 2], 11, ())


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("null", r"train\.jsonl:2 has no 'label'"),
        ("NaN", r"train\.jsonl:2: the label is missing \(nan\)"),
        ("true", r"train\.jsonl:2: the label True is neither a whole number nor a name"),
        ("1.5", r"train\.jsonl:2: the label 1\.5 is neither"),
        ("{}", r"train\.jsonl:2: the label {} is neither"),
        ("[1, null]", r"train\.jsonl:2: the label is missing \(None\)"),
        ("[[1]]", r"train\.jsonl:2: the label \[1\] is neither"),
        ('"  "', r"train\.jsonl:2: the label is missing"),
        ('"cat"', r"the labels mix 1 whole numbers \(such as 0 at .*:1\) and 1 names \(such as 'cat' at .*:2\)"),
    ],
)
def test_labels_that_are_none(tmp_path, label, message):
    lines = '{"path": "1.jpg", "label": 0}\n{"path": "2.jpg", "label": ' + label + "}"
    with pytest.raises(UserError, match=message):
        open_manifest(write(tmp_path / "train.jsonl", lines))


def test_classes_say_what_is_right(tmp_path):
    root = write(tmp_path / "train.csv", "path,label\n1.jpg,none\n2.jpg,7\n3.jpg,cat\n")
    assert open_manifest(root, classes=("cat", "none", "7")).labels.tolist() == [1, 2, 0]
    with pytest.raises(UserError, match=r"train\.csv:4: the label 'cat' is none of the 9 classes"):
        open_manifest(write(tmp_path / "train.csv", "path,label\n1.jpg,1\n2.jpg,7\n3.jpg,cat\n"), classes=9)
    for classes, message in (
        (0, "at least one"),
        (True, "not True"),
        (3.0, "not 3.0"),
        (("a", "a "), "has the name 'a' 2 times"),
    ):
        with pytest.raises(UserError, match=message):
            open_manifest(root, classes=classes)
    (root / "names.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(UserError, match=r"names\.txt is not UTF-8"):
        open_manifest(root, classes="names.txt")


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
    ("lines", "labels"),
    [
        ("a.jpg,1\nb.jpg,3\n", [0, 2]),
        ("a.jpg,0\nb.jpg,1\n", r"train\.csv:2: the label '0' is none of the 3 classes"),
        ("a.jpg,1.0\n", r"train\.csv:2: the label '1\.0' is none of the 3 classes"),
    ],
)
def test_where_names_are_digits_a_text_is_a_name(tmp_path, lines, labels):
    root = write(tmp_path / "train.csv", "path,label\n" + lines)
    if isinstance(labels, list):
        assert open_manifest(root, classes=("1", "2", "3")).labels.tolist() == labels
    else:
        with pytest.raises(UserError, match=labels):
            open_manifest(root, classes=("1", "2", "3"))


def test_a_number_that_is_the_name_of_another_class_is_refused(tmp_path):
    root = write(tmp_path / "train.jsonl", '{"path": "a.jpg", "label": 1}')
    with pytest.raises(UserError, match="the label 1 is the number of one class and the name of another, '1'"):
        open_manifest(root, classes=("1", "2", "3"))
    assert open_manifest(root, classes=("0", "1", "2")).labels.tolist() == [1]


@pytest.mark.parametrize("label", ["0.5", "1e-1", "9" * 5000, '"[0, 1]"', "\"('a', 'b')\"", "#N/A", "NaT", "-nan"])
def test_texts_that_are_no_label(tmp_path, label):
    with pytest.raises(UserError, match=r"train\.csv:2: the label"):
        open_manifest(write(tmp_path / "train.csv", f"path,label\na.jpg,{label}\nb.jpg,cat\n"))


def test_labels_that_look_odd_and_are_none_the_less(tmp_path):
    root = write(tmp_path / "train.csv", "Path,Label\na.jpg,[unk]\nb.jpg,2e0\nc.jpg,0.5\n")
    assert open_manifest(root, classes=("0.5", "2e0", "[unk]")).labels.tolist() == [2, 1, 0]
    root = write(tmp_path / "train.csv", "path,labels\na.jpg,\"('cat', 'dog')\"\nb.jpg,{'dog'}\n")
    assert open_manifest(root).labels.tolist() == [[1, 1], [0, 1]]


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


@pytest.mark.parametrize(
    ("labels", "warned"),
    [
        (["cat|dog", "owl"], "the label 'cat|dog' at {}:2 is read as one class"),
        (
            ["cat", "cat;dog", "dog;cat"],
            "the label 'cat;dog' at {}:3 is read as one class of this name, and so are 1 more",
        ),
        (["owl", '"cat, dog"', "dog"], "the label 'cat, dog' at {}:3"),
        (["cat", "Cat"], "'cat' (at {}:2) and 'Cat' (at {}:3) are two classes whose names differ only in upper"),
        (['"tench, Tinca tinca"', '"goldfish, Carassius auratus"'], None),
    ],
)
def test_names_that_may_be_meant_otherwise_are_told(tmp_path, labels, warned, caplog):
    rows = "".join(f"{i}.jpg,{label}\n" for i, label in enumerate(labels))
    assert open_manifest(write(tmp_path / "train.csv", f"path,label\n{rows}"), delimiter=",").info.num_classes == len(
        labels
    )
    file = tmp_path / "train.csv"
    assert warned is None or warned.replace("{}", str(file)) in caplog.text
    assert bool(warned) == bool(caplog.text)


@pytest.mark.parametrize("stated", [["True", "False", "true"], [True, False, True], [True, "false", "TRUE"]])
def test_booleans_are_labels_only_where_classes_names_them(tmp_path, stated):
    lines = "\n".join(json.dumps(dict(path="1.jpg", label=label)) for label in stated)
    root = write(tmp_path / "train.jsonl", lines)
    with pytest.raises(UserError, match=r"train\.jsonl:1: .* a boolean: write 0 and 1, or give the two names"):
        open_manifest(root)
    assert open_manifest(root, classes=("False", "True")).labels.tolist() == [1, 0, 1]


def test_labels_that_are_all_empty_lists(tmp_path):
    root = write(tmp_path / "train.jsonl", '{"path": "1.jpg", "labels": []}\n{"path": "2.jpg", "labels": []}')
    with pytest.raises(
        UserError, match=r"no example has a label: all are empty lists, such as that of .*train\.jsonl:1"
    ):
        open_manifest(root)
    assert open_manifest(root, classes=("cat",)).labels.tolist() == [[0], [0]]


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl"])
def test_a_web_page_under_another_suffix(tmp_path, name):
    with pytest.raises(UserError, match=rf"{name} is not a manifest: it is a web page \(HTML\)"):
        open_manifest(write(tmp_path / name, "<!DOCTYPE html>\n<p>404"))
