"""Files of named arrays: safetensors, `.npz` and Keras `.h5`. Nothing is ever unpickled."""

import importlib.util
import io
import zipfile
from collections.abc import Mapping

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.storage import Path

PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl")
TO_SAFETENSORS = (
    "python -c \"import torch; from safetensors.torch import save_file; s = torch.load('{0}', map_location='cpu', "
    "weights_only=True); s = s.get('state_dict', s.get('model', s)); "
    "save_file({{k: v.clone().contiguous() for k, v in s.items()}}, '{1}')\""
)
DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a file of weights.

    Args:
      path: `.safetensors`, `.npz` (without pickled objects), or the `.h5` of a Keras model; of the last
        the arrays are named `LAYER/ARRAY`, and those of the optimizer are left out.

    Returns:
      Every array by its name in the file, in the file's dtype.

    Raises:
      UserError: no such file, another format, a pickle (the message has the command that turns it
        into safetensors), or a damaged file.
    """
    path = storage.path(path, "the file of weights")
    if path.suffix in PICKLES:
        command = TO_SAFETENSORS.format(path, path.with_suffix(".safetensors"))
        raise UserError(
            f"{path} is a pickle, which may run any code when it is opened. Where you trust it, turn it into "
            f"safetensors with torch:\n  {command}"
        )
    readers = {".safetensors": _read_safetensors, ".npz": _read_npz, ".h5": _read_h5, ".hdf5": _read_h5}
    if path.suffix not in readers:
        raise UserError(f"cannot read weights from {str(path)!r}: want a file {', '.join(readers)}")
    if not path.is_file():
        raise UserError(f"no file of weights {str(path)!r}")
    try:
        return readers[path.suffix](path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read {path}: {error}") from None


def write(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file, whole or not at all."""
    with storage.file(storage.path(path, "the file of weights")) as made:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, made)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    # The library's own numpy reader does not know bfloat16.
    entries = dict(sorted(safetensors.deserialize(path.read_bytes())))
    return {name: np.frombuffer(e["data"], DTYPES[e["dtype"]]).reshape(e["shape"]) for name, e in entries.items()}


def _opened(path: Path) -> Path | io.BytesIO:
    """What NumPy and h5py can read: a local path, or the content of an object in a bucket."""
    return io.BytesIO(path.read_bytes()) if storage.is_remote(path) else path


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(_opened(path), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_h5(path: Path) -> dict[str, np.ndarray]:
    if not importlib.util.find_spec("h5py"):
        raise UserError(f"{path} needs h5py: pip install 'jaxvision[weights]'")
    import h5py

    found = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            layer, *_, array = name.split("/")  # LAYER/LAYER/ARRAY:0
            found[f"{layer}/{array.partition(':')[0]}"] = item[()]

    with h5py.File(_opened(path)) as file:
        file.get("model_weights", file).visititems(visit)
    return found
