"""A table: the names and layouts that a library has for the arrays of one of our models.

Its renames are substitutions (regular expression, template). Made one after the other in our path,
`params/stage1/block2/conv1/kernel`, they give the name in the file. In a template, `{1}` is the first group of the
pattern, `{1-1}` is that number minus one, and `{1:02}` is the number with two digits. If query, key and value get the
same name, the file holds them in one array, in this order.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

Rules = tuple[tuple[str, str], ...]
COLLECTION = (r"^(?:params|batch_stats)/", "")


def below(ours: str, theirs: str, rules: Rules) -> Rules:
    """Turns the rules of a model into rules for that model as a part of another.

    Args:
      ours: Prefix of our paths of the part.
      theirs: Prefix of its names in the file.
      rules: Rules of the model by itself.

    >>> below("image_tower/", "visual/", ((r"^cls$", "class_embedding"), (r"/scale$", "/weight")))
    (('^image_tower/cls$', 'visual/class_embedding'), ('/scale$', '/weight'))
    """
    inside = lambda pattern, template: (f"^{ours}{pattern[1:]}", theirs + template)
    return tuple(inside(*rule) if rule[0].startswith("^") else rule for rule in rules)


class Stated(NamedTuple):
    """A value with which weights were trained.

    Attributes:
      value: Value of a property.
      by: Source of the value, in words.
    """

    value: Any
    by: str


def within(ours: str, theirs: str, rules: Rules) -> Rules:
    """Does the same as `below`, for a model whose other parts have other rules.

    Rules without "^" match anywhere in a path; here they are limited to the paths of the part.

    Args:
      ours: Prefix of our paths of the part.
      theirs: Prefix of its names in the file.
      rules: Rules of the model by itself.

    >>> within("image_tower/", "visual/trunk/", ((r"^cls$", "cls_token"), (r"/dense_(\\d)/", "/fc{1+1}/")))[1]
    ('^(image_tower/.*?)/dense_(\\\\d)/', '{1}/fc{2+1}/')
    """
    # The pattern gets a group in front, so the groups of the template move up by one.
    shifted = lambda template: re.sub(r"\{(\d)", lambda match: f"{{{int(match[1]) + 1}", template)
    inside = [
        (f"^{ours}{pattern[1:]}", ours + template)
        if pattern.startswith("^")
        else (f"^({ours}.*?){pattern}", "{1}" + shifted(template))
        for pattern, template in rules
    ]
    return (*inside, (f"^{ours}", theirs))


class Table(NamedTuple):
    """The way in which one library writes one of our models.

    Attributes:
      renames: Substitutions that turn our path into the name in the file.
      layouts: Pairs (pattern in our path, key of `layouts.LAYOUTS`); the first match decides.
      unused: Patterns of names in the file that hold nothing of this model.
      prefixes: Possible prefixes of every name; arrays without it belong to other models of the file.
      scanned: Pair (pattern, template with the layer's number) for files that stack the layers of a scan, or None.
      options: Pairs (pattern in the names of the file, options of our model, or a function from the file's arrays to
        them), for files with a match; later ones win.
      when: Pattern in our paths of the models that the table is for; None for any.
      computes: Properties of every network of this layout that no array shows; see `properties`.
      architectures: Pairs (pattern in the library's own name of a network, options or further properties of it); later
        ones win.
      assumed: Names of options that differ between the library's networks and that no array shows. Those in `options`
        are the usual ones, and hold if the architecture is not named.
      positions_of_grid: True if position embeddings are of a grid of patches, which can be resized.
      roots: First words of names in the file that belong to the layout, so they are not removed as a prefix even if all
        names share one.
      zeros: Patterns of our paths that are zero if the file has none of them: biases that were left out.
      lacks: Pairs (pattern in our paths, words for the part) of parts that the layout has no names for. A model with
        such a part is not exported.
      reasons: Pairs (pattern in names that do not fit, reason or advice), for the error.
      what: Words for the models that the table is for, if `when` singles out some.
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
