"""A store of computed features, in memory and, if it has a folder, in files."""

import hashlib
import io
import json
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision import path_names, storage, unpacking
from jaxvision.errors import UserError
from jaxvision.parallel.distributed import gather, is_main
from jaxvision.reading import reading
from jaxvision.storage import Path

MEMORY_BYTES = 2**31  # limit of the features in memory
FIELDS = ("values", "labels", "rows")  # names of the arrays in a file


class Features(NamedTuple):
    """The features of a whole split, in its order, equal on every process.

    Attributes:
      array: Features, float32 [n, d]: a `jax.Array` with a copy on every device if they fit there, else NumPy.
      labels: Labels, int32 [n], or float32 [n, k] for several labels an image; zeros if the split has none.
      rows: Positions in the split, int64 [n]. Images that cannot be read are left out.
    """

    array: np.ndarray | jax.Array
    labels: np.ndarray
    rows: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The features on the host, float32 [n, d]. JAX keeps the copy, so they are fetched once."""
        return np.asarray(self.array)


class Identity:
    """Recognises a tree of arrays. Nothing is read, so this costs nothing.

    An array of JAX never changes, so the same arrays hold the same values. Equal arrays that are not the same are not
    recognised; that costs another pass, but is never wrong. The arrays are not kept alive.

    Args:
      tree: Pytree of arrays.
      gone: Function that is called when one of its arrays of JAX ceases to exist.
    """

    def __init__(self, tree: Any, gone: Callable[[], None] = lambda: None):
        leaves, structure = jax.tree.flatten(tree)
        self._structure: Any = structure
        self._leaves = [weakref.ref(leaf, lambda _: gone()) for leaf in leaves if isinstance(leaf, jax.Array)]
        self._all_fixed = len(self._leaves) == len(leaves)  # arrays of NumPy may change in place

    def exists(self) -> bool:
        """Returns whether the tree can still be recognised."""
        return self._all_fixed and all(reference() is not None for reference in self._leaves)

    def recognises(self, tree: Any) -> bool:
        """Returns whether a tree has the same arrays in the same places.

        Args:
          tree: Pytree of arrays.
        """
        leaves, structure = jax.tree.flatten(tree)
        if not self._all_fixed or self._structure != structure:
            return False
        return all(reference() is leaf for reference, leaf in zip(self._leaves, leaves, strict=True))


class Store:
    """Features by everything that determines them: variables, model, images and their preparation, and layer.

    Memory holds the features of the latest variables, so that the evaluators of a step share them, for as long as these
    variables exist: the next step of training frees them. There the variables are known by their identity, see
    `Identity`; in files, which other processes read, by the digest of their values.

    Args:
      model: JSON that identifies the computation apart from the variables: model, precision, versions.
      folder: Folder for files `FINGERPRINT.npz` with `values`, `labels`, `rows`, and the `key` whose fingerprint is the
        name. It is made with the first file. None keeps features in memory only.
    """

    def __init__(self, model: Mapping[str, Any] | None = None, folder: str | Path | None = None):
        self._model = dict(model or {})
        self._folder = None if folder is None else storage.path(folder, "the folder of features")
        self._latest: Identity | None = None
        self._digest = ""
        self._kept: dict[str, Features] = {}

    def find(self, variables: Any, images: Mapping[str, Any], layer: str) -> Features | None:
        """Returns stored features, or None if there are none. Every process must call it.

        Args:
          variables: Variables of the task, a pytree of arrays.
          images: JSON that identifies the images and their preparation.
          layer: Name of the layer.
        """
        self._turn_to(variables)
        if (kept := self._kept.get(_name(images, layer))) is not None:
            return kept
        if self._folder is None:
            return None
        key = self._key(self._digest, images, layer)
        file = self._file(self._folder, key)
        if not file.is_file():
            return None
        try:
            stored = self._read(file, key)
        except UserError as error:
            logging.warning("%s: computing the features again", error)
            return None
        self._remember(_name(images, layer), stored)
        return stored

    def _read(self, file: Path, key: str) -> Features:
        arrays = unpacking.read_npz(io.BytesIO(file.read_bytes()) if path_names.is_remote(file) else file, file)
        with reading(file):
            features = Features(*(arrays[name] for name in FIELDS))
            kinds = [array.dtype.kind for array in features]
            if arrays["key"].item() != key or kinds not in (["f", "i", "i"], ["f", "f", "i"]):
                raise ValueError("it holds other features than its name says")
            if features.array.ndim != 2 or not len(features.array) == len(features.labels) == len(features.rows):
                raise ValueError("its arrays differ in length")
        return features

    def keep(self, variables: Any, images: Mapping[str, Any], layer: str, features: Features) -> None:
        """Stores features, and drops those of other variables from memory. Every process must call it.

        Args:
          variables: Variables of the task, a pytree of arrays.
          images: JSON that identifies the images and their preparation.
          layer: Name of the layer.
          features: Features to store.
        """
        self._turn_to(variables)
        self._remember(_name(images, layer), features)
        if self._folder is not None and is_main():
            key = self._key(self._digest, images, layer)
            file = self._file(self._folder, key)
            storage.make_folder(file.parent)
            with storage.file(file) as made:
                np.savez(made, key=key, values=features.values, labels=features.labels, rows=features.rows)

    def room(self, variables: Any) -> int:
        """Returns the number of bytes of features of these variables that memory can still take.

        Args:
          variables: Variables of the task, a pytree of arrays.
        """
        self._turn_to(variables)
        return MEMORY_BYTES - sum(features.array.nbytes for features in self._kept.values())

    def _turn_to(self, variables: Any) -> None:
        """Forgets the features of other variables."""
        if self._latest is not None and self._latest.recognises(variables):
            return
        kept: dict[str, Features] = {}  # a new dict, since the variables of the old one may end at any time
        self._kept, self._latest = kept, Identity(variables, kept.clear)
        self._digest = digest(variables) if self._folder is not None else ""

    def _remember(self, name: str, features: Features) -> None:
        if sum(f.array.nbytes for f in (*self._kept.values(), features)) <= MEMORY_BYTES:
            self._kept[name] = features

    def _key(self, variables: str, images: Mapping[str, Any], layer: str) -> str:
        return json.dumps(
            {**self._model, "variables": variables, "images": dict(images), "layer": layer}, sort_keys=True
        )

    def _file(self, folder: Path, key: str) -> Path:
        return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


def _name(images: Mapping[str, Any], layer: str) -> str:
    return json.dumps([dict(images), layer], sort_keys=True)


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
