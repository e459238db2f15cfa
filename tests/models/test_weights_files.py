"""Files and folders of weights, and the preprocessing that travels with them."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxvision import augment
from jaxvision.data import host_ops
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.weights import files, folder, preprocessing

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.half": np.ones(2, np.float16), "n": np.array(7)}


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_what_is_read_is_what_was_written(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    if suffix == "npz":
        np.savez(path, **ARRAYS)
    else:
        weights.write(path, ARRAYS)
    read = weights.read(path)
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_the_file_is_one_that_the_library_reads(tmp_path):
    weights.write(tmp_path / "w.safetensors", {"t": np.arange(6.0).reshape(2, 3).T})  # not contiguous
    read = safetensors.numpy.load_file(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(read["t"], [[0, 3], [1, 4], [2, 5]])
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_bfloat16_is_read(tmp_path):
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    values = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
    np.testing.assert_array_equal(weights.read(tmp_path / "w.safetensors")["x"].astype(np.float32), [1.5, -2.0])


def test_keras_h5_is_named_by_layer_and_array(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the extra weights")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["model_weights/dense/dense/kernel:0"] = np.ones((2, 3))
        file["optimizer_weights/Adam/dense/kernel/m:0"] = np.ones((2, 3))
    assert {name: x.shape for name, x in weights.read(tmp_path / "w.h5").items()} == {"dense/kernel": (2, 3)}


@pytest.mark.parametrize("suffix", files.PICKLES)
def test_pickles_are_refused_with_the_command_that_converts_them(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(UserError) as error:
        weights.read(path)
    for part in ("is a pickle", 'python -c "import torch;', str(path), str(path.with_suffix(".safetensors"))):
        assert part in str(error.value)


def test_an_npz_with_objects_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "w.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="cannot read .*w.npz"):
        weights.read(tmp_path / "w.npz")


@pytest.mark.parametrize(("name", "content"), [("w.safetensors", bytes(20)), ("w.npz", b"PK\x03\x04"), ("w.npz", b"")])
def test_a_damaged_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"cannot read .*{name}"):
        weights.read(tmp_path / name)


def test_no_file_and_no_format(tmp_path):
    with pytest.raises(UserError, match="no file of weights"):
        weights.read(tmp_path / "absent.npz")
    with pytest.raises(UserError, match=r"want a file .safetensors, .npz"):
        weights.read(tmp_path / "model.onnx")


def test_a_folder_comes_back(tmp_path):
    folder.save(tmp_path / "deep" / "out", ARRAYS, {"model": {"name": "vit"}})
    arrays, meta = folder.load(tmp_path / "deep" / "out")
    assert meta == {"model": {"name": "vit"}}
    np.testing.assert_array_equal(arrays["a"], ARRAYS["a"])
    with pytest.raises(UserError, match="exists already"):
        folder.save(tmp_path / "deep" / "out", ARRAYS, {})
    with pytest.raises(UserError, match="is no folder of weights"):
        folder.load(tmp_path)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(TypeError):
        folder.save(tmp_path / "out", ARRAYS, {"meta": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", preprocessing.PRESETS, ids=str)
def test_presets_are_specs_that_can_be_built(key):
    images = preprocessing.preset(*key)
    assert preprocessing.make(*key, {}) == images
    picture = np.random.default_rng(0).integers(0, 256, (images.size + 9, images.size + 40, 3), np.uint8)
    seen = host_ops.make(images.host)({"image": picture}, None)["image"]
    assert seen.shape == (images.size, images.size, 3)
    out = augment.make(images.augment)(jax.random.key(0), {"image": seen[None, :8, :8]})["image"]
    want = (seen[:8, :8] / 255 - np.array(images.mean)) / np.array(images.std)
    np.testing.assert_allclose(out[0], want, rtol=1e-4, atol=1e-3)


def test_timm_config_beside_the_weights(tmp_path):
    stated = {"input_size": [3, 288, 288], "crop_pct": 1.0, "mean": [0, 0.5, 1]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "x", "pretrained_cfg": stated}))
    assert preprocessing.read_timm_config(tmp_path / "config.json") == {"size": 288, "crop": 1.0, "mean": (0, 0.5, 1)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"interpolation": "lanczos"}, "unknown interpolation 'lanczos'. Choices: bicubic, bilinear"),
        ({"crop": 0}, "crop is the part"),
        ({"size": 0}, "size is a number of pixels"),
        ({"mean": (0.5,)}, "one value a channel"),
        ({"normalize": "imagnet"}, "unknown normalisation 'imagnet'; did you mean 'imagenet'"),
    ],
)
def test_wrong_preprocessing(given, message):
    with pytest.raises(UserError) as error:
        preprocessing.make("timm", "vit", given)
    assert message in str(error.value)
