"""What a table says: how a library names and lays out the arrays of one of our models.

Its renames are substitutions (regular expression, template) made one after the other in our path,
`params/stage1/block2/conv1/kernel`; what they leave is the name in the file. In a template `{1}` is
the first group of the pattern, `{1-1}` that number less one, and `{1:02}` the number with two digits.
Where query, key and value get one name, the file holds them in this order in one array.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

Rules = tuple[tuple[str, str], ...]
COLLECTION = (r"^(?:params|batch_stats)/", "")


def below(ours: str, theirs: str, rules: Rules) -> Rules:
    """The rules of a model, for one that is a part of another: `ours` and `theirs` stand before its names.

    >>> below("image_tower/", "visual/", ((r"^cls$", "class_embedding"), (r"/scale$", "/weight")))
    (('^image_tower/cls$', 'visual/class_embedding'), ('/scale$', '/weight'))
    """
    inside = lambda pattern, template: (f"^{ours}{pattern[1:]}", theirs + template)
    return tuple(inside(*rule) if rule[0].startswith("^") else rule for rule in rules)


class Stated(NamedTuple):
    """A value that goes with weights, and who says so."""

    value: Any
    by: str


def within(ours: str, theirs: str, rules: Rules) -> Rules:
    """The same where the other parts of the model have rules of their own: those of a name's middle stay in the part.

    >>> within("image_tower/", "visual/trunk/", ((r"^cls$", "cls_token"), (r"/dense_(\\d)/", "/fc{1+1}/")))[1]
    ('^(image_tower/.*?)/dense_(\\\\d)/', '{1}/fc{2+1}/')
    """
    shifted = lambda template: re.sub(r"\{(\d)", lambda found: f"{{{int(found[1]) + 1}", template)
    inside = [
        (f"^{ours}{pattern[1:]}", ours + template)
        if pattern.startswith("^")
        else (f"^({ours}.*?){pattern}", "{1}" + shifted(template))
        for pattern, template in rules
    ]
    return (*inside, (f"^{ours}", theirs))


class Table(NamedTuple):
    """How one library writes one of our models.

    Attributes:
      renames: substitutions that turn our path into the name in the file.
      layouts: pairs (pattern found in our path, key of `layouts.LAYOUTS`); the first match decides.
      unused: patterns of names in the file that hold nothing of this model.
      prefixes: what may stand before every name; arrays without it belong to other models of the file.
      scanned: (pattern, template with the layer's number) for files that stack the layers of a scan.
      options: pairs (pattern, options of our model that hold where a name in the file matches, or a function from the
        file's arrays to them); later ones win.
      when: a pattern found in our paths where the table is meant; None is any.
      computes: what every network of this layout computes that leaves no array and is no option of our model, or is one
        and always the same; see `properties`.
      architectures: pairs (pattern found in the library's own name of a network, options or further properties of it);
        later ones win.
      assumed: options that differ between the library's networks and that no array tells: the ones in `options` are the
        usual ones, and hold where nobody names the architecture.
      roots: first words of names in the file that are the layout's own, where all names may share one.
      zeros: patterns of our paths that are zero where the file has none of them: biases that were left out.
      lacks: pairs (pattern found in our paths, what it is) of what the layout has no names for, which is not exported.
      reasons: pairs (pattern found in names that do not fit, why or what to do), for the error.
      what: the models that the table is for, in words, where `when` singles out some.
      positions_of_grid: whether position embeddings are of a grid of patches, which can be resized.
    """

    renames: Rules
    layouts: Rules = ((".", "torch"),)
    unused: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    scanned: tuple[str, str] | None = None
    options: tuple[tuple[str, dict[str, Any] | Callable[[dict[str, np.ndarray]], dict[str, Any]]], ...] = ()
    when: str | None = None
    computes: Mapping[str, Any] = MappingProxyType({})
    architectures: tuple[tuple[str, dict[str, Any]], ...] = ()
    assumed: tuple[str, ...] = ()
    positions_of_grid: bool = True
    roots: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    lacks: tuple[tuple[str, str], ...] = ()
    reasons: tuple[tuple[str, str], ...] = ()
    what: str = ""


SCANNED = (r"(?:(?<=/)|^)blocks/", "block_{:02}/")  # how our own models stack layers
OURS = Table(renames=(), layouts=((".", "same"),), scanned=SCANNED, roots=("params/", "batch_stats/"))
