"""Sets of prompts: texts with `{}` in place of a class name, which make a classifier of a model of image and text."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvision.errors import UserError, shown, unknown
from jaxvision.reading import is_file, parse_json, read_text

PLACE = "{}"

_CLIP80 = """
a bad photo of a {}.; a photo of many {}.; a sculpture of a {}.; a photo of the hard to see {}.; a low resolution photo
of the {}.; a rendering of a {}.; graffiti of a {}.; a bad photo of the {}.; a cropped photo of the {}.; a tattoo of a
{}.; the embroidered {}.; a photo of a hard to see {}.; a bright photo of a {}.; a photo of a clean {}.; a photo of a
dirty {}.; a dark photo of the {}.; a drawing of a {}.; a photo of my {}.; the plastic {}.; a photo of the cool {}.; a
close-up photo of a {}.; a black and white photo of the {}.; a painting of the {}.; a painting of a {}.; a pixelated
photo of the {}.; a sculpture of the {}.; a bright photo of the {}.; a cropped photo of a {}.; a plastic {}.; a photo
of the dirty {}.; a jpeg corrupted photo of a {}.; a blurry photo of the {}.; a photo of the {}.; a good photo of the
{}.; a rendering of the {}.; a {} in a video game.; a photo of one {}.; a doodle of a {}.; a close-up photo of the {}.;
a photo of a {}.; the origami {}.; the {} in a video game.; a sketch of a {}.; a doodle of the {}.; a origami {}.; a
low resolution photo of a {}.; the toy {}.; a rendition of the {}.; a photo of the clean {}.; a photo of a large {}.; a
rendition of a {}.; a photo of a nice {}.; a photo of a weird {}.; a blurry photo of a {}.; a cartoon {}.; art of a
{}.; a sketch of the {}.; a embroidered {}.; a pixelated photo of a {}.; itap of the {}.; a jpeg corrupted photo of the
{}.; a good photo of a {}.; a plushie {}.; a photo of the nice {}.; a photo of the small {}.; a photo of the weird {}.;
the cartoon {}.; art of the {}.; a drawing of the {}.; a photo of the large {}.; a black and white photo of a {}.; the
plushie {}.; a dark photo of a {}.; itap of a {}.; graffiti of the {}.; a toy {}.; itap of my {}.; a photo of a cool
{}.; a photo of a small {}.; a tattoo of the {}.
"""
_CLIP7 = """
itap of a {}.; a bad photo of the {}.; a origami {}.; a photo of the large {}.; a {} in a video game.; art of the {}.;
a photo of the small {}.
"""


class PromptSet(NamedTuple):
    """A set of prompts.

    Attributes:
      name: Name for metrics; it changes whenever one of the texts does.
      templates: Texts with `{}` in place of a class name.
    """

    name: str
    templates: tuple[str, ...]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split("; "))


# The last two are from Radford et al. 2021 (CLIP), sec. 3.1.4, and the notebook "Prompt Engineering for ImageNet" of
# openai/CLIP (MIT licence), which selected the seven from the eighty on ImageNet.
SETS = {
    "class_name": PromptSet("class_name_v1", (PLACE,)),
    "photo": PromptSet("photo_v1", ("a photo of a {}.",)),
    "clip7": PromptSet("clip7_v1", _listed(_CLIP7)),
    "clip80": PromptSet("clip80_v1", _listed(_CLIP80)),
}


def get_prompts(name: str | Path) -> PromptSet:
    """Returns a set of prompts.

    Args:
      name: Name of one of `SETS`; or a file, .json with a list of texts, else with one text per line; or a text with
        `{}`.

    Returns:
      The set. The name of a set of your own ends in eight hex digits of the SHA-256 of its texts.

    Raises:
      UserError: There is no such set or file, or a text has no `{}`.

    >>> get_prompts("photo")
    PromptSet(name='photo_v1', templates=('a photo of a {}.',))
    >>> get_prompts("the {} seen from above").name
    'own_4e721ec1'
    """
    name = str(name)
    if name in SETS:
        return SETS[name]
    if PLACE in name:
        return _own("own", (name,), name)
    if not is_file(name):
        raise unknown("set of prompts (or file of prompts, or text with {})", name, SETS)
    file = Path(name).expanduser()
    return _own(file.stem, _read(file), str(file))


def fill_template(template: str, name: str) -> str:
    """Returns the text for a class.

    Args:
      template: Text with `{}`.
      name: Name of the class.

    >>> fill_template("a photo of a {}.", "cat")
    'a photo of a cat.'
    """
    return template.replace(PLACE, name)


def fingerprint(texts: Sequence[str]) -> str:
    """Returns eight hex digits that differ between lists of texts.

    Args:
      texts: Texts.
    """
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()[:8]


def _own(stem: str, templates: tuple[str, ...], where: str) -> PromptSet:
    for template in templates:
        if not isinstance(template, str) or PLACE not in template:
            raise UserError(f"{where}: a prompt is a text with {{}} in place of the class name, not {shown(template)}")
    if not templates:
        raise UserError(f"{where} holds no prompts")
    return PromptSet(f"{stem}_{fingerprint(templates)}", templates)


def _read(file: Path) -> tuple[str, ...]:
    text = read_text(file)
    lines = parse_json(text, file, list) if file.suffix == ".json" else [line.strip() for line in text.splitlines()]
    return tuple(template for template in lines if template)
