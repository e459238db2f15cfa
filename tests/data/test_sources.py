import io
import shutil
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxvision.data import sources
from jaxvision.errors import UserError


def open_folder(root, split="train"):
    return sources.open_source("folder", split, data_dir=str(root))


def test_folder(folder):
    source = open_folder(folder)
    assert source.info == sources.Info(folder.name, "train", 7, ("cat", "dog"), 2)
    assert source.labels.tolist() == [source[i]["label"] for i in range(7)] == [0, 0, 0, 0, 1, 1, 1]
    assert source.describe(5) == str(folder / "train" / "dog" / "1.png")
    assert source[5]["image"] == (folder / "train" / "dog" / "1.png").read_bytes()


@pytest.mark.parametrize(
    ("split", "indices"),
    [
        ("train[:40%]", [0, 1, 2]),  # 2.8 examples, rounded as TFDS does
        ("train[40%:]", [3, 4, 5, 6]),
        ("train[2:4]", [2, 3]),
        ("train[-1:]", [6]),
        ("train[5:]+train[:1]", [5, 6, 0]),
    ],
)
def test_folder_slices(folder, split, indices):
    whole, part = open_folder(folder), open_folder(folder, split)
    assert [part.describe(i) for i in range(len(part))] == [whole.describe(i) for i in indices]


def test_folder_sums_of_splits(folder):
    assert len(open_folder(folder, "train+validation")) == len(open_folder(folder, "all")) == 11


def test_folder_passes_over_what_is_no_image(folder):
    (folder / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (folder / "train" / "cat" / "notes.txt").write_bytes(b"")
    (folder / ".cache").mkdir()
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "cat" / "9.JPeG")
    assert len(open_folder(folder)) == 8


def test_folder_of_another_class(folder):
    (folder / "validation" / "bird").mkdir()
    with pytest.raises(UserError, match=r"'train' and 'validation' .* differ in their class folders: bird"):
        open_folder(folder)


def test_folder_that_lacks_something(folder, tmp_path_factory):
    with pytest.raises(UserError, match="no directory"):
        open_folder(folder / "nowhere")
    with pytest.raises(UserError, match="is empty"):
        open_folder(tmp_path_factory.mktemp("empty"))
    with pytest.raises(UserError, match=r"'test' .*which has train, validation"):
        open_folder(folder, "test")
    with pytest.raises(UserError, match=r"'train\[:0%\]' .* is empty"):
        open_folder(folder, "train[:0%]")
    with pytest.raises(UserError, match="cannot read the split"):
        open_folder(folder, "train[")
    with pytest.raises(UserError, match="needs data_dir"):
        sources.open_source("folder", "train")
    for file in (folder / "train").glob("*/*"):
        file.unlink()
    with pytest.raises(UserError, match="no images in"):
        open_folder(folder)
    (folder / "test").mkdir()
    with pytest.raises(UserError, match="no class folders"):
        open_folder(folder)


def test_shapes(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVISION_DATA", str(tmp_path))
    source = sources.open_source("shapes", "train[:20]", options={"train": 30, "validation": 4, "test": 4})
    assert (source.info.name, len(source), source.info.num_classes) == ("shapes", 20, 10)
    assert source.labels.tolist() == [source[i]["label"] for i in range(20)]
    assert any(tmp_path.iterdir())


def test_shapes_options(folder):
    with pytest.raises(UserError, match="did you mean 'image_size'"):
        sources.open_source("shapes", "train", options={"imagesize": 16})
    with pytest.raises(UserError, match="takes no options"):
        sources.open_source("folder", "train", data_dir=str(folder), options={"image_size": 16})


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
    """Five labelled photos as encoded bytes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.Image(shape=(None, None, 1)),
            "label": tfds.features.ClassLabel(names=["cat", "dog", "owl"]),
            "caption": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(5):
            photo, mask = self.files / f"{i}.jpg", self.files / f"{i}.png"
            yield i, {"image": photo, "mask": mask, "label": i % 3, "caption": f"photo {i}"}


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
    assert source.info == sources.Info("tiny_photos", "train[:80%]", 4, ("cat", "dog", "owl"), 3)
    examples = [source[i] for i in range(4)]
    assert source.labels.tolist() == [e["label"] for e in examples]
    for example in examples:
        number = example["caption"].decode().split()[1]
        assert example["image"] == (prepared / "files" / f"{number}.jpg").read_bytes()
        assert example["mask"][0, 0, 0] == int(number)


def test_tfds_set_with_some_fields(prepared):
    def read(*fields):
        return sources.open_source("tiny_photos", "train", data_dir=str(prepared), fields=fields)

    assert read("mask", "caption")[0].keys() == {"mask", "caption"}
    np.testing.assert_array_equal(read("caption").labels, read("label").labels)
    with pytest.raises(UserError, match="did you mean 'mask'"):
        read("masks")


def test_tfds_set_without_images_and_labels(prepared):
    source = sources.open_source("tiny_texts", "train", data_dir=str(prepared))
    assert sorted(source[i]["text"] for i in range(3)) == [b"text 0", b"text 1", b"text 2"]
    assert source.info.num_classes is None
    with pytest.raises(UserError, match="no class labels"):
        _ = source.labels


def test_tfds_errors(prepared):
    def message(name, split="train", data_dir=str(prepared)):
        with pytest.raises(UserError) as error:
            sources.open_source(name, split, data_dir=data_dir)
        return str(error.value)

    begun = time.monotonic()
    assert "which has train: Unknown split 'test'" in message("tiny_photos", "test")
    assert "did you mean 'cifar100'" in message("cifar1000")
    assert "cannot read the data set name" in message("cifar 10/")
    for name in ("cifar10", "imagenet2012:5.1.0", "coco/2017", "tiny_photos:2.0.0"):
        assert f"tfds.builder('{name}', file_format='array_record', data_dir='{prepared}')" in message(name)
    assert "tensorflow_datasets. Prepare" in message("cifar10", data_dir=None)
    assert time.monotonic() - begun < 20, "the network was asked"


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
    with pytest.raises(UserError, match="as tfrecord, which has no random access"):
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


def test_check_classes(folder):
    info = open_folder(folder).info
    sources.check_classes(info, 2)
    sources.check_classes(info._replace(num_classes=None), 2)
    with pytest.raises(UserError, match=r"the config says 10 classes, but .* train has 2"):
        sources.check_classes(info, 10)
