"""Files of named arrays: safetensors, `.npz`, Keras `.h5` and Flax `.msgpack`. Nothing is ever unpickled."""

import importlib.util
import io
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath

import ml_dtypes
import numpy as np
import safetensors
from flax import serialization, traverse_util
from safetensors.numpy import save_file

from jaxvision import path_names, storage, unpacking
from jaxvision.errors import UserError, shown
from jaxvision.models.weights import formats
from jaxvision.reading import read_json, reading
from jaxvision.storage import Path

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "C64": np.complex64,
    "BOOL": np.bool_,
}


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a file of weights. Its content tells the format, and the suffix does not matter.

    Args:
      path: Path of a safetensors file (or the `.index.json` of several), an `.npz` (without pickled objects), the `.h5`
        of a Keras model (arrays are named `LAYER/ARRAY`, the optimizer's are left out) or a `.msgpack` of Flax.

    Returns:
      Every array by its name in the file, in the file's dtype. Names of nested dictionaries are joined by "/".

    Raises:
      UserError: No such file, another format, a pickle (the message has a command that converts it), or a damaged file.
    """
    path = storage.path(path, "the file of weights")
    reader = READERS[formats.kind(path)]
    with reading(path):
        return reader(path)


def write(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file, whole or not at all.

    Args:
      path: Path of the file.
      arrays: Arrays by name.
    """
    with storage.file(storage.path(path, "the file of weights")) as file:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, file)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    arrays = {}
    # The library's own numpy reader does not know bfloat16.
    for name, entry in sorted(safetensors.deserialize(data)):
        if entry["dtype"] not in DTYPES:
            raise UserError(f"cannot read {path}: {name} is of type {entry['dtype']}, not {', '.join(DTYPES)}")
        arrays[name] = np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    # safetensors.torch.save_model stores an array with several names once, and notes the other names.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    for name, kept in header.get("__metadata__", {}).items():
        if kept in arrays and name not in arrays:
            arrays[name] = arrays[kept]
    return arrays


def _read_index(path: Path) -> dict[str, np.ndarray]:
    places = read_json(path).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise UserError(f"cannot read {path}: it is JSON without a weight_map, which names the file of every array")
    arrays: dict[str, np.ndarray] = {}
    for file in sorted(set(places.values())):
        part = path.with_name(PurePath(file).name)
        if formats.kind(part) == "index":
            raise UserError(f"cannot read {path}: its weight_map names {file}, which holds no arrays")
        arrays |= read(part)
    if absent := [name for name in places if name not in arrays]:
        raise UserError(f"cannot read {path}: {len(absent)} arrays are not in their files, such as {absent[0]}")
    return arrays


def _opened(path: Path) -> Path | io.BytesIO:
    """Returns something that NumPy and h5py can read: a local path, or the content of an object in a bucket."""
    return io.BytesIO(path.read_bytes()) if path_names.is_remote(path) else path


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    # NumPy writes the types of ml_dtypes as raw bytes. In files of weights, a type of two bytes is bfloat16.
    arrays = unpacking.read_npz(_opened(path), path)
    return {name: a.view(ml_dtypes.bfloat16) if a.dtype == "V2" else a for name, a in arrays.items()}


def _read_h5(path: Path) -> dict[str, np.ndarray]:
    if not importlib.util.find_spec("h5py"):
        raise UserError(f"{path} needs h5py: pip install 'jaxvision[weights]'")
    import h5py

    stored, sets = path.stat().st_size, {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset) or item.shape is None or item.dtype.kind not in "biufcV":
            return  # texts and references are not weights
        if item.external or item.is_virtual:
            raise UserError(f"cannot read {path}: its array {shown(name)} is in another file")
        sets[name.rpartition(":")[0] or name] = item

    with h5py.File(_opened(path), "r") as file:
        inside = isinstance(file.get("model_weights", getlink=True), h5py.HardLink)  # no link to another file
        (file["model_weights"] if inside else file).visititems(visit)
        size = sum(math.prod(item.shape) * item.dtype.itemsize for item in sets.values())
        unpacking.check_size(path, size, stored, "save it without compression")
        arrays = {name: item[()] for name, item in sets.items()}
    if numbered := [name for name in arrays if re.search(r"(?:^|/)vars/\d+$", name)]:
        raise UserError(
            f"cannot read {path}: Keras 3 numbered its arrays, {numbered[0]}, instead of naming them; "
            "keras.Model.save('model.h5') names them"
        )
    short = {name: "/".join(dict.fromkeys((name.split("/")[0], name.split("/")[-1]))) for name in arrays}
    times = Counter(short.values())  # a model inside a model repeats names, and then whole names are needed
    return {short[name] if times[short[name]] == 1 else name: np.asarray(array) for name, array in arrays.items()}


def _read_msgpack(path: Path) -> dict[str, np.ndarray]:
    tree = serialization.msgpack_restore(path.read_bytes())
    if not isinstance(tree, dict):
        raise UserError(f"cannot read {path}: it is not a dictionary of arrays")
    flat = traverse_util.flatten_dict({str(key): value for key, value in tree.items()})
    return {"/".join(map(str, key)): np.asarray(value) for key, value in flat.items()}


READERS = {
    "safetensors": _read_safetensors,
    "index": _read_index,
    "npz": _read_npz,
    "h5": _read_h5,
    "msgpack": _read_msgpack,
}
