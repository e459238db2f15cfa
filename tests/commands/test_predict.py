"""`jaxvision predict` on a user's files."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision.commands import predict, tables
from jaxvision.data import shapes
from jaxvision.errors import UserError


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in {"wide.jpg": (90, 60), "small.png": (10, 12), "same.webp": (32, 32)}.items():
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    return tmp_path


def test_five_classes_with_probabilities(trained, photos, capsys):
    predictions = predict.run_predict(trained[0], str(photos / "*"))
    assert sorted(p.rsplit("/", 1)[1] for p in predictions) == ["same.webp", "small.png", "wide.jpg"]
    for ranked in predictions.values():
        probabilities = [p for _, p in ranked]
        assert len(ranked) == 5
        assert all(name in shapes.CLASSES for name, _ in ranked)
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0.5 <= sum(probabilities) <= 1.0 + 1e-5  # five of ten classes
    assert [file.rsplit("/", 1)[1] for file in predictions.left_out] == ["broken.jpg"]
    out, err = capsys.readouterr()
    assert "broken.jpg: it begins like JPEG, but is damaged" in err
    assert "broken.jpg" not in out


def test_a_run_in_a_notebook_says_what_predict_says(trained, photos):
    image = np.asarray(Image.open(photos / "same.webp").convert("RGB"))
    model = jaxvision.load(trained[0])
    logits = jaxvision.features(model.outputs, model.variables, image[None], layer="logits")[0]
    ((_, ranked),) = predict.run_predict(trained[0], str(photos / "same.webp")).items()
    assert [name for name, _ in ranked] == [model.classes[k] for k in np.argsort(-logits)[:5]]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose([p for _, p in ranked], np.sort(probabilities)[:-6:-1], rtol=1e-4)
    assert model.image_size == image.shape[:2]


def test_predictions_do_not_depend_on_company(trained, photos):
    together = predict.run_predict(trained[0], str(photos / "*"))
    alone = predict.run_predict(trained[0], str(photos / "wide.jpg"))
    (file,) = alone
    assert [n for n, _ in alone[file]] == [n for n, _ in together[file]]
    np.testing.assert_allclose([p for _, p in alone[file]], [p for _, p in together[file]], rtol=1e-3)


def test_no_file_and_no_image(trained, photos):
    with pytest.raises(UserError, match="no file matches"):
        predict.run_predict(trained[0], str(photos / "*.tiff"))
    with pytest.raises(UserError, match="none of the 1 files"):
        predict.run_predict(trained[0], str(photos / "broken*"))


def test_a_folder_means_its_pictures(trained, photos, capsys):
    (photos / "notes.txt").write_text("no picture")
    predictions = predict.run_predict(trained[0], str(photos))
    assert sorted(p.rsplit("/", 1)[1] for p in predictions) == ["same.webp", "small.png", "wide.jpg"]
    assert "ignored 1 files whose names are not those of pictures: " in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_results_for_programs(trained, photos, capsys, tmp_path, form):
    odd = photos / 'a, "b" é.png'
    (photos / "same.webp").rename(odd)
    out = tmp_path / f"out.{form}"
    predictions = predict.run_predict(trained[0], [str(odd), str(photos / "wide.jpg")], top=3, form=form, out=out)
    printed = capsys.readouterr().out
    assert printed.encode() == out.read_bytes()
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(printed, newline="")))
        assert printed.startswith("path,rank,class,probability\r\n")
        assert printed.count("\r\n") == 7
    else:
        rows = json.loads(printed) if form == "json" else [json.loads(line) for line in printed.splitlines()]
    in_file = [(row["path"], int(row["rank"]), row["class"], float(row["probability"])) for row in rows]
    assert in_file == [(file, i + 1, *pair) for file, pairs in predictions.items() for i, pair in enumerate(pairs)]
    assert len(in_file) == 6
    assert in_file[0][0] == str(odd)


def test_what_is_not_finite_and_where_results_cannot_go(tmp_path):
    rows = [{"metric": "loss", "value": float("nan")}, {"metric": "top1", "value": np.float32(0.1)}]
    assert json.loads(tables.format_rows(rows, ("metric", "value"), "json"))[0]["value"] is None
    assert (
        tables.format_rows(rows, ("metric", "value"), "csv") == "metric,value\r\nloss,\r\ntop1,0.10000000149011612\r\n"
    )
    with pytest.raises(UserError, match="unknown value of --format 'jsn'; did you mean 'json'"):
        tables.check_output("jsn", None)
    with pytest.raises(UserError, match=r"does not end in .json, .csv or .jsonl"):
        tables.check_output("table", tmp_path / "out.txt")
    with pytest.raises(UserError, match="no folder"):
        tables.check_output("table", tmp_path / "absent" / "out.csv")
