"""Labels of CSV and JSON-lines manifests: numbers, names, several of them, and what is no label."""

import json

import pytest

from jaxvision.data import sources
from jaxvision.errors import UserError


def open_manifest(folder, split="train", **options):
    return sources.open_source("manifest", split, data_dir=str(folder), options=options)


def write(file, text):
    file.write_text(text, encoding="utf-8")
    return file.parent


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
