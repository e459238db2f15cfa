import io
import shutil
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxvision.data import sources
from jaxvision.errors import UserError


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
    """Five labelled photos as encoded bytes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.Image(shape=(None, None, 1)),
            "label": tfds.features.ClassLabel(names=["cat", "dog", "owl"]),
            "caption": tfds.features.Text(),
            "captions": tfds.features.Sequence({"id": np.int64, "text": tfds.features.Text()}),
            "objects": tfds.features.Sequence({"label": tfds.features.ClassLabel(names=["cup", "hat"])}),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(5):
            photo, mask = self.files / f"{i}.jpg", self.files / f"{i}.png"
            captions = [{"id": j, "text": f"text {j} of {i}"} for j in range(2)]
            objects = [{"label": j} for j in ([], [0], [1, 1], [0, 1], [])[i]]
            words = {"caption": f"photo {i}", "captions": captions}
            yield i, {"image": photo, "mask": mask, "label": i % 3, "objects": objects, **words}


class TinyTexts(tfds.core.GeneratorBasedBuilder):
    """A set without images and labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()}))

    def _split_generators(self, dl_manager):
        return {"train": ((i, {"text": f"text {i}"}) for i in range(3))}

    def _generate_examples(self):
        raise NotImplementedError


@pytest.fixture
def prepared(tmp_path, encode, photo):
    """A data_dir with two sets in ArrayRecord, and the files they were made of."""
    TinyPhotos.files = tmp_path / "files"
    TinyPhotos.files.mkdir()
    for i in range(5):
        (TinyPhotos.files / f"{i}.jpg").write_bytes(encode(photo(i), "JPEG"))
        (TinyPhotos.files / f"{i}.png").write_bytes(encode(np.full((8, 8), i, np.uint8)))
    tfds.disable_progress_bar()
    for builder in (TinyPhotos, TinyTexts):
        builder(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    return tmp_path


def test_tfds_set(prepared):
    source = sources.open_source("tiny_photos", "train[:80%]", data_dir=str(prepared))
    assert source.info._replace(fields={}) == sources.Info("tiny_photos", "train[:80%]", 4, ("cat", "dog", "owl"), 3)
    examples = [source[i] for i in range(4)]
    assert source.labels.tolist() == [e["label"] for e in examples]
    for example in examples:
        number = example["caption"].split()[1]
        assert example["image"] == (prepared / "files" / f"{number}.jpg").read_bytes()
        assert example["mask"][0, 0, 0] == int(number)


def test_tfds_set_with_some_fields(prepared):
    def read(*fields):
        return sources.open_source("tiny_photos", "train", data_dir=str(prepared), fields=fields)

    assert read("mask", "caption")[0].keys() == {"mask", "caption"}
    np.testing.assert_array_equal(read("caption").labels, read("label").labels)
    with pytest.raises(UserError, match="did you mean 'mask'"):
        read("masks")


def number(example):
    return int(example["caption"].split()[1])


def test_features_by_other_names(prepared):
    options = dict(text="captions/text", label="objects/label")
    source = sources.open_source("tiny_photos", "train", data_dir=str(prepared), options=options)
    assert (source.info.classes, source.info.multi_label) == (("cup", "hat"), True)
    hot = [[0, 0], [1, 0], [0, 1], [1, 1], [0, 0]]
    for i in range(5):
        example = source[i]
        assert example["text"] == tuple(f"text {j} of {number(example)}" for j in range(2))
        assert example["label"].tolist() == source.labels[i].tolist() == hot[number(example)]
    assert source.labels.dtype == example["label"].dtype == np.float32
    with pytest.raises(UserError, match="unknown feature .* did you mean 'captions'"):
        sources.open_source("tiny_photos", "train", data_dir=str(prepared), options=dict(text="caption_s"))


def test_tfds_set_without_images_and_labels(prepared):
    source = sources.open_source("tiny_texts", "train", data_dir=str(prepared))
    assert sorted(source[i]["text"] for i in range(3)) == ["text 0", "text 1", "text 2"]
    assert source.info.num_classes is None
    with pytest.raises(UserError, match="no class labels"):
        _ = source.labels


def test_tfds_errors(prepared):
    def message(name, split="train", data_dir=str(prepared)):
        with pytest.raises(UserError) as error:
            sources.open_source(name, split, data_dir=data_dir)
        return str(error.value)

    begun = time.monotonic()
    assert "which has train: there is no split of that name" in message("tiny_photos", "test")
    assert "did you mean 'cifar100'" in message("cifar1000")
    assert "cannot read the data set name" in message("cifar 10/")
    for name in ("cifar10", "imagenet2012:5.1.0", "coco/2017", "tiny_photos:2.0.0"):
        assert f"jaxvision data prepare {name} --data_dir={prepared}" in message(name)
    assert "tensorflow_datasets. Prepare" in message("cifar10", data_dir=None)
    assert time.monotonic() - begun < 20, "the network was asked"


class TinyOdd(tfds.core.GeneratorBasedBuilder):
    """Six examples whose features are odd: a label that is a plain number, an empty text."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "pixels": tfds.features.Tensor(shape=(4, 4, 3), dtype=np.uint8),
            "label": np.int64,
            "score": np.float32,
            "tags": tfds.features.Sequence(np.int64),
            "text": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(6):
            pixels, text = np.full((4, 4, 3), i, np.uint8), f"text {i}" if i else ""
            numbers = {"label": i % 3, "score": i / 2, "tags": [i % 3] * (i % 2)}
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            file.seek(0)
            yield i, {"image": file, "pixels": pixels, "text": text, **numbers}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The data_dir of TinyOdd."""
    root = tmp_path_factory.mktemp("odd")
    tfds.disable_progress_bar()
    TinyOdd(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def open_odd(root, fields, **options):
    return sources.open_source("tiny_odd", "train", data_dir=str(root), fields=fields, options=options)


@pytest.mark.parametrize(
    ("field", "feature", "words"),
    [
        ("image", "label", "Tensor.* not one image per example"),
        ("image", "text", "Text"),
        ("image", "tags", "any number of them"),
        ("image", "score", "not one image"),
        ("text", "label", "not a text or a list of texts"),
        ("text", "image", "not a text"),
    ],
)
def test_features_that_cannot_be_what_they_should(odd, field, feature, words):
    with pytest.raises(UserError, match=f"the feature '{feature}' of 'tiny_odd' is .*{words}"):
        open_odd(odd, [field], **{field: feature})


def test_a_label_that_is_a_plain_number(odd):
    assert open_odd(odd, ["label"]).info.num_classes is None
    source = open_odd(odd, ["label"], classes=("a", "b", "c"))
    assert (source.info.classes, source.info.num_classes) == (("a", "b", "c"), 3)
    assert sorted(source.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    assert [source[i]["label"] for i in range(6)] == source.labels.tolist()
    tags = open_odd(odd, ["label"], classes=3, label="tags")
    assert tags.info.multi_label
    assert sorted(map(tuple, tags.labels.tolist())) == sorted([(0, 0, 0)] * 3 + [(0, 1, 0), (1, 0, 0), (0, 0, 1)])
    few = open_odd(odd, ["label"], classes=2)
    with pytest.raises(UserError, match=r"example \d of tiny_odd train: the label 2 is none of the 2 classes"):
        _ = few.labels
    bad = few[int(np.flatnonzero(source.labels < 2)[0])]
    assert bad["label"] in (0, 1)
    with pytest.raises(sources.BadExample, match="its label 2 is none"):
        few[int(np.flatnonzero(source.labels == 2)[0])]
    with pytest.raises(UserError, match="'score' of 'tiny_odd' is .*not a whole number"):
        open_odd(odd, ["label"], classes=3, label="score")


def test_an_empty_text_is_none(odd):
    whole, texts = open_odd(odd, ["pixels"]), open_odd(odd, ["text"])
    for i in range(6):
        number = whole[i]["pixels"][0, 0, 0]  # TFDS shuffles
        if number:
            assert texts[i]["text"] == f"text {number}"
        else:
            with pytest.raises(sources.BadExample, match="its text holds no caption"):
                texts[i]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("dataset_info.json", b"{broken", "Failed to load JSON"),
        ("dataset_info.json", b"", "Failed to load JSON"),
        ("dataset_info.json", b"{}", "Invalid version"),
        ("features.json", b"{", "is not JSON"),
        ("features.json", b"\xff", "not UTF-8"),
    ],
)
def test_broken_files_of_tfds_are_named(odd, tmp_path, file, content, words):
    shutil.copytree(odd, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tiny_odd" / "1.0.0" / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"what TFDS wrote of the data set 'tiny_odd' in {tmp_path}.*{words}"):
        open_odd(tmp_path, ["image"])


@pytest.mark.parametrize("damage", ["missing", "cut", "noise"])
def test_records_that_are_not_there_are_bad(odd, tmp_path, damage):
    shutil.copytree(odd, tmp_path, dirs_exist_ok=True)
    (shard,) = (tmp_path / "tiny_odd" / "1.0.0").glob("*.array_record*")
    data = shard.read_bytes()
    shard.write_bytes({"cut": data[:500], "noise": bytes(reversed(data))}.get(damage, b""))
    if damage == "missing":
        shard.unlink()
    source = open_odd(tmp_path, ["image", "label"], classes=3)
    with pytest.raises(sources.BadExample, match="cannot read its record: "):
        source[0]
    with pytest.raises(UserError, match="cannot read the labels of tiny_odd train: "):
        _ = source.labels


def metadata(name, data_dir, splits, file_format="array_record"):
    """Writes what TFDS knows of a set, without its records."""
    builder = tfds.builder(name, data_dir=data_dir, file_format=file_format)
    template = tfds.core.ShardedFileTemplate(
        data_dir=builder.data_path, dataset_name=builder.name, filetype_suffix=file_format
    )
    infos = [
        tfds.core.SplitInfo(name=s, shard_lengths=[n], num_bytes=0, filename_template=template.replace(split=s))
        for s, n in splits.items()
    ]
    builder.info.set_splits(tfds.core.SplitDict(infos))
    builder.data_path.mkdir(parents=True)
    builder.info.write_to_directory(builder.data_path)


def test_tfrecord_is_refused(tmp_path):
    metadata("cifar10", tmp_path, {"train": 10}, file_format="tfrecord")
    with pytest.raises(UserError, match="as tfrecord, .* jaxvision data convert .*cifar10/3.0.2 OUT"):
        sources.open_source("cifar10", "train", data_dir=str(tmp_path))


class Records(list):
    def __getitems__(self, keys):
        return [self[k] for k in keys]


def test_mocked_imagenet(tmp_path, encode, photo):
    metadata("imagenet2012", tmp_path, {"train": 20, "validation": 10})
    features = tfds.builder("imagenet2012", data_dir=tmp_path).info.features
    # Without TensorFlow, mock_data cannot encode images of its own: it is given these records.
    records = Records(
        features.serialize_example({"image": io.BytesIO(encode(photo(i), "JPEG")), "label": 7 * i, "file_name": "f"})
        for i in range(12)
    )
    mock = tfds.testing.mock_data(data_dir=str(tmp_path), as_data_source_fn=lambda *args, **kwargs: records)
    with mock:
        source = sources.open_source("imagenet2012", "train")
        assert (len(source), source.info.num_classes, source.info.classes[0]) == (12, 1000, "n01440764")
        assert source.labels.tolist() == [source[i]["label"] for i in range(12)]
