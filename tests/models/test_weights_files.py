"""Files and folders of weights, and the preprocessing that travels with them."""

import io
import json
import pickle
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import serialization

from jaxvision import augment
from jaxvision.data import host_ops
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.weights import folder, preprocessing

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


def test_keras_h5_is_named_by_layer_and_array(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the extra weights")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["model_weights/dense/dense/kernel:0"] = np.ones((2, 3))
        file["optimizer_weights/Adam/dense/kernel/m:0"] = np.ones((2, 3))
    assert {name: x.shape for name, x in weights.read(tmp_path / "w.h5").items()} == {"dense/kernel": (2, 3)}


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"\x80\x02.")
    return buffer.getvalue()


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.safetensors"))
    return buffer.getvalue()


TORCH_ZIP = zipped("archive/data.pkl", "archive/version", "archive/data/0")
TORCH_OLD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."  # torch.save's magic number and version
TORCH_SCRIPT = zipped("net/code/__torch__.py", "net/constants.pkl", "net/data.pkl")


@pytest.mark.parametrize(
    "name", ["m.pth", "m.pt", "m.th", "m.bin", "m.ckpt", "m.pth.tar", "m.safetensors", "m.npz", "m"]
)
@pytest.mark.parametrize(
    ("content", "program", "suffix"),
    [
        (TORCH_ZIP, "torch.load(", ".safetensors"),
        (TORCH_OLD, "torch.load(", ".safetensors"),
        (TORCH_SCRIPT, "torch.jit.load(", ".safetensors"),
    ],
)
def test_pickles_are_refused_under_any_name_with_the_command_that_converts_them(
    tmp_path, name, content, program, suffix
):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        weights.read(path)
    words = shlex.split(str(error.value).splitlines()[1])
    assert "is a pickle" in str(error.value)
    assert words[:2] == ["python", "-c"]
    assert program in words[2]
    compile(words[2], name, "exec")
    assert words[3:] == [str(path), str(path.with_suffix(suffix))]


class Harmful:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["w.pkl", "w.th", "w.npz", "w.h5", "w.safetensors", "w.msgpack", "w"])
def test_no_pickle_is_opened(tmp_path, name, protocol):
    (tmp_path / name).write_bytes(pickle.dumps({"a": Harmful(tmp_path / "written")}, protocol))
    with pytest.raises(UserError, match="is a pickle, as (?:Python|torch.save) writes it"):
        weights.read(tmp_path / name)
    assert not (tmp_path / "written").exists()


def test_the_command_for_a_pickle_of_arrays_works(tmp_path):
    (tmp_path / "my weights.pkl").write_bytes(pickle.dumps({"model": {"a": np.arange(3.0)}, "epoch": 3}))
    with pytest.raises(UserError) as error:
        weights.read(tmp_path / "my weights.pkl")
    command = shlex.split(str(error.value).splitlines()[1])
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert {k: x.tolist() for k, x in weights.read(tmp_path / "my weights.npz").items()} == {"model.a": [0, 1, 2]}


def test_an_npz_with_objects_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "w.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="cannot read .*w.npz: 'x': "):
        weights.read(tmp_path / "w.npz")


HEADER = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
LONG = len(HEADER).to_bytes(8, "little")


@pytest.mark.parametrize("name", ["w.safetensors", "w.npz", "w.h5", "w.th", "w"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty, 0 bytes"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "it is a web page, .*: download it again"),
        (b"\n<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "it is a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
            "a pointer of git LFS, .*git lfs pull",
        ),
        (b"Access denied. Please log in.", "it is a text, 'Access denied. Please log in.'"),
        (b'{"error": "gated"}', "it is JSON without a weight_map"),
        (b"\x1f\x8b\x08\x00" + bytes(60), "compressed with gzip: unpack it first"),
        (tarred(), "it is a tar archive: unpack it first"),
        (zipped("resnet/model.safetensors"), "a zip archive of resnet/model.safetensors: unpack it first"),
        (zipped(), "a zip archive of nothing"),
        (zipped("config.json", "model.weights.h5"), "the format .keras numbers arrays"),
        (b"PK\x03\x04" + bytes(20), "File is not a zip file"),
        (b"\x93NUMPY\x01\x00" + bytes(60), "a single array without a name"),
        (b"GGUF\x03" + bytes(60), "a GGUF file"),
        (b"\x04\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00V 1\r\x00\x00\x00nn.Sequential", "Lua Torch 7"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "(?i)unable|truncated|cannot"),
        (LONG + HEADER + bytes(4), "(?i)metadata|incomplete|buffer"),  # cut off in the array
        (LONG + HEADER[:20], "(?i)header|invalid"),  # cut off in the header
        (LONG + HEADER.replace(b"F32", b"F4\x20") + bytes(8), "(?i)header|variant|F4"),
        (b"\x81\xa1a", "(?i)unpack|incomplete|data"),  # a cut map of msgpack
        (bytes(range(128, 256)), "it is of an unknown format|does not begin as a"),
    ],
    ids=lambda v: v[:8].hex() if isinstance(v, bytes) else None,
)
def test_what_is_no_file_of_weights_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"^cannot read {re.escape(str(tmp_path / name))}: ") as error:
        weights.read(tmp_path / name)
    assert re.search(message, str(error.value))


@pytest.mark.parametrize("name", ["w.npz", "w.bin", "w.th", "w"])
def test_the_content_decides_not_the_suffix(tmp_path, name):
    weights.write(tmp_path / name, ARRAYS)
    assert weights.read(tmp_path / name).keys() == ARRAYS.keys()
    with (tmp_path / name).open("wb") as file:
        np.savez(file, **ARRAYS)
    np.testing.assert_array_equal(weights.read(tmp_path / name)["a"], ARRAYS["a"])


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match="no file of weights"):
        weights.read(tmp_path / "absent.npz")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"is a folder, not a file of weights: name a file in it, such as model.safetensors"
    ):
        weights.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("BF16", ml_dtypes.bfloat16),
        ("F16", np.float16),
        ("F8_E4M3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", ml_dtypes.float8_e5m2),
        ("U16", np.uint16),
        ("I8", np.int8),
    ],
)
def test_types_of_safetensors(tmp_path, name, dtype):
    values = np.array([1.5, 2.0], dtype)
    header = f'{{"x":{{"dtype":"{name}","shape":[2],"data_offsets":[0,{values.nbytes}]}}}}'.encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
    read = weights.read(tmp_path / "w.safetensors")["x"]
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, values)


def test_bfloat16_of_an_npz(tmp_path):
    """NumPy writes it as two bytes without a type; so it is in files of big_vision."""
    np.savez(tmp_path / "w.npz", x=np.array([1.5, -2.0], ml_dtypes.bfloat16))
    read = weights.read(tmp_path / "w.npz")["x"]
    assert read.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(read.astype(np.float32), [1.5, -2.0])


def test_names_of_one_array_in_memory_are_all_read(tmp_path):
    """safetensors.torch.save_model keeps one of them and the other names in the meta data."""
    safetensors.numpy.save_file({"a": np.arange(3.0)}, tmp_path / "w.safetensors", {"b": "a", "format": "pt"})
    read = weights.read(tmp_path / "w.safetensors")
    assert {name: x.tolist() for name, x in read.items()} == {"a": [0, 1, 2], "b": [0, 1, 2]}


def test_the_files_of_an_index_are_read_together(tmp_path):
    for name, arrays in {"m-1.safetensors": {"a": np.zeros(2)}, "m-2.safetensors": {"b": np.ones(3)}}.items():
        weights.write(tmp_path / name, arrays)
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}))
    assert {name: x.shape for name, x in weights.read(index).items()} == {"a": (2,), "b": (3,)}
    index.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors", "c": "m-2.safetensors"}}))
    with pytest.raises(UserError, match="1 arrays are not in their files, such as c"):
        weights.read(index)
    (tmp_path / "m-2.safetensors").unlink()
    with pytest.raises(UserError, match="no file of weights .*m-2.safetensors"):
        weights.read(index)


def test_flax_msgpack(tmp_path):
    tree = {
        "params": {"dense": {"kernel": np.ones((2, 3), np.float32)}, "bias": np.arange(2, dtype=ml_dtypes.bfloat16)}
    }
    (tmp_path / "w.msgpack").write_bytes(serialization.msgpack_serialize(tree))
    read = weights.read(tmp_path / "w.msgpack")
    assert read.keys() == {"params/dense/kernel", "params/bias"}
    np.testing.assert_array_equal(read["params/bias"].astype(np.float32), [0, 1])


def test_keras_h5_of_a_model_in_a_model(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the extra weights")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for name in ("backbone/conv1/kernel:0", "backbone/conv2/kernel:0", "dense/dense/kernel:0"):
            file["model_weights/" + name] = np.full(2, len(name))
        file["model_weights/top"] = np.ones(1)
    names = {"backbone/conv1/kernel", "backbone/conv2/kernel", "dense/kernel", "top"}
    assert weights.read(tmp_path / "w.h5").keys() == names
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones(2)
    with pytest.raises(UserError, match="Keras 3 numbered its arrays, layers/conv2d/vars/0"):
        weights.read(tmp_path / "w.h5")


def test_a_folder_comes_back(tmp_path):
    folder.save(tmp_path / "deep" / "out", ARRAYS, {"model": {"name": "vit"}})
    arrays, meta = folder.load(tmp_path / "deep" / "out")
    assert meta == {"model": {"name": "vit"}}
    np.testing.assert_array_equal(arrays["a"], ARRAYS["a"])
    with pytest.raises(UserError, match="exists already"):
        folder.save(tmp_path / "deep" / "out", ARRAYS, {})
    with pytest.raises(UserError, match="is not a folder of weights"):
        folder.load(tmp_path)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(TypeError):
        folder.save(tmp_path / "out", ARRAYS, {"meta": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", preprocessing.PRESETS, ids=str)
def test_presets_are_specs_that_can_be_built(key):
    images = preprocessing.preset(*key)
    assert preprocessing.make_preprocessing(*key, {}) == images
    picture = np.random.default_rng(0).integers(0, 256, (images.size + 9, images.size + 40, 3), np.uint8)
    seen = host_ops.make_chain(images.host)({"image": picture}, None)["image"]
    assert seen.shape == (images.size, images.size, 3)
    out = augment.make_augmentation(images.augment)(jax.random.key(0), {"image": seen[None, :8, :8]})["image"]
    want = (seen[:8, :8] / 255 - np.array(images.mean)) / np.array(images.std)
    np.testing.assert_allclose(out[0], want, rtol=1e-4, atol=1e-3)


def test_timm_config_beside_the_weights(tmp_path):
    stated = {"input_size": [3, 288, 288], "crop_pct": 1.0, "mean": [0, 0.5, 1]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "x", "pretrained_cfg": stated}))
    assert preprocessing.read_timm_config(tmp_path / "config.json") == {"size": 288, "crop": 1.0, "mean": (0, 0.5, 1)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"interpolation": "lanczos"}, "unknown interpolation 'lanczos'. Choices: bicubic, bilinear"),
        ({"crop": 0}, "crop is the part"),
        ({"size": 0}, "size is a number of pixels"),
        ({"mean": (0.5,)}, "one value per channel"),
        ({"normalize": "imagnet"}, "unknown normalisation 'imagnet'; did you mean 'imagenet'"),
    ],
)
def test_wrong_preprocessing(values, message):
    with pytest.raises(UserError) as error:
        preprocessing.make_preprocessing("timm", "vit", values)
    assert message in str(error.value)
