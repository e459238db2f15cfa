"""The embedded data set: what a scene holds, that it is the same everywhere, and how it is prepared."""

import hashlib
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxvision.data import shapes, shapes_render, shapes_scene
from jaxvision.errors import UserError


@pytest.fixture(scope="module")
def examples():
    return [shapes.render("train", i) for i in range(400)]


@pytest.fixture(scope="module")
def scenes():
    return [shapes_scene.sample("train", i) for i in range(3000)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return shapes.prepare_shapes(tmp_path_factory.mktemp("shapes"), train=50, validation=6, test=5)


def digest(split: str, indices: range) -> str:
    examples = (shapes.render(split, i) for i in indices)
    parts = (e["image"].tobytes() + e["instance_mask"].tobytes() + e["caption"].encode() for e in examples)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_an_example_is_the_same_in_another_process():
    code = f"import runpy; print(runpy.run_path({str(Path(__file__))!r})['digest']('train', range(20)))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest("train", range(20))


def test_an_example_does_not_depend_on_those_before_it(examples):
    for i in (399, 7, 0):
        again = shapes.render("train", i)
        np.testing.assert_array_equal(again["image"], examples[i]["image"])
        assert again["caption"] == examples[i]["caption"]


def test_examples_and_splits_differ(examples):
    images = {e["image"].tobytes() for e in examples}
    others = {shapes.render(split, i)["image"].tobytes() for split in ("validation", "test") for i in range(50)}
    assert len(images) == 400
    assert len(others) == 100
    assert not images & others


def test_a_scene_is_the_same_at_another_size(examples):
    for i, small in enumerate(examples[:10]):
        large = shapes.render("train", i, 96)
        assert (large["label"], large["caption"]) == (small["label"], small["caption"])
        # Means over blocks, since the noise differs.
        a, b = (e["image"].reshape(8, len(e["image"]) // 8, 8, -1, 3).mean((1, 3)) for e in (small, large))
        assert np.abs(a - b).mean() < 8
        for a, b in zip(large["objects"], small["objects"]):
            np.testing.assert_allclose(a["bbox"], b["bbox"], atol=1.5 / 32)


@pytest.mark.parametrize(
    ("field", "choices"), [("kind", shapes.CLASSES), ("colour", shapes.COLOURS), ("texture", shapes.TEXTURES)]
)
def test_kinds_colours_and_textures_of_main_objects_are_uniform(scenes, field, choices):
    counts = Counter(getattr(s.objects[0], field) for s in scenes)
    expected = len(scenes) / len(choices)
    chi2 = sum((counts[c] - expected) ** 2 / expected for c in choices)
    assert chi2 < 27.9, counts  # the 99.9 % point at 9 degrees of freedom


def test_smaller_objects_are_of_every_kind_and_number(scenes):
    counts = Counter(o.kind for s in scenes for o in s.objects[1:])
    assert min(counts[c] for c in shapes.CLASSES) > 0.05 * counts.total()
    numbers = Counter(len(s.objects) for s in scenes)
    assert min(numbers[n] for n in (1, 2, 3, 4)) > 0.02 * len(scenes)


def test_kind_and_colour_of_the_main_object_are_independent(scenes):
    pairs = Counter((s.objects[0].kind, s.objects[0].colour) for s in scenes)
    assert len(pairs) == len(shapes.CLASSES) * len(shapes.COLOURS)


def test_the_main_object_shows_most(examples):
    for e in examples:
        shown = np.bincount(e["instance_mask"].ravel(), minlength=5)[1:]
        assert shown[0] > 1.5 * shown[1:].max(initial=0)
        assert e["label"] == shapes.CLASSES.index(e["objects"][0]["label"])


def test_boxes_are_the_extents_of_the_mask(examples):
    for e in examples:
        mask = e["instance_mask"][:, :, 0]
        assert set(np.unique(mask)) == set(range(len(e["objects"]) + 1))
        for number, obj in enumerate(e["objects"], 1):
            ymin, xmin, ymax, xmax = np.round(np.array(obj["bbox"]) * 32).astype(int)
            rows, cols = np.nonzero(mask == number)
            assert (rows.min(), cols.min(), rows.max() + 1, cols.max() + 1) == (ymin, xmin, ymax, xmax)


def test_captions_describe_the_main_object_first(examples):
    for e in examples:
        main, *others = e["objects"]
        head, *tail = e["caption"].split(", with ")
        assert f"{main['colour']} {main['label']} " in head
        assert (main["texture"] in head.split(" background")[0].split(" of a ")[0]) == (main["texture"] != "plain")
        for other in others:
            assert f"{other['colour']} {other['label']}" in tail[0]
        assert bool(tail) == bool(others)


@pytest.mark.parametrize("kind", shapes.CLASSES)
def test_an_outline_fills_its_disc_and_no_more(kind):
    line = np.linspace(-1.5, 1.5, 301, dtype=np.float32)
    u, v = line[None, :], line[:, None]
    inside = shapes_render.OUTLINES[kind](u, v)
    radius = np.sqrt(u * u + v * v)[inside]
    assert radius.max() <= 1.02
    assert radius.max() > 0.9
    assert inside.mean() * 9 > 1  # of the disc's area, 3.14


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("training", 0), "unknown split of shapes 'training'; did you mean 'train'"),
        (("train", -1), "starts at 0"),
        (("train", 0, 16), "at least 32 pixels and at most 16,384, got image_size=16"),
    ],
)
def test_render_names_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        shapes.render(*arguments)


def test_prepared_records_are_the_rendered_examples(prepared):
    source = prepared.as_data_source("train")
    assert len(source) == 50
    for i in (0, 17, 49):
        record, example = source[i], shapes.render("train", i)
        np.testing.assert_array_equal(record["image"], example["image"])
        np.testing.assert_array_equal(record["instance_mask"], example["instance_mask"])
        assert record["label"] == example["label"]
        assert record["caption"].decode() == example["caption"]
        objects = record["objects"]
        assert [shapes.COLOURS[c] for c in objects["colour"]] == [o["colour"] for o in example["objects"]]
        assert [shapes.CLASSES[c] for c in objects["label"]] == [o["label"] for o in example["objects"]]
        np.testing.assert_allclose(np.stack(objects["bbox"]), [o["bbox"] for o in example["objects"]])
    assert prepared.info.features["label"].names == list(shapes.CLASSES)
    assert {s: i.num_examples for s, i in prepared.info.splits.items()} == {"train": 50, "validation": 6, "test": 5}


def test_shards_keep_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SHARD", 3)
    monkeypatch.setattr(shapes, "AHEAD", 2)
    source = shapes.prepare_shapes(tmp_path, train=8, validation=1, test=1).as_data_source("train")
    assert len(list(tmp_path.rglob("*train*array_record*"))) == 3
    for i in range(8):
        np.testing.assert_array_equal(source[i]["image"], shapes.render("train", i)["image"])


def test_prepare_renders_once_and_every_choice_has_its_folder(tmp_path, monkeypatch, capsys):
    first = shapes.prepare_shapes(tmp_path, train=4, validation=1, test=1)
    output = capsys.readouterr()
    assert output.err.count("rendering 6 images of 32 pixels into") == 1
    assert output.out == ""  # it is left to results, which others read
    larger = shapes.prepare_shapes(tmp_path, train=4, validation=1, test=1, image_size=40)
    assert larger.data_dir != first.data_dir
    assert larger.as_data_source("train")[0]["image"].shape == (40, 40, 3)
    capsys.readouterr()
    monkeypatch.setattr(shapes, "render", None)
    again = shapes.prepare_shapes(tmp_path, train=4, validation=1, test=1)
    assert capsys.readouterr() == ("", "")
    assert again.data_dir == first.data_dir
    assert len(again.as_data_source("train")) == 4


def test_an_interrupted_preparation_is_not_taken_for_a_data_set(tmp_path, monkeypatch):
    whole = shapes.render

    def fails(split, index, image_size, question):
        if (split, index) == ("validation", 1):
            raise KeyboardInterrupt
        return whole(split, index, image_size, question)

    monkeypatch.setattr(shapes, "render", fails)
    with pytest.raises(KeyboardInterrupt):
        shapes.prepare_shapes(tmp_path, train=4, validation=2, test=1)
    monkeypatch.setattr(shapes, "render", whole)
    assert len(shapes.prepare_shapes(tmp_path, train=4, validation=2, test=1).as_data_source("validation")) == 2


def test_two_may_prepare_the_same_at_once(tmp_path, monkeypatch):
    both_render, whole = threading.Barrier(2), shapes.render

    def together(split, index, image_size, question):
        if (split, index) == ("train", 0):
            both_render.wait(timeout=60)
        return whole(split, index, image_size, question)

    monkeypatch.setattr(shapes, "render", together)
    results = []

    def prepare():
        results.append(shapes.prepare_shapes(tmp_path, train=4, validation=1, test=1))

    threads = [threading.Thread(target=prepare) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(builder.as_data_source("train")) for builder in results] == [4, 4]


@pytest.mark.parametrize("wrong", [{"image_size": 31}, {"train": 0}, {"test": -1}])
def test_prepare_refuses_sizes_out_of_range(tmp_path, wrong):
    with pytest.raises(UserError, match=r"at least"):
        shapes.prepare_shapes(tmp_path, **wrong)


def test_prepare_says_where_it_cannot_write(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="cannot prepare shapes in"):
        shapes.prepare_shapes(file, train=1, validation=1, test=1)
