"""Paths of the leaves of a tree, `encoder/block_00/mlp/dense_0/kernel`, and rules over them.

Rules are tuples `((pattern, value), ...)`. The first pattern that matches anywhere in a path (`re.search`, so anchor it
with `^` and `$` if that matters) gives the path its value. Rules must cover every path, so that no new parameter gets a
treatment that nobody chose; a last rule `(".*", value)` covers the rest. Weight decay, learning rates, freezing and
sharding all use them.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax

from jaxvision.errors import UserError, unknown

PyTree = Any
Rules = Sequence[tuple[str, Any]]


def names(tree: PyTree) -> list[str]:
    """Returns the path of every leaf, in the order of `jax.tree.leaves`.

    Args:
      tree: Tree of dicts, lists, tuples and dataclasses.

    >>> names({"head": {"bias": 0, "kernel": 1}, "layers": [2]})
    ['head/bias', 'head/kernel', 'layers/0']
    """
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(tree)]


def flatten(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves of a tree by path.

    Args:
      tree: Tree of dicts, lists, tuples and dataclasses.

    >>> flatten({"head": {"bias": 0, "kernel": 1}, "layers": (2,)})
    {'head/bias': 0, 'head/kernel': 1, 'layers/0': 2}
    """
    return dict(zip(names(tree), jax.tree.leaves(tree)))


def leaf(tree: PyTree, path: str, kind: str) -> Any:
    """Returns the leaf at a path.

    Args:
      tree: Tree of dicts, lists, tuples and dataclasses.
      path: Path of the leaf.
      kind: Kind of the leaf, for the message.

    Raises:
      UserError: If there is no leaf at this path; the message lists all paths.

    >>> leaf({"head": {"bias": 3}}, "head/bias", "parameter")
    3
    """
    leaves = flatten(tree)
    if path not in leaves:
        raise unknown(kind, path, leaves)
    return leaves[path]


def match(rules: Rules, tree: PyTree, kind: str, check_unused: bool = True) -> PyTree:
    """Replaces every leaf of a tree by the value of the first rule whose pattern matches its path.

    Args:
      rules: Pairs (regular expression, value).
      tree: Any tree; only its paths are used.
      kind: Name of the rules, for messages: "decay_rules".
      check_unused: True to raise an error if a rule decides no leaf, since it is probably misspelt or
        hidden by earlier rules. A last rule that matches every path is always allowed. Set it to False
        for rules that the user did not write.

    Raises:
      UserError: If a leaf is not covered, a rule decides nothing, or a rule is malformed.

    >>> match((("bias$", 0.0), (".*", 1.0)), {"head": {"bias": 3, "kernel": 4}}, "decay_rules")
    {'head': {'bias': 0.0, 'kernel': 1.0}}
    """
    patterns = [_compile(rule, kind) for rule in rules]
    paths = names(tree)
    chosen = [next((i for i, p in enumerate(patterns) if p.search(path)), None) for path in paths]
    uncovered = [path for path, i in zip(paths, chosen) if i is None]
    if uncovered:
        more = f" and {len(uncovered) - 5} more" if len(uncovered) > 5 else ""
        raise UserError(
            f"{kind} must cover everything; no rule matches {', '.join(uncovered[:5])}{more}. "
            "A last rule ('.*', value) covers the rest"
        )
    for i, pattern in enumerate(patterns if check_unused else []):
        if i not in chosen and not all(pattern.search(path) for path in paths):
            raise UserError(
                f"{kind}: the rule {pattern.pattern!r} decides nothing: no path matches it, or earlier rules take "
                f"those that do. Paths look like {', '.join(paths[:5])}"
            )
    return jax.tree.unflatten(jax.tree.structure(tree), [rules[i][1] for i in chosen if i is not None])


def _compile(rule: Any, kind: str) -> re.Pattern:
    try:
        pattern, _ = rule
        return re.compile(pattern)
    except (TypeError, ValueError, re.error) as error:
        raise UserError(f"{kind}: {rule!r} is not a pair (regular expression, value): {error}") from None
