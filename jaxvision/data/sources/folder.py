"""Image files in a tree of class folders."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.formats import IMAGE_SUFFIXES
from jaxvision.data.sources import files
from jaxvision.data.sources.base import Info, Source, slices
from jaxvision.errors import UserError


class FolderSource(Source):
    """Image files in a tree `split/class/*.jpg`, in sorted order: `{"image": bytes, "label": int}`.

    The classes are the sorted names of the class folders, which must be the same in every split. Files and
    folders whose names start with a dot, and files that are no images, are passed over. A change on disk
    after opening is not seen.
    """

    def __init__(self, data_dir: str | Path | None, split: str, fields: Sequence[str] | None = None):
        root = files.directory("folder", data_dir, "split/class/*.jpg")
        splits = _folders(root)
        classes = _folder_classes(root, splits)
        # Listing a million files is slow: only the splits that the text can mean are listed.
        found = {s: _image_files(root / s, classes) for s in files.named(split, splits)}
        parts = slices(split, {s: len(found.get(s, ())) for s in splits}, f"the folder {root}")
        self._files = [file for name, start, stop in parts for file in found[name][start:stop]]
        self.info = Info(root.resolve().name, split, len(self._files), tuple(classes), len(classes))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, label = self._files[index]
        with open(path, "rb") as file:
            return {"image": file.read(), "label": label}

    def describe(self, index: int) -> str:
        return self._files[index][0]

    def _read_labels(self) -> np.ndarray:
        return np.array([label for _, label in self._files], np.int32)


def _folders(path: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(path) if e.is_dir() and not e.name.startswith("."))


def _folder_classes(root: Path, splits: list[str]) -> list[str]:
    if not splits:
        raise UserError(f"{root} is empty; want split/class/*.jpg in it")
    classes = _folders(root / splits[0])
    for split in splits:
        other = _folders(root / split)
        if not other:
            raise UserError(f"{root / split} holds no class folders; want {split}/class/*.jpg in {root}")
        if other != classes:
            odd = ", ".join(sorted(set(other) ^ set(classes))[:5])
            raise UserError(f"the splits {splits[0]!r} and {split!r} of {root} differ in their class folders: {odd}")
    return classes


def _image_files(split_dir: Path, classes: list[str]) -> list[tuple[str, int]]:
    found = []
    for label, name in enumerate(classes):
        entries = (e for e in os.scandir(split_dir / name) if not e.name.startswith("."))
        found += [(path, label) for path in sorted(e.path for e in entries if e.name.lower().endswith(IMAGE_SUFFIXES))]
    if not found:
        raise UserError(f"no images in {split_dir}; want class/*{{{','.join(IMAGE_SUFFIXES)}}} in it")
    return found
