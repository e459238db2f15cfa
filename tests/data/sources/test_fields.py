"""Every source says of its fields what its examples then hold; nested features of TFDS are fields."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxvision.data import decoding, shapes, sources
from jaxvision.errors import UserError
from jaxvision.fields import Field, from_json, to_json


def check(source, index=0):
    """Compares an example with what the source says of it."""
    example = source[index]
    assert set(example) <= set(source.fields)
    for name, value in example.items():
        field = source.fields[name]
        if field.dtype == "bytes":
            assert isinstance(value, bytes)
        elif field.dtype == "str":
            assert isinstance(value, str) or all(isinstance(text, str) for text in value)
        else:
            value = np.asarray(value)
            assert value.dtype.kind == np.dtype(field.dtype).kind, name
            assert len(value.shape) == len(field.shape), name
            assert all(want in (None, has) for want, has in zip(field.shape, value.shape)), name
    return example


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The options of a small shapes, and its data_dir."""
    return str(tmp_path_factory.mktemp("shapes")), dict(train=12, validation=3, test=3)


def open_scenes(scenes, fields=None, split="train", **options):
    root, sizes = scenes
    return sources.open_source("shapes", split, data_dir=root, options=sizes | options, fields=fields)


def test_shapes_has_a_mask_and_boxes_with_their_labels(scenes):
    source = open_scenes(scenes)
    fields = source.info.fields
    assert fields["image"] == Field("image", (32, 32, 3), "bytes")
    assert fields["instance_mask"] == Field("segmentation", (32, 32, 1), "uint8", of="image")
    assert fields["objects/bbox"] == Field("boxes", (None, 4), "float32", of="image")
    assert fields["objects/label"] == Field("label", (None,), "int32", 10, shapes.CLASSES, of="objects/bbox")
    assert fields["label"] == Field("label", (), "int32", 10, shapes.CLASSES)
    assert fields["caption"].kind == "text"
    assert from_json(to_json(fields)) == fields
    for index in range(12):
        example = check(source, index)
        mask = example["instance_mask"][:, :, 0]
        for number, (box, kind) in enumerate(zip(example["objects/bbox"], example["objects/label"])):
            rows, columns = np.nonzero(mask == number + 1)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert shapes.CLASSES[kind] == shapes.render("train", index)["objects"][number]["label"]


def test_fields_by_other_names(scenes):
    source = open_scenes(scenes, ("boxes", "kinds"), features=dict(boxes="objects/bbox", kinds="objects/label"))
    assert source.fields["boxes"].kind == "boxes"
    assert source.fields["kinds"].of == "boxes"
    plain = open_scenes(scenes, ("objects/bbox",))
    np.testing.assert_array_equal(check(source)["boxes"], check(plain)["objects/bbox"])
    assert source[0].keys() == {"boxes", "kinds"}


@pytest.mark.parametrize(
    ("fields", "options", "words"),
    [
        (("image", "objects"), {}, r"'objects' .* holds several: .*objects/bbox.*pad_boxes\(n\) in data.host"),
        (("image", "objects/box"), {}, "unknown field .* did you mean 'objects/bbox'"),
        (("image",), dict(features=dict(boxes="objects/boxes")), "unknown feature .* did you mean 'objects/bbox'"),
        (("image",), dict(features=dict(image="objects/bbox")), "'image' is named by the option image"),
    ],
)
def test_a_field_that_there_is_not(scenes, fields, options, words):
    with pytest.raises(UserError, match=words):
        open_scenes(scenes, fields, **options)


def test_relabelled_scenes_and_mixtures(scenes):
    assert open_scenes(scenes, label="pair").fields["label"].classes == 100
    check(open_scenes(scenes, label="colour"))
    parts = {
        part: dict(name="shapes", options=scenes[1] | options)
        for part, options in dict(a={}, b=dict(image_size=48)).items()
    }
    mixed = sources.open_source("mixture", "train", data_dir=scenes[0], options=parts)
    assert mixed.fields["instance_mask"].shape == (None, None, 1)
    check(mixed)


class TinyBoxes(tfds.core.GeneratorBasedBuilder):
    """Three photos of several sizes, one turned by EXIF, with boxes, joints and depth."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        each = {"box": tfds.features.BBoxFeature(), "crowd": np.bool_, "kind": tfds.features.ClassLabel(num_classes=3)}
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "parts": tfds.features.LabeledImage(labels=4, shape=(None, None, 1)),
            "head": tfds.features.BBoxFeature(),
            "joints": tfds.features.Sequence(tfds.features.Tensor(shape=(3,), dtype=np.float32)),
            "depth": tfds.features.Tensor(shape=(8, 6), dtype=np.float32),
            "found": tfds.features.Sequence(each),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(3):
            file, parts, exif = io.BytesIO(), io.BytesIO(), Image.Exif()
            exif[0x0112] = 6 if i == 2 else 1
            Image.new("RGB", (40, 20)).save(file, "JPEG", exif=exif)
            Image.fromarray(np.full((20, 40), i, np.uint8)).save(parts, "PNG")
            file.seek(0), parts.seek(0)
            box = tfds.features.BBox(0.25, 0.5, 0.75, 1.0)
            yield (
                i,
                {
                    "image": file,
                    "parts": parts,
                    "head": box,
                    "joints": [np.full(3, i, np.float32)],
                    "depth": np.zeros((8, 6), np.float32),
                    "found": [{"box": box, "crowd": False, "kind": i}] * i,
                },
            )


def test_boxes_are_pixels_of_the_upright_image(tmp_path):
    tfds.disable_progress_bar()
    TinyBoxes(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    kinds = dict(joints="points", depth="segmentation")
    source = sources.open_source("tiny_boxes", "train", data_dir=str(tmp_path), options=dict(kinds=kinds))
    assert source.fields["parts"] == Field(
        "segmentation", (None, None, 1), "uint8", 4, ("0", "1", "2", "3"), of="image"
    )
    assert source.fields["head"] == Field("boxes", (1, 4), "float32", of="image")
    assert source.fields["joints"] == Field("points", (None, 3), "float32", of="image")
    assert source.fields["depth"] == Field("segmentation", (8, 6), "float32", of="image")
    assert source.fields["found/crowd"] == Field("other", (None,), "bool", of="found/box")
    assert source.fields["found/kind"].of == "found/box"
    for index in range(3):
        example = check(source, index)
        height, width = decoding.read_image(example["image"], 10**6).shape[:2]
        assert decoding.image_size(example["image"]) == (height, width)
        wanted = [width / 2, height / 4, width, height * 3 / 4]
        assert example["head"].tolist() == [wanted]
        assert example["found/box"].tolist() == [wanted] * len(example["found/kind"])
    with pytest.raises(UserError, match="unknown kind of the field 'depth' 'deep'"):
        sources.open_source("tiny_boxes", "train", data_dir=str(tmp_path), options=dict(kinds=dict(depth="deep")))
