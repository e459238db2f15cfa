"""Segmentations of a user's image files: for each file a PNG of classes, and a table of the classes' shares."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxvision import storage
from jaxvision.commands import image_files, photos, tables
from jaxvision.errors import UserError
from jaxvision.fields import Field
from jaxvision.train.progress import console

COLUMNS = ("path", "map", "class", "share")
MOST = 256  # number of classes that a pixel of a PNG can hold


class Maps(dict[str, dict[str, float]]):
    """For each file, the share of its pixels by class, for the classes that occur.

    Attributes:
      left_out: Files that could not be read, with the reasons.
    """

    left_out: Mapping[str, str]


def write_maps(
    model: photos.Model, files: Sequence[str], kinds: Mapping[str, Field], out: str | Path | None, form: str
) -> Maps:
    """Writes a map of the classes of each image's pixels, and prints the share of each class.

    A map is a PNG of the size that the model sees. A pixel is the number of its class, and a palette gives it a colour.

    Args:
      model: Model whose task segments images.
      files: Image files.
      kinds: Outputs of the task that are segmentations, by name; the first is drawn.
      out: Folder for the maps. The map of a file STEM.jpg is STEM.png.
      form: Format of the printed table, of `tables.FORMATS`.

    Returns:
      The share of each class, by file.

    Raises:
      UserError: No folder is given, a map exists already or would be written twice, or no file can be read.
    """
    (name, field), *_ = kinds.items()
    if out is None:
        raise UserError(f"{model.name} segments images, and has no folder for the maps: give --out=FOLDER")
    if (field.classes or 0) > MOST:
        raise UserError(f"{name!r} has {field.classes:,} classes, but a map (PNG) holds at most {MOST}")
    folder = Path(storage.local(out, "--out"))
    places = {file: folder / f"{Path(file).stem}.png" for file in files}
    if len(set(places.values())) < len(places):
        raise UserError("some images have the same name, so their maps would, too: predict one folder at a time")
    if existing := [place for place in places.values() if place.exists()]:
        raise UserError(f"{existing[0]} exists already: give another --out")
    left_out: dict[str, str] = {}
    maps = photos.apply_model(model, files, lambda outputs: outputs[name], left_out, "segmenting images")
    if not maps:
        raise UserError(f"none of the {len(files):,} files is an image that can be read: check --images")
    folder.mkdir(parents=True, exist_ok=True)
    names = field.names or tuple(str(k) for k in range(field.classes or MOST))
    rows, shares = [], Maps()
    for file, classes in maps.items():
        image = Image.fromarray(classes.astype(np.uint8), mode="P")
        image.putpalette(palette())
        image.save(places[file])
        counts = np.bincount(classes.ravel(), minlength=len(names)) / classes.size
        shares[file] = {names[k]: float(counts[k]) for k in np.argsort(-counts, kind="stable") if counts[k]}
        for of_class, share in shares[file].items():
            rows.append(
                {"path": image_files.printable(file), "map": str(places[file]), "class": of_class, "share": share}
            )
    shares.left_out = left_out
    tables.write_rows(rows, COLUMNS, form, None)
    if form == tables.TABLE:
        console().print(f"{len(maps):,} maps written to {folder}/", markup=False)
    return shares


def palette() -> list[int]:
    """Returns the colours of PASCAL VOC for 256 classes as a list of red, green, blue, ...; the first is black.

    >>> palette()[:9]
    [0, 0, 0, 128, 0, 0, 0, 128, 0]
    """
    colours = []
    for k in range(MOST):
        # Each three bits of the class, lowest first, go to red, green and blue, from their highest bit down.
        bits = [(k >> shift) & 1 for shift in range(8)]
        rounds = [bits[i : i + 3] + [0] * (3 - len(bits[i : i + 3])) for i in range(0, 8, 3)]
        colours += [sum(rounds[j][c] << (7 - j) for j in range(3)) for c in range(3)]
    return colours
