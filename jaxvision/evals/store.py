"""Features that were computed once, kept for whoever asks again: in memory, and as files where there is a folder."""

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import storage, unpacking
from jaxvision.errors import UserError
from jaxvision.parallel.distributed import gather, is_main
from jaxvision.reading import reading
from jaxvision.storage import Path

MEMORY_BYTES = 2**31  # of features that stay in memory between evaluators


class Features(NamedTuple):
    """The features of a split, in its order, whole and equal on every process.

    Attributes:
      values: float32 [N, D].
      labels: int32 [N], or float32 [N, K] where an image has several; zeros where it has none.
      rows: int64 [N], the position of each in the split. Images that cannot be read are left out.
    """

    values: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


class Store:
    """Features by all that they follow from: variables, model, images and their preprocessing, layer.

    In memory are those of the variables that were asked for last, so that the evaluators of one step share them.

    Args:
      model: JSON that names, beside the variables, what makes features of images: model, precision, versions.
      folder: features lie there too, `FINGERPRINT.npz` with `values`, `labels`, `rows` and the `key` that the
        fingerprint is of; made when the first are kept. None for memory alone.
    """

    def __init__(self, model: Mapping[str, Any] | None = None, folder: str | Path | None = None):
        self._model = dict(model or {})
        self._folder = None if folder is None else storage.path(folder, "the folder of features")
        self._variables = ""
        self._kept: dict[str, Features] = {}

    def find(self, variables: str, images: Mapping[str, Any], layer: str) -> Features | None:
        """What was kept under the digest of the variables, the identity of the images and the name of the layer."""
        key = self._key(variables, images, layer)
        if key in self._kept:
            return self._kept[key]
        file = self._file(key)
        if file is None or not file.is_file():
            return None
        try:
            return self._read(file, key)
        except UserError as error:
            logging.warning("%s: the features are computed anew", error)
            return None

    def _read(self, file: Path, key: str) -> Features:
        arrays = unpacking.read_npz(io.BytesIO(file.read_bytes()) if storage.is_remote(file) else file, file)
        with reading(file):
            found = Features(*(arrays[name] for name in Features._fields))
            kinds = [array.dtype.kind for array in found]
            if arrays["key"].item() != key or kinds not in (["f", "i", "i"], ["f", "f", "i"]):
                raise ValueError("it holds other features than its name says")
            if found.values.ndim != 2 or not len(found.values) == len(found.labels) == len(found.rows):
                raise ValueError("its arrays differ in length")
        return found

    def keep(self, variables: str, images: Mapping[str, Any], layer: str, features: Features) -> None:
        """Keeps features; those of other variables leave the memory."""
        if variables != self._variables:
            self._variables, self._kept = variables, {}
        key = self._key(variables, images, layer)
        if sum(f.values.nbytes for f in (*self._kept.values(), features)) <= MEMORY_BYTES:
            self._kept[key] = features
        file = self._file(key)
        if file is not None and is_main():
            storage.make_folder(file.parent)
            with storage.file(file) as made:
                np.savez(made, key=key, **features._asdict())

    def _key(self, variables: str, images: Mapping[str, Any], layer: str) -> str:
        return json.dumps(
            {**self._model, "variables": variables, "images": dict(images), "layer": layer}, sort_keys=True
        )

    def _file(self, key: str) -> Path | None:
        fingerprint = hashlib.sha256(key.encode()).hexdigest()[:24]
        return None if self._folder is None else self._folder / f"{fingerprint}.npz"


def digest(tree: Any) -> str:
    """SHA-256 of arrays with their paths, dtypes and shapes, in hex: the same however they lie on devices.

    >>> x = np.arange(6, dtype=np.float32)
    >>> digest({"a": x}) == digest({"a": jax.numpy.asarray(x)})
    True
    >>> digest({"a": x}) == digest({"b": x}), digest({"a": x}) == digest({"a": x.reshape(2, 3)})
    (False, False)
    """
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(gather(leaf))
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape};".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
