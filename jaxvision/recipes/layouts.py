"""What a folder, a table or a name of images is: the kind of source that reads it, its options and its splits."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxvision import path_names, storage
from jaxvision.data import sources
from jaxvision.data.formats import is_image_name
from jaxvision.data.sources import files, folder
from jaxvision.errors import UserError, nearest, some
from jaxvision.reading import is_folder
from jaxvision.recipes.roles import ROLES, Layout, role_names, role_of
from jaxvision.recipes.tables import describe_tables, is_table, lists_images

_ARCHIVES = (".zip", ".gz", ".tgz", ".rar", ".7z", ".bz2", ".xz")


def find_layout(data: str) -> Layout:
    """Returns what a path or a name of a set means. Nothing is decoded.

    Args:
      data: Folder, table (CSV, TSV, JSON lines), file of tar or Parquet, or name of a prepared set.

    Raises:
      UserError: There is no such thing, or nothing in it can be read as images with classes; the message says what
        was found, and how it should look.
    """
    storage.local(data, "--data", "images are read from files")
    path = Path(os.path.abspath(path_names.expanded(data, "--data")))
    if is_folder(path):
        return _of_folder(path)
    if os.path.isfile(path):
        return _of_file(path)
    if os.sep not in data and "." not in data:
        return _of_name(data, path)
    beside = sorted(e.name for e in os.scandir(path.parent)) if is_folder(path.parent) else []
    raise UserError(f"--data={data}: there is no such folder{nearest(path.name, beside)}")


def _of_name(name: str, path: Path) -> Layout:
    try:
        sources.open_source(name, "train")
    except UserError as error:
        raise UserError(f"--data={name}: there is no folder {path}, and no set of that name: {error}") from None
    there = ["train"]
    for split in (*ROLES["validation"], *ROLES["test"]):
        try:
            sources.open_source(name, split)
        except UserError:
            continue
        there.append(split)
    return _with_roles(name, None, {}, there, f"the set {name}")


def _of_file(path: Path) -> Layout:
    if is_table(path):
        return describe_tables(path.parent, {"train": path}, path.name)
    suffix = path.suffix.lower()
    if suffix in (".tar", ".parquet"):
        name, option = ("webdataset", "shards") if suffix == ".tar" else ("parquet", "files")
        words = f"the {suffix[1:]} file {path.name}"
        return Layout(name, str(path.parent), {option: {"train": path.name}}, {"train": "train"}, words)
    if suffix in _ARCHIVES:
        raise UserError(f"--data={path} is an archive: unpack it, and give the folder")
    if is_image_name(path.name):
        raise UserError(f"--data={path} is a single image: give a folder that holds a folder of images for each class")
    raise UserError(f"--data={path} is a file of an unknown kind: give a folder of images, or a .csv, .tsv or .jsonl")


def _of_folder(root: Path) -> Layout:
    """Tries class folders first: a table beside them may be anything."""
    with_images = folder.find_classes(root)
    named = {role: name for name in with_images if (role := role_of(name))}
    if named:
        nested = [name for name in named.values() if folder.find_classes(root / name)]
        if nested and (split_of_classes := role_names(folder.find_splits(root))):
            words = f"class folders in {some(split_of_classes.values())}"
            others = [name for name in folder.find_splits(root) if name not in split_of_classes.values()]
            if "train" not in split_of_classes:
                raise UserError(
                    f"{root} has {some(split_of_classes.values())}, but no folder train to learn from: give the "
                    "images to learn from as train/CLASS/*.jpg"
                )
            train, beside = split_of_classes["train"], [name for name in with_images if name not in named.values()]
            if len(split_of_classes) == 1 and len(beside) > 1:
                raise UserError(
                    f"{root} holds {train} and other folders with images ({some(beside)}), so {train} may be a split "
                    f"or a class: if it is the split, move the others away; if it is a class, rename it, or write "
                    f"options=dict(splits=False) in a config"
                )
            return Layout("folder", str(root), {}, split_of_classes, words, tuple(others))
    tables = sorted(e.name for e in os.scandir(root) if e.is_file() and is_table(Path(e.path)))
    only_splits = len(named) > 0 and all(map(role_of, with_images))  # "train" may also be a class of vehicles
    listed = any(lists_images(root / name) for name in tables)
    if with_images and not only_splits and not listed and not (tables and len(with_images) == 1):
        return _of_classes(root, with_images, tables)
    if tables:
        return _of_tables(root, tables)
    if named:
        raise UserError(
            f"the images in {some(str(root / name) for name in named.values())} lie in no class folders: make a "
            f"folder for each class, as in {next(iter(named.values()))}/cat/1.jpg, or a table of their classes "
            f"({root}/{next(iter(named))}.csv with the columns path and label)"
        )
    return _of_other_files(root)


def _of_classes(root: Path, classes: list[str], tables: Sequence[str]) -> Layout:
    if len(classes) == 1:
        inner = root / classes[0]
        if len(folder.find_classes(inner)) > 1:
            raise UserError(f"{root} holds the single folder {classes[0]} with images: give --data={inner}")
        raise UserError(
            f"{root} holds images in one folder only, {classes[0]}, and a classifier needs two classes at least: make "
            "a folder for each class"
        )
    loose = sum(is_image_name(e.name) for e in os.scandir(root) if e.is_file())
    words = f"{len(classes):,} class folders"
    words += f", and {loose:,} image{'s' * (loose > 1)} outside of them, left out" if loose else ""
    words += f", and a table that is not read (--data={root / tables[0]} reads it)" if tables else ""
    return Layout("folder", str(root), {"splits": False}, {"train": "train"}, words)


def _of_tables(root: Path, tables: Sequence[str]) -> Layout:
    by_role = role_names(Path(name).stem for name in tables)
    chosen = {role: root / next(name for name in tables if Path(name).stem == stem) for role, stem in by_role.items()}
    if "train" not in chosen:
        if len(tables) > 1:
            raise UserError(
                f"{root} holds the tables {some(tables)}: call one of them train.csv, or give one as "
                f"--data={root / tables[0]}"
            )
        chosen = {"train": root / tables[0]}
    return describe_tables(root, chosen, some(path.name for path in chosen.values()))


def _of_other_files(root: Path) -> Layout:
    names = sorted(e.name for e in os.scandir(root) if e.is_file() and not e.name.startswith("."))
    if version := next((p for p in (root, *sorted(root.glob("*/"))) if (p / "dataset_info.json").is_file()), None):
        builder = version.parent
        return _of_prepared(f"{builder.name}:{version.name}", builder.parent)
    for suffix, kind, words in ((".tar", "webdataset", "tar shards"), (".parquet", "parquet", "Parquet files")):
        pattern = "{split}-*.tar" if suffix == ".tar" else "{data/,}{split}{-*,}.parquet"
        if any(name.lower().endswith(suffix) for name in names) or (
            suffix == ".parquet" and any(root.glob("data/*.parquet"))
        ):
            return _with_roles(kind, str(root), {}, list(files.split_files(root, pattern)), words)
    if any(name.startswith(("data_batch", "train.bin")) for name in names) or {"train", "meta"} <= set(names):
        return _with_roles("cifar", str(root), {}, ["train", "test"], "the files of CIFAR")
    idx = [name for name in names if "-idx3-ubyte" in name]
    if idx:
        prefix = idx[0].rpartition("-images-idx3-ubyte")[0].rpartition("-")[0]
        there = ["train", *(["test"] if any("t10k" in name or "test" in name for name in idx) else [])]
        return _with_roles("idx", str(root), {"prefix": prefix} if prefix else {}, there, "IDX files, as of MNIST")
    loose = [name for name in names if is_image_name(name)]
    if loose:
        raise UserError(
            f"{root} holds {len(loose):,} images outside of class folders ({some(loose)}): make a folder for each "
            f"class, as in {root}/cat/{loose[0]}, or a table {root}/train.csv with the columns path and label"
        )
    if archives := [name for name in names if name.lower().endswith(_ARCHIVES)]:
        raise UserError(f"{root} holds no images, but the archive {archives[0]}: unpack it, and give the folder")
    raise UserError(
        f"no images in {root}{files.listing(root)}; want a folder of images for each class, as in {root}/cat/1.jpg. "
        "docs/your_images.md shows all layouts"
    )


def _of_prepared(name: str, data_dir: Path) -> Layout:
    from jaxvision.data.sources.tfds import prepared_builder

    builder = prepared_builder(name, str(data_dir), ())
    return _with_roles(name, str(data_dir), {}, list(builder.info.splits), f"the prepared set {name}")


def _with_roles(name: str, data_dir: str | None, options: dict[str, Any], splits: list[str], words: str) -> Layout:
    roles = role_names(splits)
    if "train" not in roles:
        if len(splits) > 1:
            raise UserError(f"{words} in {data_dir} has the splits {some(splits)}, and none is called train")
        roles = {"train": splits[0]}
    others = tuple(split for split in splits if split not in roles.values())
    return Layout(name, data_dir, options, roles, words, others)
