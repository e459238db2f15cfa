"""`jaxvision search`: find images of a folder by words or by an image, with a model of image and text."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from rich.markup import escape
from rich.table import Table

from jaxvision import config as configs
from jaxvision import outputs, path_names, storage, unpacking
from jaxvision.analysis.sheets import Cell, sheet
from jaxvision.commands import image_files, photos, tables
from jaxvision.data import host_ops
from jaxvision.errors import UserError
from jaxvision.evals.store import digest
from jaxvision.reading import check_fields, parse_json, reading
from jaxvision.storage import output_folder
from jaxvision.train.progress import console

INDEX, SHEET = "index.npz", "search.png"
RESULTS = ("query", "rank", "path", "cosine")
COLUMNS = 8  # of the contact sheet


class Index(NamedTuple):
    """The content of `index.npz`.

    Attributes:
      files: Absolute paths, str [n].
      stamps: Size in bytes and time of change in nanoseconds of each file when it was read, int64 [n, 2].
      embeddings: Unit vectors, float32 [n, d].
      model: JSON text with folder, step, digest of the variables, preprocessing and tokenizer of the model.
    """

    files: np.ndarray
    stamps: np.ndarray
    embeddings: np.ndarray
    model: np.ndarray


class Results(dict[str, list[tuple[str, float]]]):
    """The results of a search, `{query: [(file, cosine), ...]}`, the largest cosine first.

    Attributes:
      left_out: Files of --images that could not be read, with the reasons.
    """

    def __init__(self, results: Mapping[str, list] = MappingProxyType({}), left_out: Mapping = MappingProxyType({})):
        super().__init__(results)
        self.left_out = dict(left_out)


def run_search(
    index: str | Path,
    words: Sequence[str] = (),
    *,
    image: str | None = None,
    images: str | Sequence[str] | None = None,
    workdir: str | Path | None = None,
    step: int | str | None = None,
    tokenizer: str | None = None,
    top: int = 16,
    page: str | Path | None = None,
    form: str = tables.TABLE,
    out: str | Path | None = None,
) -> Results:
    """Builds or updates an index of image files, then searches in it.

    Args:
      index: Folder of the index.
      words: Queries in words.
      image: Image file to search by.
      images: Folder, file or pattern of the images in the index, or several of these; None leaves the index as it is.
        Files that are in the index and have not changed since are not read again.
      workdir: Folder of the model's run, or of converted weights; None for the model that made the index.
      step: Step of the checkpoint, or "best", see `train.best.step_of`; None for the latest.
      tokenizer: Host spec such as "tokenize('clip', path='...')", for weights that do not name their tokenizer; the
        index remembers it.
      top: Number of images to find for each query.
      page: PNG file for the contact sheet of the images found; None for `search.png` in the folder.
      form: Format of the printed results, "table", "json", "jsonl" or "csv". A row is one image, with query, rank, path
        and cosine.
      out: File .json, .jsonl or .csv for the same rows.

    Returns:
      The images found for each query, and the files that could not be read.

    Raises:
      UserError: There is no index or no query, or the model is not that of the index.
    """
    if page is not None and Path(page).suffix.lower() != ".png":
        raise UserError(f"--sheet={page} is not a PNG file: give a name such as --sheet=found.png")
    tables.check_output(form, out)
    folder = storage.local(index, "--index", "it holds the times of files")
    page = None if page is None else storage.local(page, "--sheet")
    if image is not None:
        storage.local(image, "--image")
    left_out: dict[str, str] = {}
    held = _load(folder)
    if images is None and held is None:
        raise UserError(f"{folder} holds no index: make one with --images='photos/**/*.jpg' --workdir=RUN")
    if images is None and not words and image is None:
        raise UserError('the query is missing: give words, as in "a red circle", or --image=FILE')
    if images is None and (workdir is not None or step is not None):
        raise UserError(
            "--workdir and --step are for making an index, but a search uses the model that made it: leave them out, "
            "or give --images to make the index again"
        )
    made_by = {} if held is None else json.loads(held.model.item())
    if workdir is None:
        if not made_by:
            raise UserError("--workdir is missing: the first time, name the model that makes the index")
        tokenizer = tokenizer or made_by["tokenizer"]
    model = photos.open_model(workdir or made_by["workdir"], step if images is not None else made_by["step"])
    embed = photos.embed_texts(model, tokenizer) if words or tokenizer else None  # checked before images are read
    identity = {**_identity(model), "tokenizer": tokenizer}
    if images is not None:
        held = _build(model, identity, photos.matching_files(images), held, left_out)
        _save(folder, held)
    elif any(identity[key] != made_by[key] for key in ("variables", "model")):
        raise UserError(f"the model in {model.name} has changed since the index was made: give --images again")
    assert held is not None
    queries: dict[str, np.ndarray] = dict(zip(words, embed(list(words)))) if words and embed else {}
    if image is not None:
        files = image_files.find(image).files
        if len(files) > 1:
            raise UserError(f"--image={image} means {len(files):,} files: give one of them")
        embedded = photos.embed_images(model, files)
        if not embedded:
            raise UserError(f"--image={image} cannot be read as an image: give another file")
        queries |= embedded
    ranked = {query: nearest(vector, held, top) for query, vector in queries.items()}
    if ranked:
        rows = [
            {"query": query, "rank": rank, "path": image_files.printable(file), "cosine": cosine}
            for query, files_found in ranked.items()
            for rank, (file, cosine) in enumerate(files_found, 1)
        ]
        tables.write_rows(rows, RESULTS, form, out)
        _show(ranked, Path(page) if page else folder / SHEET, quiet=form != tables.TABLE)
    return Results(ranked, left_out)


def nearest(query: np.ndarray, index: Index, top: int) -> list[tuple[str, float]]:
    """Returns the files with the largest cosines to a query, and the cosines; equal ones in the order of the index.

    Args:
      query: Unit vector, [d].
      index: Index of image files.
      top: Number of files.
    """
    cosines = index.embeddings @ query
    return [(str(index.files[i]), float(cosines[i])) for i in np.argsort(-cosines, kind="stable")[:top]]


def _identity(model: photos.Model) -> dict[str, Any]:
    return {
        "workdir": model.name if path_names.is_remote(model.name) else str(Path(model.name).resolve()),
        "step": model.step,
        "variables": digest(model.variables),
        "model": json.loads(configs.to_json(ConfigDict(model.section))),  # another network may have the same arrays
        "host": model.host,
        "augment": model.augment,
    }


def _build(
    model: photos.Model, identity: dict[str, Any], files: Sequence[str], held: Index | None, left_out: dict[str, str]
) -> Index:
    """The index of the files. Rows of unchanged files come from `held`; unreadable files are added to `left_out`."""
    same = ("variables", "model", "host", "augment")
    held_rows = {}
    if held is not None and all(json.loads(held.model.item())[key] == identity[key] for key in same):
        held_rows = {
            (str(file), *stamp): row for file, stamp, row in zip(held.files, held.stamps.tolist(), held.embeddings)
        }
    paths = list(dict.fromkeys(str(Path(file).resolve()) for file in files))
    stamps = {path: (os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths}
    rows = {path: held_rows[path, *stamps[path]] for path in paths if (path, *stamps[path]) in held_rows}
    new = [path for path in paths if path not in rows]
    rows |= photos.embed_images(model, new, left_out) if new else {}
    kept = [path for path in paths if path in rows]
    if not kept:
        raise UserError(f"none of the {len(files)} files is an image that can be read: check --images")
    photos.print_note(f"{len(kept):,} images in the index, {len(set(new) & set(kept)):,} of them new")
    stamped = np.array([stamps[path] for path in kept], np.int64)
    return Index(np.array(kept), stamped, np.stack([rows[path] for path in kept]), np.array(json.dumps(identity)))


def _load(folder: Path) -> Index | None:
    if not (folder / INDEX).is_file():
        return None
    arrays = unpacking.read_npz(folder / INDEX)
    with reading(folder / INDEX):
        index = Index(*(arrays[name] for name in Index._fields))
        made_by = parse_json(index.model.item(), folder / INDEX)
        check_fields(made_by, folder / INDEX, **dict.fromkeys(("workdir", "variables", "host", "augment"), str))
        check_fields(made_by, folder / INDEX, step=(int, type(None)), model=dict, tokenizer=(str, type(None)))
        shapes = index.files.ndim, index.stamps.shape[1:], index.embeddings.ndim, index.embeddings.dtype.kind
        if shapes != (1, (2,), 2, "f") or not len(index.files) == len(index.stamps) == len(index.embeddings):
            raise ValueError("its arrays do not fit an index")
    return index


def _save(folder: Path, index: Index) -> None:
    if not (folder / INDEX).is_file():
        outputs.claim(folder, (INDEX, SHEET), "--index")
    with storage.file(folder / INDEX) as made:
        np.savez(made, **index._asdict())


def _show(ranked: dict[str, list[tuple[str, float]]], page: Path, quiet: bool) -> None:
    """Prints the results, unless `quiet`, and draws the images found."""
    table, rows = Table("query", "image", "cosine"), []
    for query, files in ranked.items():
        for i, (file, cosine) in enumerate(files):
            table.add_row("" if i else escape(query), escape(image_files.printable(file)), f"{cosine:.3f}")
        cells = [Cell(_picture(file), f"{cosine:.2f} {Path(file).name}") for file, cosine in files]
        for start in range(0, len(cells), COLUMNS):
            rows.append(("" if start else Path(query).name, cells[start : start + COLUMNS]))
    output_folder(page.parent, "--sheet")
    sheet(rows, lines=1).save(page, optimize=True)
    if quiet:
        return
    console().print(table)
    console().print(f"contact sheet: {page}", markup=False)


def _picture(file: str) -> np.ndarray:
    """The pixels of a file, or black if it is gone."""
    try:
        return host_ops.make_chain("decode")({"image": Path(file).read_bytes()}, None)["image"]
    except (OSError, host_ops.BadImage):
        return np.zeros((8, 8, 3), np.uint8)
