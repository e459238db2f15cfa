"""Fields beside image and label, from a config to every command on its run, with the set and without it."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image

from jaxvision import estimate, experiment, inputs, step_costs
from jaxvision.commands import evaluate, inspect, predict, train, visualize
from jaxvision.commands.pages import first_batch
from jaxvision.commands.restore import restore
from jaxvision.data import loader, shapes, sources
from jaxvision.data.blank import Blank
from jaxvision.errors import UserError
from jaxvision.sections import DataSection
from jaxvision.sweep import space, spec
from jaxvision.sweep.spec import Sweep
from jaxvision.train.saved import Saved

FIELDS = ("image", "label", "instance_mask", "objects/bbox", "objects/label")


@pytest.fixture(scope="module")
def placed(tmp_path_factory, config_file):
    """A config with masks and boxes, and the workdir of its run."""
    scope: dict = {}
    exec(config_file.read_text(), scope)
    config = scope["get_config"]()
    config.data.update(fields=FIELDS, host="decode|random_crop(32, 4)|pad_boxes(4)")
    config.train.update(total="2 steps", log_every="1 steps", checkpoint_every="1 steps")
    config.evals.val.update(every="2 steps")
    workdir = tmp_path_factory.mktemp("placed") / "run"
    train.run_train(config, workdir, quiet=True)
    return config, workdir


@pytest.fixture
def away(monkeypatch):
    """The set is not here, and cannot be rendered."""

    def prepare(*args, **options):
        raise UserError("shapes is not here")

    monkeypatch.setattr(shapes, "prepare_shapes", prepare)


def shapes_of(batch):
    return {name: (x.shape, np.dtype(x.dtype)) for name, x in batch.items()}


def test_the_batch_moves_masks_and_boxes_with_the_image(placed):
    built = experiment.build(placed[0])
    raw, seen = first_batch(built)
    assert shapes_of(raw) == shapes_of(built.batch)
    plain = built.data._replace(fields=("image", "label"))
    alone = next(
        loader.train_batches(
            built.source, plain.host.removesuffix("|pad_boxes(4)"), batch_size=16, seed=0, start=0, stop=1
        )
    )
    np.testing.assert_array_equal(alone["image"], raw["image"])
    flipped = np.abs(np.asarray(seen["image"]) - (raw["image"] / 255 - 0.5) / 0.5).max(axis=(1, 2, 3)) > 1e-3
    for batch in (raw, seen):
        for mask, boxes, labels in zip(*(np.asarray(batch[name]) for name in FIELDS[2:])):
            for number, (box, label) in enumerate(zip(boxes, labels)):
                if label >= 0:
                    rows, columns = np.nonzero(mask[:, :, 0] == number + 1)
                    assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert 0 < flipped.sum() < 16
    assert (raw["objects/label"] == -1).any()


def test_the_checkpoint_says_what_the_fields_are(placed, away):
    _, workdir = placed
    stored_fields = Saved(workdir).meta()["data"]["fields"]
    assert stored_fields["instance_mask"] == {
        **stored_fields["instance_mask"],
        "kind": "segmentation",
        "shape": [32, 32, 1],
        "of": "image",
    }
    assert stored_fields["image"]["dtype"] == "uint8"
    json.dumps(stored_fields)
    built, _, _ = restore(workdir)
    assert built.absent
    assert shapes_of(built.batch) == {
        "image": ((16, 32, 32, 3), np.uint8),
        "label": ((16,), np.int32),
        "instance_mask": ((16, 32, 32, 1), np.uint8),
        "objects/bbox": ((16, 4, 4), np.float32),
        "objects/label": ((16, 4), np.int32),
        "mask": ((16,), bool),
    }
    assert built.fields["objects/label"].of == "objects/bbox"


def test_every_command_works_on_the_run(placed, tmp_path):
    _, workdir = placed
    assert evaluate.run_evaluate(workdir)["val/examples"] == 24
    page = visualize.run_visualize(workdir, tmp_path / "page", perplexity=5.0)
    assert "Left out: the training set" not in page.with_name("index.md").read_text()


def test_commands_work_on_the_run_without_its_set(placed, away, tmp_path, capsys):
    config, workdir = placed
    Image.new("RGB", (40, 36), (200, 20, 20)).save(tmp_path / "red.png")
    assert len(predict.run_predict(workdir, str(tmp_path / "red.png"))) == 1
    with pytest.raises(UserError, match="shapes is not here"):
        evaluate.run_evaluate(workdir)
    config_without_data = ConfigDict(config.to_dict())
    with config_without_data.unlocked():
        config_without_data.data.update(classes=10, examples=80, image_size=32)
    assert estimate.estimate(config_without_data).parameters == step_costs.step_cost(config_without_data).parameters > 0
    inspect.run_inspect(config_without_data, compile_step=False)
    assert "instance_mask uint8[16, 32, 32, 1]" in capsys.readouterr().out.replace("\n", " ")
    assert experiment.build(config_without_data, training_data="ignored").fields["objects/bbox"].shape == (4, 4)


def test_a_checkpoint_of_an_earlier_version_opens(trained, monkeypatch, away):
    meta = Saved.meta

    def without(self, *args):
        stored_meta = meta(self, *args)
        return {**stored_meta, "data": {key: value for key, value in stored_meta["data"].items() if key != "fields"}}

    now = restore(trained[0])[0]
    monkeypatch.setattr(Saved, "meta", without)
    assert shapes_of(restore(trained[0])[0].batch) == shapes_of(now.batch)


def section(**changes):
    return DataSection(
        **{"name": "coco/2017", "split": "train", "batch_size": 8, "classes": 80, "examples": 99} | changes
    )


def test_a_field_of_which_nothing_is_known_is_refused_by_name(tmp_path):
    section_without_data = section(data_dir=str(tmp_path), image_size=64)
    assert inputs.open_or_describe(section_without_data, "ignored")[0] is None
    unknown = section_without_data._replace(fields=("image", "objects/bbox"))
    with pytest.raises(
        UserError, match=r"(?s)not prepared.*Only the set, or a checkpoint .* its field 'objects/bbox' is"
    ):
        inputs.open_or_describe(unknown, "ignored")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(fields=("image", "objects")), r"'objects' .*holds several: .*objects/bbox.* pad_boxes\(n\) in data.host"),
        (dict(fields=("image", "objects/bbox")), r"'objects/bbox' holds boxes, .* add pad_boxes\(16\)"),
        (dict(host="decode|pad_boxes(3)"), "pad_boxes.3. finds no boxes in the batch, only image, label"),
        (dict(fields=()), "data.fields names no field"),
    ],
)
def test_fields_that_do_not_fit_are_refused_when_the_config_is_read(config, changes, words):
    with config.unlocked(), config.data.ignore_type():
        config.data.update(changes)
    with pytest.raises(UserError, match=words):
        experiment.build(config)


class TinyNumbers(tfds.core.GeneratorBasedBuilder):
    """Six vectors whose label is a whole number, and no image."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"x": tfds.features.Tensor(shape=(5,), dtype=np.float32), "label": np.int64}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": ((i, {"x": np.full(5, i, np.float32), "label": i % 3}) for i in range(6))}

    def _generate_examples(self):
        raise NotImplementedError


def test_labels_that_are_whole_numbers_count_the_classes_of_the_config_and_no_image_is_needed(tmp_path):
    tfds.disable_progress_bar()
    TinyNumbers(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    data = section(
        name="tiny_numbers", data_dir=str(tmp_path), batch_size=2, classes=3, examples=6, fields=("x", "label")
    )
    inputs.check(data)
    source, info, _ = inputs.open_or_describe(data, "required")
    assert (info.num_classes, sorted(source.labels.tolist())) == (3, [0, 0, 1, 1, 2, 2])
    assert shapes_of(inputs.raw_batch(source, data)) == {
        "x": ((2, 5), np.float32),
        "label": ((2,), np.int32),
        "mask": ((2,), bool),
    }
    stored = inputs.stored_fields(source, data)
    assert inputs.image_of(stored) is None
    blank = Blank(inputs.open_or_describe(data, "ignored", stored)[1])
    assert shapes_of(inputs.raw_batch(blank, data)) == shapes_of(inputs.raw_batch(source, data))
    few, _, _ = inputs.open_or_describe(data._replace(classes=2), "required")
    with pytest.raises(UserError, match="label 2 is none of the 2 classes of data.classes"):
        _ = few.labels
    with pytest.raises(sources.BadExample, match="label 2 is none of the 2 classes"):
        [few[i] for i in range(6)]


def test_the_space_of_a_sweep_is_checked_without_the_set(placed, away):
    shared = {"data.classes": 10, "data.examples": 80, "data.image_size": 32, "evals.val.every": "1 steps"}
    tried = {"optimizer.learning_rate": space.choice(0.1, 0.2)}
    sweep = Sweep(str(placed[1] / "config.json"), {**tried, **shared}, search="grid")
    assert spec.check_experiments(sweep) == 2
