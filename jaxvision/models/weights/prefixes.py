"""Prefixes of the names in a file: of wrappers, of a checkpoint's dictionaries, of parts of a model.

A prefix that all arrays share (`module.` of DistributedDataParallel, `_orig_mod.` of torch.compile, `model.`) is
removed. If a checkpoint holds several sets of weights, one is chosen: the average if there is one, as in timm. Names
that already are the layout's own stay as they are.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.errors import UserError, listed, some
from jaxvision.models.weights.table import Table

# Keys under which checkpoints keep weights. The first one in the file is chosen, so averages come first.
SETS = (
    "state_dict_ema",
    "model_state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "model_ema_state_dict",
    "params_ema",
    "ema",
    "averaged_model",
    "teacher",
    "state_dict",
    "model_state_dict",
    "model",
    "student",
    "net",
    "network",
    "params",
    "module",
)
BESIDE = re.compile(  # entries of a checkpoint that are not weights
    r"optim|(?:lr_)?sched|(?:grad_|loss_|fp16_)?scaler|\w*loss|loops|callbacks|epoch|(?:global_)?step|iter|args|config|cfg|"
    r"metric|best|amp|rng|hyper_?param|hparams|n_averaged|pytorch-lightning|version|monitor|score",
    re.IGNORECASE,
)
WORD = re.compile(r"[^./]+[./](?=.)")
OPTION = "--prefix={0} (init.prefix in a config) takes it"


class Selected(NamedTuple):
    """The arrays of a file that belong to the model.

    Attributes:
      arrays: Arrays by their names without the prefix.
      prefix: Prefix that was removed, or "".
      notes: Lines on the prefix and on arrays that were left out.
    """

    arrays: dict[str, np.ndarray]
    prefix: str
    notes: tuple[str, ...]


def select(arrays: Mapping[str, np.ndarray], tables: Sequence[Table], prefix: str | None = None) -> Selected:
    """Removes the prefix before a layout's names.

    Args:
      arrays: Arrays by their names in the file.
      tables: Tables of the layout, whose own prefixes and first words stay.
      prefix: Prefix to remove; arrays without it are not used. "" keeps all names as they are. None finds the prefix
        from the names.

    Raises:
      UserError: A prefix that no name has.

    >>> select({"module.fc.bias": np.zeros(2), "module.bn1.weight": np.zeros(3)}, []).notes
    ("names: 'module.' removed from all 2 arrays",)
    """
    layout_starts = tuple(p for table in tables for p in (*table.prefixes, *_beginnings(table)) if p)
    names = [n for n in arrays if not any(re.search(pattern, n) for table in tables for pattern in table.unused)]
    removed, notes = "" if prefix is None else _asked(arrays, prefix), []
    # Each turn removes one more word, until the names are the layout's own or their first words differ.
    while prefix != "":
        # A counter next to the weights, such as n_averaged of torch's AveragedModel, is not a weight.
        under = [n for n in names if n.startswith(removed)]
        rests = [n[len(removed) :] for n in under if arrays[n].size > 1 or arrays[n].dtype.kind not in "iu"]
        if not rests or any(
            name.startswith(layout_starts) or name.replace(".", "/").startswith(layout_starts) for name in rests
        ):
            break
        words = Counter(match[0] if (match := WORD.match(name)) else name for name in rests)
        word, note = (next(iter(words)), []) if len(words) == 1 else _one_of_several(words, removed)
        if not word.endswith((".", "/")):
            break
        notes += note
        removed += word
    selected = {name.removeprefix(removed): x for name, x in arrays.items() if name.startswith(removed)}
    if removed:
        left = [name for name in arrays if not name.startswith(removed)]
        rest = f"; not used: {some(left)}" if left else ""
        notes.insert(0, f"names: {removed!r} removed from {'' if left else 'all '}{len(selected):,} arrays{rest}")
    return Selected(selected, removed, tuple(notes))


def _beginnings(table: Table) -> list[str]:
    """Returns beginnings of the layout's names, with slashes: the fixed beginnings of its anchored rules' results."""
    templates = [template for pattern, template in table.renames if pattern.startswith("^")]
    return [*table.roots, *(template.partition("{")[0] for template in templates)]


def _asked(arrays: Mapping[str, np.ndarray], prefix: str) -> str:
    """Returns the prefix that was asked for, with the dot or slash that follows it in the names."""
    for end in ("",) if not prefix or prefix[-1] in "./" else (".", "/"):
        if any(name.startswith(prefix + end) and len(name) > len(prefix + end) for name in arrays):
            return prefix + end
    words = dict.fromkeys(word[0] for name in arrays if (word := WORD.match(name)))
    choices = listed(prefix, words) if words else "none, the names have no prefix"
    raise UserError(f"no array of the file has the prefix {prefix!r}. Prefixes: {choices}")


def _one_of_several(words: Mapping[str, int], removed: str) -> tuple[str, list[str]]:
    """Chooses a set of weights in a checkpoint of several things, "" if that is not clear; and returns a note."""
    sets = [word for name in SETS for word in words if word[:-1] == name]
    if not sets or any(word not in sets and not BESIDE.match(word) for word in words):
        return "", []
    if len(sets) == 1:
        return sets[0], []
    others = [f"{removed}{word} has {words[word]:,} arrays: {OPTION.format(removed + word)}" for word in sets[1:]]
    return sets[0], [f"names: {removed + sets[0]!r} is one of several sets of weights, and used; {'; '.join(others)}"]


def offers(names: Collection[str], wanted: Collection[str]) -> list[tuple[str, int]]:
    """Finds the prefixes after which the file has names of a layout.

    Args:
      names: Names in the file.
      wanted: Names of the layout.

    Returns:
      Pairs (prefix, number of the layout's names after it), the largest number first; among equals, averages first.

    >>> offers(["backbone.fc.bias", "backbone.fc.weight", "head.bias"], ["fc.bias", "fc.weight"])
    [('backbone.', 2)]
    """
    counts: Counter[str] = Counter()
    for name in names:
        for place in re.finditer(r"[./]", name):
            if name[place.end() :] in wanted:
                counts[name[: place.end()]] += 1
    rank = {name: i for i, name in enumerate(SETS)}
    first = lambda prefix: rank.get(re.split(r"[./]", prefix)[0], len(rank))
    return sorted(counts.items(), key=lambda item: (-item[1], first(item[0]), item[0]))
