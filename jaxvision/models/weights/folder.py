"""A folder of converted weights: `weights.safetensors`, named by our paths, and `meta.json`, facts about them."""

import hashlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxvision import path_names, storage
from jaxvision.errors import UserError
from jaxvision.models.weights import files
from jaxvision.reading import check_fields, read_json
from jaxvision.storage import Path

_KINDS = {"preprocessing": dict, "num_classes": (int, type(None)), "classes": (list, type(None)), "notes": list}
_KINDS |= {"image_size": (int, list, type(None)), "source": str, "properties": dict, "told_by": dict}
WEIGHTS, META = "weights.safetensors", "meta.json"


def save(out: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes a folder of weights, whole or not at all.

    Args:
      out: Path of the folder; it must not exist.
      arrays: Arrays by our paths, from `export_weights(variables, "jaxvision", name)`.
      meta: Facts about the weights, for JSON; `model` is the section of a config that builds the model.

    Raises:
      UserError: A folder that exists, or that cannot be written.
    """
    out = storage.path(out, "the folder of weights")
    if out.exists():
        raise UserError(f"{out} exists already")
    text = json.dumps(meta, indent=2) + "\n"
    if path_names.is_remote(out):
        with storage.reaching(out, "write to"):
            files.write(out / WEIGHTS, arrays)
            storage.write(out / META, text)  # last, because a folder without it is not a folder of weights
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot write to {out.parent}: {error.strerror}") from None
    try:
        files.write(unfinished / WEIGHTS, arrays)
        (unfinished / META).write_text(text)
        unfinished.chmod(0o755)  # mkdtemp makes it private
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def load(folder: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the arrays and the meta data of a folder that `save` wrote.

    Args:
      folder: Path of the folder.

    Returns:
      (arrays by our paths, meta data).

    Raises:
      UserError: A path that is not such a folder, or a damaged file in it.
    """
    folder = storage.path(folder, "the folder of weights")
    if not is_folder(folder):
        raise UserError(f"{folder} is not a folder of weights: it has no {WEIGHTS} and {META}")
    return files.read(folder / WEIGHTS), read_meta(folder)


def read_meta(folder: Path) -> dict[str, Any]:
    """Reads the meta data only.

    Args:
      folder: Path of the folder.

    Raises:
      UserError: A damaged file.
    """
    file = folder / META
    meta = check_fields(read_json(file), file, model=dict)
    check_fields(meta["model"], f"{file}: model", name=str)
    for key, kind in _KINDS.items():
        if key in meta:
            check_fields(meta, file, **{key: kind})
    if "preprocessing" in meta:
        check_fields(meta["preprocessing"], f"{file}: preprocessing", host=str, augment=str)
    if not all(isinstance(name, str) for name in meta.get("classes") or ()):
        raise UserError(f"{file} is damaged: its 'classes' are not all texts")
    return meta


def is_folder(path: str | Path) -> bool:
    """Returns True if a path is a folder of weights.

    Args:
      path: Path of a file or folder, which need not exist.
    """
    return all((storage.path(path) / name).is_file() for name in (WEIGHTS, META))


def sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file, in hex digits.

    Args:
      path: Path of the file.
    """
    with storage.path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
