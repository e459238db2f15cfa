import json
import logging

import numpy as np
import pytest

from jaxvision.data import cache, eval_batches, host_ops, sources, train_batches
from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError

HOST = "decode|resize_short(16)"


class Captioned(Source):
    """Encoded pictures with a class, several classes or none, a caption or two, and a box."""

    def __init__(self, images: list[bytes | None], split: str = "train", multi_label: bool = False):
        self.images, self.multi_label = images, multi_label
        self.info = Info("My pictures", split, len(images), ("cat", "dog", "owl"), 3, multi_label)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        if self.images[index] is None:
            raise FileNotFoundError(f"{index}.jpg")
        label = np.float32([index % 2, 0, 1]) if self.multi_label else index % 3
        texts = (f"one {index}", f"other {index}")
        return {
            "image": self.images[index],
            "label": label,
            "text": texts,
            "title": f"№ {index}",
            "weight": np.float32(index / 4),
            "box": np.zeros(4, np.float32),
        }


@pytest.fixture
def pictures(encode, photo):
    return [encode(photo(i), "JPEG", quality=90) for i in range(11)]


@pytest.fixture
def originals(pictures, monkeypatch):
    """`open_source("folder", ...)` gives these instead of files."""
    splits = {"train": Captioned(pictures), "validation": Captioned(pictures[:3], "validation")}
    opened = sources.open_source

    def open_source(name, split, **arguments):
        return splits[split] if name == "folder" else opened(name, split, **arguments)

    monkeypatch.setattr(cache, "open_source", open_source)
    monkeypatch.setattr(cache, "SHARD", 4)
    return splits


def _opened(out, split="train"):
    return sources.open_source("my_pictures", split, data_dir=str(out))


def test_a_lossless_copy_has_the_pixels_that_the_host_spec_makes(originals, tmp_path):
    name, folder = cache.cache_set("folder", "train,validation", HOST, tmp_path, image_format="png")
    assert (name, folder) == ("my_pictures", tmp_path / "my_pictures" / "1.0.0")
    assert len(list(folder.glob("my_pictures-train.array_record-*-of-00003"))) == 3
    process, decode = host_ops.make_chain(HOST), host_ops.make_chain("decode")
    for split, original in originals.items():
        copy = _opened(tmp_path, split)
        assert copy.info._replace(fields={}) == original.info._replace(name="my_pictures", fields={})
        assert len(copy) == len(original)
        for i in range(len(original)):
            example, wanted = copy[i], original[i]
            np.testing.assert_array_equal(decode(example, None)["image"], process(wanted, None)["image"])
            assert all(example[f] == wanted[f] for f in ("label", "text", "title", "weight"))
            assert "box" not in example


def test_the_training_stream_of_the_copy_has_the_same_order(originals, tmp_path):
    cache.cache_set("folder", "train", HOST, tmp_path, image_format="png")
    streams = [
        train_batches(source, host, batch_size=4, seed=3, start=0, stop=6, fields=("image", "weight"))
        for source, host in ((originals["train"], HOST), (_opened(tmp_path), "decode"))
    ]
    for batch, other in zip(*streams, strict=True):
        np.testing.assert_array_equal(batch["image"], other["image"])
        np.testing.assert_array_equal(batch["weight"], other["weight"])


def test_quality_trades_size_for_closeness(originals, tmp_path, encode, photo):
    originals["train"] = Captioned([encode(photo(0)[:, :, 0])])  # grey, for the colours of JPEG are coarse
    process, decode = host_ops.make_chain(HOST), host_ops.make_chain("decode")
    wanted = process(originals["train"][0], None)["image"].astype(int)
    sizes, errors = [], []
    for quality in (30, 95):
        cache.cache_set("folder", "train", HOST, tmp_path / str(quality), quality=quality)
        example = _opened(tmp_path / str(quality))[0]
        sizes.append(len(example["image"]))
        errors.append(np.abs(decode(example, None)["image"] - wanted).mean())
    assert sizes[0] < sizes[1]
    assert errors[1] < errors[0]
    assert errors[1] < 2


def test_a_set_that_does_not_fit_is_refused(originals, pictures, tmp_path, monkeypatch, caplog):
    texts = iter(["one", "one", *[("one", "two")] * 20])
    monkeypatch.setattr(Captioned, "__getitem__", lambda self, i: {"image": pictures[i], "text": next(texts)})
    with pytest.raises(UserError, match=r"examples of .* cannot be read, more than"):
        cache.cache_set("folder", "train", HOST, tmp_path)
    assert "its field 'text' is ('one', 'two'), in the first example a text" in caplog.text
    monkeypatch.setattr(Captioned, "__getitem__", lambda self, i: {"text": "one"})
    with pytest.raises(UserError, match="has no field 'image', only text"):
        cache.cache_set("folder", "train", HOST, tmp_path)


def test_several_labels_are_kept(originals, pictures, tmp_path):
    originals["train"] = Captioned(pictures, multi_label=True)
    cache.cache_set("folder", "train", HOST, tmp_path)
    copy = _opened(tmp_path)
    assert copy.info._replace(fields={}) == originals["train"].info._replace(name="my_pictures", fields={})
    np.testing.assert_array_equal(copy.labels, originals["train"].labels)


def test_unreadable_examples_are_named_counted_and_keep_their_place(originals, pictures, tmp_path, caplog):
    pictures[2], pictures[6] = pictures[2][:300], None
    originals["train"] = Captioned(pictures)
    with caplog.at_level(logging.WARNING):
        cache.cache_set("folder", "train", HOST, tmp_path, max_bad_fraction=0.15)
    assert "example 2 of My pictures train" in caplog.text
    assert "example 6 of My pictures train" in caplog.text
    copy = _opened(tmp_path)
    (batch,) = eval_batches(copy, "decode", batch_size=11, max_bad_fraction=0.15)
    assert np.flatnonzero(~batch["mask"]).tolist() == [2, 6]
    with pytest.raises(UserError, match=r"2 examples of My pictures train cannot be read, more than the 1 that"):
        cache.cache_set("folder", "train", HOST, tmp_path / "other")
    assert not (tmp_path / "other" / "my_pictures" / "1.0.0").exists()


def test_an_interrupted_copy_goes_on_at_its_shard(originals, tmp_path, monkeypatch):
    read, whole = [], Captioned.__getitem__

    def getitem(self, index):
        read.append(index)
        if index == 9 and interrupted:
            raise KeyboardInterrupt
        return whole(self, index)

    monkeypatch.setattr(Captioned, "__getitem__", getitem)
    interrupted = True
    with pytest.raises(KeyboardInterrupt):
        cache.cache_set("folder", "train", HOST, tmp_path, image_format="png")
    interrupted = False
    read.clear()
    cache.cache_set("folder", "train", HOST, tmp_path, image_format="png")
    assert min(set(read) - {0}) == 8  # the first is read once more for its fields
    assert [_opened(tmp_path)[i]["title"] for i in range(11)] == [f"№ {i}" for i in range(11)]
    recipe = json.loads((tmp_path / "my_pictures" / "1.0.0" / "recipe.json").read_text())
    assert (recipe["host"], recipe["image"], recipe["splits"]) == (HOST, "png", {"train": 11})


def test_a_tfds_set_keeps_its_name(tmp_path):
    options = {"image_size": 32, "train": 5, "validation": 2, "test": 2}
    sources.open_source("shapes", "train", data_dir=str(tmp_path), options=options)
    (tmp_path / "shapes" / "32px-5-2-2").rename(tmp_path / "shapes" / "small")
    info = tmp_path / "shapes" / "small" / "1.0.0" / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"name": "blobs", "configName": "small"}))
    for file in info.parent.glob("shapes-*"):
        file.rename(file.with_name(file.name.replace("shapes", "blobs")))
    (tmp_path / "shapes").rename(tmp_path / "blobs")
    name, folder = cache.cache_set("blobs/small:1.0.0", "train", HOST, tmp_path / "out", data_dir=str(tmp_path))
    assert (name, folder) == ("blobs/small", tmp_path / "out" / "blobs" / "small" / "1.0.0")
    copy = sources.open_source("blobs/small", "train", data_dir=str(tmp_path / "out"))
    original = sources.open_source("blobs/small", "train", data_dir=str(tmp_path))
    assert copy.labels.tolist() == original.labels.tolist()
    assert [copy[i]["caption"] for i in range(5)] == [original[i]["caption"] for i in range(5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(splits="train[:9%]"), "whole splits are copied, .* not 'train"),
        (dict(host="decode|random_resized_crop(16)"), "draws at random"),
        (dict(name="mixture"), "copy its parts"),
        (dict(host="resize(16)"), "starts with decode"),
        (dict(host="decode|resiz(16)"), "did you mean 'resize'"),
        (dict(image_format="jpg"), "unknown format of images 'jpg'; did you mean 'jpeg'"),
        (dict(quality=0), "a number from 1 to 100, not 0"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(originals, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        cache.cache_set(**{"name": "folder", "splits": "train", "host": HOST, "out": tmp_path, **arguments})
    assert not any(tmp_path.iterdir())


class Nested(sources.Source):
    """An image with captions below another feature."""

    info = sources.Info("nested", "train", 1, (), None)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {"image": np.zeros((4, 4, 3), np.uint8), "captions/text": ("a cat", "an animal"), "title": "cat"}


def test_nested_features_are_left_out(caplog):
    assert set(cache._features(Nested(), "png").keys()) == {"image", "title"}
    assert "left out of the copy, since they may not fit its images: captions/text" in caplog.text
