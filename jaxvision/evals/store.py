"""A store of computed features, in memory and, if it has a folder, in files."""

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import path_names, storage, unpacking
from jaxvision.errors import UserError
from jaxvision.parallel.distributed import gather, is_main
from jaxvision.reading import reading
from jaxvision.storage import Path

MEMORY_BYTES = 2**31  # limit of the features in memory


class Features(NamedTuple):
    """The features of a whole split, in its order, equal on every process.

    Attributes:
      values: Features, float32 [n, d].
      labels: Labels, int32 [n], or float32 [n, k] for several labels an image; zeros if the split has none.
      rows: Positions in the split, int64 [n]. Images that cannot be read are left out.
    """

    values: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


class Store:
    """Features by everything that determines them: variables, model, images and their preparation, and layer.

    Memory holds the features of the latest variables, so that the evaluators of a step share them.

    Args:
      model: JSON that identifies the computation apart from the variables: model, precision, versions.
      folder: Folder for files `FINGERPRINT.npz` with `values`, `labels`, `rows`, and the `key` whose fingerprint is the
        name. It is made with the first file. None keeps features in memory only.
    """

    def __init__(self, model: Mapping[str, Any] | None = None, folder: str | Path | None = None):
        self._model = dict(model or {})
        self._folder = None if folder is None else storage.path(folder, "the folder of features")
        self._variables = ""
        self._kept: dict[str, Features] = {}

    def find(self, variables: str, images: Mapping[str, Any], layer: str) -> Features | None:
        """Returns stored features, or None if there are none.

        Args:
          variables: Digest of the variables, see `digest`.
          images: JSON that identifies the images and their preparation.
          layer: Name of the layer.
        """
        key = self._key(variables, images, layer)
        if key in self._kept:
            return self._kept[key]
        file = self._file(key)
        if file is None or not file.is_file():
            return None
        try:
            return self._read(file, key)
        except UserError as error:
            logging.warning("%s: computing the features again", error)
            return None

    def _read(self, file: Path, key: str) -> Features:
        arrays = unpacking.read_npz(io.BytesIO(file.read_bytes()) if path_names.is_remote(file) else file, file)
        with reading(file):
            features = Features(*(arrays[name] for name in Features._fields))
            kinds = [array.dtype.kind for array in features]
            if arrays["key"].item() != key or kinds not in (["f", "i", "i"], ["f", "f", "i"]):
                raise ValueError("it holds other features than its name says")
            if features.values.ndim != 2 or not len(features.values) == len(features.labels) == len(features.rows):
                raise ValueError("its arrays differ in length")
        return features

    def keep(self, variables: str, images: Mapping[str, Any], layer: str, features: Features) -> None:
        """Stores features, and drops those of other variables from memory.

        Args:
          variables: Digest of the variables, see `digest`.
          images: JSON that identifies the images and their preparation.
          layer: Name of the layer.
          features: Features to store.
        """
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
    """Computes the SHA-256 of arrays with their paths, dtypes and shapes. It does not depend on their devices.

    Args:
      tree: Pytree of arrays.

    Returns:
      The hash in hexadecimal.

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
