"""What stands before the names of a file that are a layout's: of wrappers, of a checkpoint's dictionaries, of parts.

A prefix that all arrays share (`module.` of DistributedDataParallel, `_orig_mod.` of torch.compile, `model.`) is taken
off. Of a checkpoint that holds several sets of weights, one is taken: the average where there is one, as timm does. The
names as they are in the file win wherever they are the layout's.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxvision.errors import UserError, listed
from jaxvision.models.weights.table import Table

# Keys under which checkpoints keep weights, the first of them that is there is taken: averages before what is trained.
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
BESIDE = re.compile(  # of a training that was interrupted, beside the weights
    r"optim|(?:lr_)?sched|(?:grad_|loss_)?scaler|\w*loss|loops|callbacks|epoch|(?:global_)?step|iter|args|config|cfg|"
    r"metric|best|amp|rng|hyper_?param|hparams|n_averaged|pytorch-lightning|version|monitor|score",
    re.IGNORECASE,
)
WORD = re.compile(r"[^./]+[./](?=.)")
OPTION = "--prefix={0} (init.prefix in a config) takes it"


class Selected(NamedTuple):
    """The arrays of a file that are the model's.

    Attributes:
      arrays: by their names without the prefix.
      prefix: what was taken off.
      notes: what was taken off or left out, a line each.
    """

    arrays: dict[str, np.ndarray]
    prefix: str
    notes: tuple[str, ...]


def select(arrays: Mapping[str, np.ndarray], tables: Sequence[Table], prefix: str | None = None) -> Selected:
    """Takes off what stands before a layout's names.

    Args:
      arrays: by name in the file.
      tables: of the layout, whose own prefixes and first words stay.
      prefix: what to take off, where the file leaves a choice; the names without it are not used. An empty one keeps
        all names as they are, and None decides by them.

    Raises:
      UserError: no name begins with `prefix`.

    >>> select({"module.fc.bias": np.zeros(2), "module.bn1.weight": np.zeros(3)}, []).notes
    ("names: 'module.' taken off all 2 arrays",)
    """
    own = tuple(p for table in tables for p in (*table.prefixes, *_beginnings(table)) if p)
    names = [n for n in arrays if not any(re.search(pattern, n) for table in tables for pattern in table.unused)]
    found, notes = "" if prefix is None else _asked(arrays, prefix), []
    while prefix != "":
        # A counter beside the weights, such as n_averaged of torch's AveragedModel, is none of them.
        under = [n for n in names if n.startswith(found)]
        counted = [n[len(found) :] for n in under if arrays[n].size > 1 or arrays[n].dtype.kind not in "iu"]
        if not counted or any(name.startswith(own) or name.replace(".", "/").startswith(own) for name in counted):
            break
        words = Counter(word[0] if (word := WORD.match(name)) else name for name in counted)
        word, note = (next(iter(words)), []) if len(words) == 1 else _one_of_several(words, found)
        if not word.endswith((".", "/")):
            break
        notes += note
        found += word
    taken = {name.removeprefix(found): x for name, x in arrays.items() if name.startswith(found)}
    if found:
        left = [name for name in arrays if not name.startswith(found)]
        rest = f"; not used: {_few(left)}" if left else ""
        notes.insert(0, f"names: {found!r} taken off {'' if left else 'all '}{len(taken):,} arrays{rest}")
    return Selected(taken, found, tuple(notes))


def _beginnings(table: Table) -> list[str]:
    """How names of the layout begin, with slashes: the fixed beginnings of what its anchored rules leave."""
    templates = [template for pattern, template in table.renames if pattern.startswith("^")]
    return [*table.roots, *(template.partition("{")[0] for template in templates)]


def _asked(arrays: Mapping[str, np.ndarray], prefix: str) -> str:
    """The prefix that was asked for, with the dot or slash behind it that the names have."""
    for end in ("",) if not prefix or prefix[-1] in "./" else (".", "/"):
        if any(name.startswith(prefix + end) and len(name) > len(prefix + end) for name in arrays):
            return prefix + end
    words = dict.fromkeys(word[0] for name in arrays if (word := WORD.match(name)))
    choices = listed(prefix, words) if words else "none, the names are as a layout has them"
    raise UserError(f"no array of the file has the prefix {prefix!r}. Prefixes: {choices}")


def _one_of_several(words: Mapping[str, int], found: str) -> tuple[str, list[str]]:
    """The set of weights that is taken from a checkpoint of several things, "" where it is not clear, and a note."""
    sets = [word for name in SETS for word in words if word[:-1] == name]
    if not sets or any(word not in sets and not BESIDE.match(word) for word in words):
        return "", []
    if len(sets) == 1:
        return sets[0], []
    others = [f"{found}{word} has {words[word]:,} arrays: {OPTION.format(found + word)}" for word in sets[1:]]
    return sets[0], [f"names: of several sets of weights, {found + sets[0]!r} is taken; {'; '.join(others)}"]


def offers(names: Collection[str], wanted: Collection[str]) -> list[tuple[str, int]]:
    """The prefixes behind which the file has names of a layout, and how many, the most first (of as many, averages).

    >>> offers(["backbone.fc.bias", "backbone.fc.weight", "head.bias"], ["fc.bias", "fc.weight"])
    [('backbone.', 2)]
    """
    found: Counter[str] = Counter()
    for name in names:
        for place in re.finditer(r"[./]", name):
            if name[place.end() :] in wanted:
                found[name[: place.end()]] += 1
    rank = {name: place for place, name in enumerate(SETS)}
    first = lambda prefix: rank.get(re.split(r"[./]", prefix)[0], len(rank))
    return sorted(found.items(), key=lambda item: (-item[1], first(item[0]), item[0]))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
