"""Image files in a tree of folders, one folder per class."""

import os
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.formats import is_image_name
from jaxvision.data.sources import files
from jaxvision.data.sources.base import Info, Source, parse_split, standard_fields
from jaxvision.data.sources.labels import class_name, read_classes
from jaxvision.data.sources.passed_over import PassedOver
from jaxvision.errors import MAX_CHOICES, UserError, listed, nearest, some
from jaxvision.registry import part

_WANT = "SPLIT/CLASS/*.jpg"
_NO_IMAGE = "suffix is not that of an image"
_HIDDEN = "hidden, or made by an operating system"
_SYSTEM = ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")


@part("data set", "folder")
class FolderSource(Source):
    """Image files in a tree `SPLIT/CLASS/**/*.jpg`, in sorted order: `{"image": bytes, "label": int}`.

    Files are images by their suffix, one of `formats.IMAGE_SUFFIXES`. Images in subfolders of a class folder belong to
    that class. A folder beside the splits that has no class folder with an image is not a split. Files that are no
    images, and hidden files and folders, are passed over and counted. A change on disk after opening is not noticed.

    Args:
      data_dir: Folder of the splits.
      split: Split in the syntax of TFDS, such as `train[:90%]`.
      fields: Not used; every example has both fields.
      classes: Names of the class folders, in the order of the class numbers: a file with one name per line, or a tuple.
        By default the sorted names of the class folders of `train`; if there is no split `train`, all splits must have
        the same classes. A split may lack a class, but not have an additional one.
      splits: False if `data_dir` holds the class folders themselves. They are the split `train`, and the classes are
        the folders that have an image.

    Raises:
      UserError: There is no such folder or split, or a split has no image, or a class folder that is not a class.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        split: str,
        fields: Sequence[str] | None = None,
        *,
        classes: str | Sequence[str] | None = None,
        splits: bool = True,
    ):
        root = files.directory("folder", data_dir, _WANT if splits else "CLASS/*.jpg")
        self.passed_over = PassedOver()
        if splits:
            images, names = _of_splits(root, split, classes, self.passed_over)
        else:
            images, names = _of_classes(root, split, classes, self.passed_over)
        parts = parse_split(split, {s: len(found) for s, found in images.items()}, f"the folder {root}")
        self._files = [file for name, start, stop in parts for file in images[name][start:stop]]
        self.root = str(root)
        info = Info(root.resolve().name, split, len(self._files), tuple(names), len(names))
        self.info = info._replace(fields=standard_fields(info, text=False))

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


def _of_splits(
    root: Path, split: str, classes: str | Sequence[str] | None, passed_over: PassedOver
) -> tuple[dict[str, list[tuple[str, int]]], Sequence[str]]:
    """Returns the images of every split, each with its class number, and the names of the classes."""
    splits = find_splits(root, passed_over)
    files.warn_of_alike(root, splits)
    listed = read_classes(classes, root)
    names = _train_classes(root, splits) if listed is None else listed
    assert not isinstance(names, int)  # this source takes no number of classes
    # Listing a million files is slow: only the splits that the text can mean are listed.
    possible = files.possible_splits(split, splits)
    for name in files.possible_splits(split, _folders(root)):
        if name not in splits and not possible:
            raise UserError(f"{root / name} holds no class folder with an image; want {name}/CLASS/*.jpg in {root}")
    read = lambda s: _read_split(root / s, f"{s}/", names, passed_over) if s in possible else []
    return {s: read(s) for s in splits}, names


def _of_classes(
    root: Path, split: str, classes: str | Sequence[str] | None, passed_over: PassedOver
) -> tuple[dict[str, list[tuple[str, int]]], Sequence[str]]:
    """Returns the images of a folder of class folders, as the split `train`, and the names of the classes."""
    listed = read_classes(classes, root)
    names = sorted({class_name(c) for c in find_classes(root)}) if listed is None else listed
    assert not isinstance(names, int)
    if not names:
        raise UserError(f"no class folder with an image in {root}{files.listing(root)}; want CLASS/*.jpg in it")
    return {"train": _read_split(root, "", names, passed_over)}, names


def find_classes(root: Path) -> list[str]:
    """Returns the folders in a folder that have an image, in them or in one of their subfolders, sorted.

    Args:
      root: Folder of class folders.
    """
    return [name for name in _folders(root) if _has_image(root / name)]


def find_splits(root: Path, passed_over: PassedOver | None = None) -> list[str]:
    """Returns the folders of `root` that have a class folder with an image, sorted.

    Args:
      root: Folder of the set.
      passed_over: Record to which the other folders are added; None for none.

    Raises:
      UserError: There is none.
    """
    passed_over = PassedOver() if passed_over is None else passed_over
    folders = _folders(root)
    splits = [name for name in folders if any(_has_image(root / name / c) for c in _folders(root / name))]
    if not splits:
        flat = [name for name in folders if any(is_image_name(e.name) for e in os.scandir(root / name))]
        if flat:
            layout = (
                f"if these are the classes, set options=dict(splits=False); else make a folder for each split, such as "
                f"{root / 'train' / flat[0]}/*.jpg"
            )
            if root.name in ("train", "training", "val", "valid", "validation", "test"):
                layout = f"if {root.name} is a split, data_dir is {root.parent}; else {layout}"
            raise UserError(
                f"{root} holds {some(flat)} with images in them, want {_WANT}: {layout}. For images without labels "
                "write a manifest"
            )
        within = f", only {some(folders)}" if folders else ""
        raise UserError(f"no images in {root}{within}; want {_WANT} in it")
    for entry in sorted(os.scandir(root), key=lambda e: e.name):
        if entry.is_dir() and entry.name not in splits:
            why = (
                _HIDDEN
                if _is_hidden(entry.name)
                else "folder that is not a split: it has no class folder with an image"
            )
            passed_over.add(why, f"{entry.name}/")
    return splits


def _train_classes(root: Path, splits: list[str]) -> list[str]:
    """Returns the sorted class names of the split `train`, or those of every split."""
    classes = {split: {class_name(c) for c in _folders(root / split)} for split in splits}
    if "train" in classes:
        return sorted(classes["train"])
    first, *others = splits
    for other in others:
        if classes[other] != classes[first]:
            odd = some(sorted(classes[other] ^ classes[first]))
            raise UserError(
                f"the splits {first!r} and {other!r} of {root} differ in their class folders: {odd}. Without a split "
                f"'train' to go by, all must have the same: add these folders with images to the others, or name all "
                f"classes: {_as_option(classes[first] | classes[other])}"
            )
    return sorted(classes[first])


def _read_split(folder: Path, prefix: str, classes: Sequence[str], passed_over: PassedOver) -> list[tuple[str, int]]:
    """Returns the images of a split, each with its class number, in the order of classes and paths.

    Names in `passed_over` and in messages begin with `prefix`.
    """
    paths: dict[str, list[str]] = {name: [] for name in classes}
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        shown = f"{prefix}{entry.name}"
        if _is_hidden(entry.name):
            passed_over.add(_HIDDEN, shown)
            continue
        if not entry.is_dir():
            passed_over.add("image outside of the class folders" if is_image_name(entry.name) else _NO_IMAGE, shown)
            continue
        name = class_name(entry.name)
        if name not in paths:
            if not _has_image(Path(entry.path)):
                also = "also in train, " if prefix else ""
                passed_over.add(f"class folder without images (add images, {also}or delete it)", f"{shown}/")
                continue
            raise _unknown_class(folder / entry.name, name, classes)
        paths[name] += _images(Path(entry.path), shown, passed_over)
    images = [(path, label) for label, name in enumerate(classes) for path in sorted(paths[name])]
    if not images:
        raise UserError(f"no images in {folder}; want {prefix}CLASS/*.jpg. Passed over: {passed_over or 'nothing'}")
    return images


def _unknown_class(folder: Path, name: str, classes: Sequence[str]) -> UserError:
    """The error for a folder with images whose name is not that of a class."""
    return UserError(
        f"{folder} has images, but {name!r} is not one of the {len(classes):,} classes{nearest(name, classes) or '.'} "
        f"Classes: {listed(name, classes)}. Rename or remove the folder; if it is a class, give it images to learn "
        f"from in the folder train, or name all classes: {_as_option({*classes, name})}"
    )


def _as_option(classes: Collection[str]) -> str:
    """The flag that names the classes, as it is typed in a shell."""
    names = repr(tuple(sorted(classes)))
    value = shlex.quote(names) if set(names) & set('"$`\\!') else f'"{names}"'
    if len(classes) > MAX_CHOICES:
        value = "names.txt, a file beside the splits with one name per line"
    return f"--config.data.options.classes={value}"


def _images(folder: Path, shown: str, passed_over: PassedOver) -> Iterator[str]:
    """Yields the image files in a folder and its subfolders; other files are counted."""
    for path, name in _walk(folder, folder, shown, passed_over):
        if is_image_name(name):
            yield path
        else:
            passed_over.add(_NO_IMAGE, name)


def _walk(folder: Path, top: Path, shown: str, passed_over: PassedOver) -> Iterator[tuple[str, str]]:
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        name = f"{shown}/{entry.name}"
        if _is_hidden(entry.name):
            passed_over.add(_HIDDEN, name)
        elif entry.is_dir():
            if entry.is_symlink() and top.resolve().is_relative_to(Path(entry.path).resolve()):
                passed_over.add("link to one of its parent folders", name)
                continue
            yield from _walk(Path(entry.path), top, name, passed_over)
        elif entry.is_file():
            yield entry.path, name
        else:
            passed_over.add("not a file (a broken link, a device)", name)


def _has_image(folder: Path) -> bool:
    """Returns whether a folder or one of its subfolders has an image."""
    for path, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not _is_hidden(f)]
        if any(is_image_name(name) and not _is_hidden(name) for name in names):
            return True
        if any(os.path.islink(os.path.join(path, f)) for f in folders):
            return True  # a linked folder is searched when the split is read
    return False


def _folders(path: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(path) if e.is_dir() and not _is_hidden(e.name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM
