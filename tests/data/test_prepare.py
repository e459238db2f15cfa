import importlib.util
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxvision.data import prepare, sources
from jaxvision.errors import UserError


class Words(tfds.core.GeneratorBasedBuilder):
    """A set that TFDS prepares without TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")
    name = "words_without_tensorflow"

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()}))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(3):
            yield i, {"text": f"word {i}"}


class Pixels(Words):
    """A set whose images are given as arrays, which TFDS encodes with TensorFlow; so are CIFAR-10 and MNIST."""

    name = "words_as_pixels"

    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(4, 4, 3))})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _generate_examples(self):
        yield 0, {"image": np.zeros((4, 4, 3), np.uint8)}


class Soup(Words):
    """A set that needs a library of its own."""

    name = "words_in_soup"

    def _generate_examples(self):
        raise ModuleNotFoundError("No module named 'soup.reader'")


class ByHand(Words):
    """A set that one has to ask its owners for."""

    name = "words_by_hand"
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Sign the form."

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(dl_manager.manual_dir)}


@pytest.fixture(autouse=True)
def quiet():
    tfds.disable_progress_bar()


def test_a_prepared_set_can_be_opened_and_is_not_prepared_again(tmp_path):
    folder = prepare.prepare_set("words_without_tensorflow", tmp_path)
    source = sources.open_source("words_without_tensorflow", "train", data_dir=str(tmp_path))
    assert {source[i]["text"] for i in range(len(source))} == {"word 0", "word 1", "word 2"}
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert prepare.prepare_set("words_without_tensorflow", tmp_path) == folder
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("words_as_pixels", "needs TensorFlow, which training does not"),
        ("words_in_soup", "needs the library soup: pip install soup"),
        ("words_by_hand", "Sign the form"),
        ("words_without_tensoflow", "did you mean 'words_without_tensorflow'"),
        ("words_without_tensorflow:9.9.9", "cannot be loaded at version 9.9.9, only: 1.0.0"),
    ],
)
def test_a_set_that_cannot_be_prepared_says_what_to_do(tmp_path, name, message):
    if "TensorFlow" in message and importlib.util.find_spec("tensorflow"):
        pytest.skip("TensorFlow is installed")
    with pytest.raises(UserError, match=message) as error:
        prepare.prepare_set(name, tmp_path)
    if "TensorFlow" in message:
        assert f"tfds.builder('{name}', file_format='array_record', data_dir='{tmp_path}')" in str(error.value)
    assert not list(tmp_path.rglob("*array_record*"))


def test_a_set_in_tfrecord_is_to_be_converted(tmp_path):
    info = prepare.prepare_set("words_without_tensorflow", tmp_path) / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match=r"in another format: .* jaxvision data convert"):
        prepare.prepare_set("words_without_tensorflow", tmp_path)
