import json
import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxvision.data import sources
from jaxvision.data.reader import Reader
from jaxvision.data.sources.row_groups import RowGroups
from jaxvision.errors import UserError


def open_parquet(root, split="train", fields=None, **options):
    return sources.open_source("parquet", split, data_dir=str(root), options=options, fields=fields)


def write(file, columns, names=None, rows_in_group=3):
    """Writes a file as the library `datasets` does: class names lie in the metadata of the schema."""
    table = pa.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(exist_ok=True)
    pq.write_table(table, file, row_group_size=rows_in_group)


def images(pictures):
    return [{"bytes": picture, "path": None} for picture in pictures]


@pytest.fixture
def hub(tmp_path, encode, photo):
    """Ten training examples in two files and three for testing, laid out as on the Hugging Face Hub."""
    pictures = [encode(photo(i, 20, 30), "JPEG") for i in range(13)]
    files = {
        "train-00000-of-00002": range(7),
        "train-00001-of-00002": range(7, 10),
        "test-00000-of-00001": range(10, 13),
    }
    for name, numbers in files.items():
        columns = {
            "image": images(pictures[i] for i in numbers),
            "label": [i % 3 for i in numbers],
            "caption": [f"caption {i}" for i in numbers],
            "unused": ["x" * 1000 for _ in numbers],
        }
        write(tmp_path / "data" / f"{name}.parquet", columns, ["cat", "dog", "owl"])
    return tmp_path, pictures


def test_layout_of_the_hub(hub):
    root, pictures = hub
    source = open_parquet(root)
    assert source.info._replace(fields={}) == sources.Info(root.name, "train", 10, ("cat", "dog", "owl"), 3)
    for i in (9, 0, 5, 3, 8, 1):
        assert source[i] == {"image": pictures[i], "label": i % 3, "text": f"caption {i}"}
    assert source.labels.tolist() == [i % 3 for i in range(10)]
    assert source.describe(8) == f"row 1 of {root / 'data' / 'train-00001-of-00002.parquet'}"
    assert source.describe(4) == f"row 4 of {root / 'data' / 'train-00000-of-00002.parquet'}"  # of the second group
    part = open_parquet(root, "train[5:8]+test[-1:]")
    assert [part[i]["text"] for i in range(4)] == [f"caption {i}" for i in (5, 6, 7, 12)]
    assert part.labels.tolist() == [2, 0, 1, 0]


def test_several_captions_of_an_image(tmp_path, encode, photo):
    columns = {"image": images([encode(photo(0, 8, 8), "PNG")] * 2), "captions": [["a cat", "an animal"], ["a dog"]]}
    write(tmp_path / "train-00000-of-00001.parquet", columns)
    source = open_parquet(tmp_path, text="captions")
    assert [source[i]["text"] for i in range(2)] == [("a cat", "an animal"), ("a dog",)]


def test_only_wanted_columns(hub, monkeypatch):
    root, _ = hub
    read, batches = [], pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda f, rows, row_groups, columns: read.append(columns) or batches(f, rows, row_groups, columns),
    )
    assert open_parquet(root, fields=["image", "label"])[4].keys() == {"image", "label"}
    assert open_parquet(root, fields=["text"])[4] == {"text": "caption 4"}
    assert {c for columns in read for c in columns} == {"image.bytes", "label", "caption"}


def test_other_columns(tmp_path):
    columns = {
        "jpg": [b"0", b"1", b"2"],
        "kind": ["owl", "cat", "owl"],
        "texts": [["a", "b"], ["c"], ["d"]],
        "tags": [[0, 2], [], [1]],
    }
    write(tmp_path / "train.parquet", columns)
    write(tmp_path / "test.parquet", columns | {"kind": ["cat", "eel", "cat"]})
    source = open_parquet(tmp_path, image="jpg", label="kind", text="texts")
    assert source.info.classes == ("cat", "eel", "owl")  # of all splits
    assert source[0] == {"image": b"0", "label": 2, "text": ("a", "b")}
    several = open_parquet(tmp_path, image="jpg", label="tags")
    assert (several.info.num_classes, several.info.multi_label) == (3, True)
    assert several.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    with pytest.raises(UserError, match="unknown column .* 'image'"):
        open_parquet(tmp_path)
    with pytest.raises(UserError, match="did you mean 'texts'"):
        open_parquet(tmp_path, image="jpg", text="text_")
    with pytest.raises(UserError, match="the label 'owl' is none of the 2 classes"):
        open_parquet(tmp_path, image="jpg", label="kind", classes=("cat", "eel"))


def test_rows_without_an_image_are_bad(tmp_path, encode, photo, caplog):
    picture = encode(photo(0))
    write(tmp_path / "train.parquet", {"image": images([picture, None, picture]), "label": [0, 1, 2]})
    reader = Reader(open_parquet(tmp_path), "decode", ["image", "label"])
    assert reader.read(1, 0, 1)[0]["label"] == 2
    assert f"cannot read row 1 of {tmp_path / 'train.parquet'} (its column 'image' is empty)" in caplog.text


def test_a_truncated_file_is_named(hub):
    root, _ = hub
    os.truncate(root / "data" / "train-00001-of-00002.parquet", 2000)
    with pytest.raises(UserError, match=r"train-00001-of-00002\.parquet is truncated"):
        open_parquet(root)


def test_read_by_many_threads_and_by_a_copy(hub):
    root, pictures = hub
    source = open_parquet(root, cache_bytes=1)  # so that groups are thrown away all the time
    with ThreadPoolExecutor(8) as pool:
        images = pool.map(lambda i: source[i * 7 % 10]["image"], range(200))
        assert all(image == pictures[i * 7 % 10] for i, image in enumerate(images))
    assert pickle.loads(pickle.dumps(source))[6] == source[6]


def test_groups_are_kept_up_to_a_limit(hub, monkeypatch):
    root, _ = hub
    file = str(root / "data" / "train-00000-of-00002.parquet")
    read, batches = [], pq.ParquetFile.iter_batches
    size = pq.ParquetFile(file).read_row_group(0, ["image.bytes"]).nbytes
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda f, rows, row_groups, columns: read.extend(row_groups) or batches(f, rows, row_groups, columns),
    )
    groups = RowGroups(["image.bytes"], int(1.5 * size))  # one group of three rows and one of a single row
    for group in (0, 0, 2, 0, 1, 1, 0):
        groups.cell(file, group, 0, "image")
    assert read == [0, 2, 1, 0]


def refused(root, **options):
    with pytest.raises(UserError) as error:
        open_parquet(root, **options)
    return str(error.value)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["a.jpg", "b.jpg"], "holds texts, not the bytes of images: .* 'manifest'"),
        (pa.array(["a.jpg", "b.jpg"]).dictionary_encode(), "holds texts"),
        ([[b"a"], [b"b"]], r"holds list<.*not the bytes of one image file in each row"),
        ([[[1, 2]], [[3, 4]]], "holds list<"),
        ([1, 2], "holds int64"),
        ([{"path": "a.jpg"}, {"path": "b.jpg"}], "holds struct.* without the field 'bytes'"),
    ],
)
def test_columns_that_are_no_images(tmp_path, cells, words):
    write(tmp_path / "train.parquet", {"image": cells})
    assert re.search(f"the column 'image' of .*train.parquet {words}", refused(tmp_path))


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary()), pa.binary_view(), pa.null()]
)
def test_types_of_images(tmp_path, kind):
    cells = pa.nulls(2) if kind == pa.null() else pa.array([b"one", None], pa.binary()).cast(kind)
    write(tmp_path / "train.parquet", {"image": cells})
    source = open_parquet(tmp_path)
    with pytest.raises(sources.BadExample, match="its column 'image' is empty"):
        source[1]
    if kind != pa.null():
        assert source[0]["image"] == b"one"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, None], "row 1 of .*train.parquet: the label is missing"),
        ([0.0, 1.5], "row 1 of .*train.parquet: the label 1.5 is neither"),
        ([0.0, float("nan")], "row 1 of .*: the label is missing"),
        ([True, False], "row 0 of .*: the label True is neither"),
        ([[[1]], [[2]]], r"row 0 of .*: the label \[1\] is neither"),
        ([{"id": 1}, {"id": 2}], "row 0 of .*: the label {'id': 1} is neither"),
        ([b"cat", b"caf\xe9"], "row 1 of .*: the label .* is not UTF-8"),
        (["true", "False"], "row 0 of .*: the label 'true' is .* a boolean"),
        ([Decimal("0.5"), Decimal("1")], "row 0 of .*: the label Decimal"),
        (["cat", ""], "row 1 of .*: the label is missing"),
        (["cat", "3"], "the labels mix"),
        ([0, -1], "row 1 of .*: the label -1 is negative"),
    ],
)
def test_labels_that_are_none_are_named_with_their_row(tmp_path, labels, words):
    write(tmp_path / "train.parquet", {"image": [b"0", b"1"], "label": labels}, rows_in_group=1)
    assert re.search(words, refused(tmp_path))


def test_labels_of_other_types(tmp_path):
    for labels in (
        pa.array([0.0, 2.0]),
        pa.array(["0", "2"]),
        pa.array([0, 2], pa.uint8()),
        pa.array(["0", "2.0"]).dictionary_encode(),
        [Decimal("0"), Decimal("2.00")],
        [b"0", b"2"],
    ):
        write(tmp_path / "train.parquet", {"image": [b"0", b"1"], "label": labels})
        source = open_parquet(tmp_path)
        assert (source.labels.tolist(), source.info.num_classes) == ([0, 2], 3)


@pytest.mark.parametrize(
    ("captions", "texts"),
    [
        (["a", ""], ["a", None]),
        (["a", None], ["a", None]),
        ([["a", "", None], [""]], [("a",), None]),
        ([b"k\xc3\xa4se", b"caf\xe9"], ["k\u00e4se", None]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
    ],
)
def test_captions_that_are_none_are_bad(tmp_path, captions, texts):
    write(tmp_path / "train.parquet", {"image": [b"0", b"1"], "caption": captions})
    source = open_parquet(tmp_path)
    for index, caption in enumerate(texts):
        if caption is None:
            with pytest.raises(sources.BadExample, match="its column 'caption'"):
                source[index]
        else:
            assert source[index]["text"] == caption


def test_columns_that_are_no_captions(tmp_path):
    write(tmp_path / "train.parquet", {"image": [b"0"], "caption": [{"en": "a"}], "n": [3]})
    assert "the column 'caption' of" in refused(tmp_path)
    assert "holds int64, not texts" in refused(tmp_path, text="n")


def test_files_of_another_kind_among_the_shards(tmp_path):
    write(tmp_path / "train-0.parquet", {"image": [b"0"], "label": [0]})
    write(tmp_path / "train-1.parquet", {"img": [b"1"], "label": [1]})
    assert re.search("column of .*train-1.parquet 'image'; did you mean 'img'", refused(tmp_path))
    write(tmp_path / "train-1.parquet", {"image": ["1.jpg"], "label": [1]})
    assert "train-1.parquet holds texts" in refused(tmp_path)
    write(tmp_path / "train-1.parquet", {"image": [b"1"], "label": ["cat"]})
    assert "the labels mix" in refused(tmp_path)
    (tmp_path / "train-1.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "git lfs pull" in refused(tmp_path)
    (tmp_path / "train-1.parquet").unlink()
    (tmp_path / "train-1.parquet").mkdir()
    assert "train-1.parquet" in refused(tmp_path)


def test_files_without_rows(tmp_path):
    columns = {"image": pa.array([b"0"]), "label": pa.array([0])}
    write(tmp_path / "train-0.parquet", {name: column[:0] for name, column in columns.items()})
    assert "is empty" in refused(tmp_path)
    write(tmp_path / "train-1.parquet", columns)
    assert [len(open_parquet(tmp_path)), open_parquet(tmp_path)[0]["image"]] == [1, b"0"]


def test_a_damaged_page_costs_its_rows_alone(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.bytes(2000) for _ in range(4)]
    pq.write_table(pa.table({"image": pictures}), tmp_path / "train.parquet", row_group_size=2, compression="snappy")
    data = bytearray((tmp_path / "train.parquet").read_bytes())
    column = pq.read_metadata(tmp_path / "train.parquet").row_group(1).column(0)
    at = column.dictionary_page_offset or column.data_page_offset
    data[at : at + 20] = b"\xff" * 20
    (tmp_path / "train.parquet").write_bytes(data)
    source = open_parquet(tmp_path)
    assert [source[i]["image"] for i in range(2)] == pictures[:2]
    for i in (2, 3):
        with pytest.raises(sources.BadExample, match="cannot read its column 'image': Couldn't deserialize"):
            source[i]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ("{broken", "is not JSON"),
        ("[]", "holds [], not an object"),
        ('{"info": []}', "holds [] instead of an object"),
        ('{"info": {"features": [1]}}', "holds [1] instead"),
        ('{"info": {"features": {"label": ["ClassLabel"]}}}', "on 'label' holds 'ClassLabel' instead"),
        ('{"info": {"features": {"label": {"names": 3}}}}', "says that the names of 'label' are 3"),
    ],
)
def test_broken_metadata_of_the_hub_leaves_the_labels_to_tell(tmp_path, metadata, words, caplog):
    table = pa.table({"image": [b"0", b"1"], "label": [0, 4]}).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "train.parquet")
    assert open_parquet(tmp_path).info.num_classes == 5
    assert f"{tmp_path / 'train.parquet'}: the metadata 'huggingface' {words}" in caplog.text
    assert "The classes are inferred from the labels instead" in caplog.text
    assert "attribute" not in caplog.text


def test_files_that_store_a_column_in_another_form_are_named(tmp_path):
    forms = {"image": ([b"0"], images([b"0"])), "label": ([1], [[1]]), "caption": (["a"], [["a"]])}
    for column, (plain, other) in forms.items():
        good = {"image": [b"0"], "label": [1], "caption": ["a"]}
        for i in range(3):
            write(tmp_path / f"train-{i}.parquet", good | {column: other if i == 1 else plain})
        assert re.search(
            f"the column '{column}' of .*train-1.parquet holds .*that of .*train-0.parquet", refused(tmp_path)
        )
    write(
        tmp_path / "train-1.parquet", {"image": pa.nulls(1), "label": pa.array([1], pa.int8()), "caption": pa.nulls(1)}
    )
    assert len(open_parquet(tmp_path)) == 3
    for i in (0, 2):
        write(tmp_path / f"train-{i}.parquet", good | {"image": images([b"0"])})
    source = open_parquet(tmp_path)
    assert source[2]["image"] == b"0"
    with pytest.raises(sources.BadExample, match="its column 'image' is empty"):
        source[1]


def test_a_column_that_the_first_file_lacks_is_not_left_out(tmp_path):
    write(tmp_path / "train-0.parquet", {"image": [b"0"]})
    write(tmp_path / "train-1.parquet", {"image": [b"1"], "label": [1]})
    assert re.search("unknown column of .*train-0.parquet 'label'", refused(tmp_path))


def test_a_struct_whose_bytes_are_texts(tmp_path):
    write(tmp_path / "train.parquet", {"image": [{"bytes": "iVBORw0KGgo=", "path": None}]})
    assert "whose field 'bytes' is string, not the bytes of image files" in refused(tmp_path)


def test_class_names_that_differ_between_files(tmp_path, caplog):
    columns = {"image": [b"0"], "label": [0]}
    for name, names in {"train-0": ["cat", "owl"], "train-1": ["cat", "owl"], "test": ["owl", "cat"]}.items():
        write(tmp_path / f"{name}.parquet", columns, names)
    assert open_parquet(tmp_path).info.classes == ("cat", "owl")
    assert "test.parquet and" in caplog.text
    assert "differently: 0 is 'owl' in the one and 'cat' in the other" in caplog.text
    write(tmp_path / "train-1.parquet", columns, ["cat", "owl", "eel"])
    assert re.search("train-1.parquet and .*train-0.* differently: 2 is 'eel' in the one and None", refused(tmp_path))


def test_minus_one_says_that_there_is_no_label(tmp_path):
    write(tmp_path / "train.parquet", {"image": [b"0"], "label": [-1]}, ["cat", "owl"])
    assert "leave 'label' out of data.fields" in refused(tmp_path)
    write(tmp_path / "train.parquet", {"image": [b"0"], "label": [-1]})
    assert "leave 'label' out of data.fields" in refused(tmp_path)
    assert open_parquet(tmp_path, fields=["image"])[0] == {"image": b"0"}


@pytest.mark.parametrize("option", ["image", "label", "text"])
def test_the_name_of_a_column_is_not_empty(hub, option):
    assert f"the option {option} is empty" in refused(hub[0], **{option: ""})


def test_other_names_of_columns_are_hinted_at(tmp_path, caplog):
    write(tmp_path / "train.parquet", {"image": [b"0"], "fine_label": [3]})
    assert open_parquet(tmp_path, fields=["image", "label"]).info.num_classes is None
    assert "if it is 'fine_label', set options=dict(label='fine_label')" in caplog.text
    write(tmp_path / "train.parquet", {"jpg": [b"0"], "label": [3]})
    assert "did you mean 'jpg'? Then set options=dict(image='jpg')" in refused(tmp_path)


def test_a_web_page_is_named_so_under_any_name(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"<html><title>Sign in</title>")
    assert "it is a web page (HTML)" in refused(tmp_path)
