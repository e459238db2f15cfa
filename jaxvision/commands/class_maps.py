"""Segmentations of a user's image files: a PNG of classes for each, with colours, and what they hold as a table."""

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
MOST = 256  # classes that fit into a pixel of a PNG


class Maps(dict[str, dict[str, float]]):
    """For each file, the share of its pixels by class, of the classes that are there.

    Attributes:
      left_out: Files that could not be read, and why.
    """

    left_out: Mapping[str, str]


def write(
    model: photos.Model, files: Sequence[str], kinds: Mapping[str, Field], out: str | Path | None, form: str
) -> Maps:
    """Writes the class of every pixel of each image, and prints the share of each class.

    A map is a PNG of the size that the model sees; a pixel is the number of its class, and a palette gives it a colour.

    Args:
      model: Model whose task segments images.
      files: Image files.
      kinds: Outputs that are segmentations, by name; the first is drawn.
      out: Folder for the maps, named as their images, STEM.png.
      form: Form of the table.

    Raises:
      UserError: No folder is given, one file would be written twice or is there already, or none can be read.
    """
    (name, field), *_ = kinds.items()
    if out is None:
        raise UserError(f"{model.name} segments images: give --out=FOLDER for the maps")
    if (field.classes or 0) > MOST:
        raise UserError(f"a map holds at most {MOST} classes, and {name!r} has {field.classes:,}")
    folder = Path(storage.local(out, "--out"))
    places = {file: folder / f"{Path(file).stem}.png" for file in files}
    if len(set(places.values())) < len(places):
        raise UserError("several of the images have one name, and so would their maps: predict one folder at a time")
    if there := [place for place in places.values() if place.exists()]:
        raise UserError(f"{there[0]} is there already: give another --out")
    left_out: dict[str, str] = {}
    found = photos.apply(model, files, lambda outputs: outputs[name], left_out, "segmenting images")
    if not found:
        raise UserError(f"none of the {len(files):,} files is an image that can be read")
    folder.mkdir(parents=True, exist_ok=True)
    names = field.names or tuple(str(k) for k in range(field.classes or MOST))
    rows, shares = [], Maps()
    for file, classes in found.items():
        image = Image.fromarray(classes.astype(np.uint8), mode="P")
        image.putpalette(palette())
        image.save(places[file])
        counts = np.bincount(classes.ravel(), minlength=len(names)) / classes.size
        shares[file] = {names[k]: float(counts[k]) for k in np.argsort(-counts, kind="stable") if counts[k]}
        for of_class, share in shares[file].items():
            rows.append({"path": image_files.shown(file), "map": str(places[file]), "class": of_class, "share": share})
    shares.left_out = left_out
    tables.write(rows, COLUMNS, form, None)
    if form == tables.TABLE:
        console().print(f"{len(found):,} maps written to {folder}/", markup=False)
    return shares


def palette() -> list[int]:
    """A colour for each of 256 classes, red, green and blue: those of PASCAL VOC, the first of which is black.

    >>> palette()[:9]
    [0, 0, 0, 128, 0, 0, 0, 128, 0]
    """
    colours = []
    for k in range(MOST):
        bits = [(k >> shift) & 1 for shift in range(8)]  # three bits a round, from the highest of a colour on
        rounds = [bits[i : i + 3] + [0] * (3 - len(bits[i : i + 3])) for i in range(0, 8, 3)]
        colours += [sum(rounds[j][c] << (7 - j) for j in range(3)) for c in range(3)]
    return colours
