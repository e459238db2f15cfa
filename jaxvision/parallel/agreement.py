"""Checks that the processes of a job agree in certain facts, before anything is written."""

import json
from collections.abc import Mapping
from typing import Any

import google_crc32c
import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxvision.errors import UserError, shown
from jaxvision.parallel.distributed import text_of_process_0

MOST = 20  # most differences, and most processes, that a message names


def check_equal(facts: Mapping[str, Any], what: str) -> None:
    """Compares facts with those of process 0; every process must call it.

    Args:
      facts: JSON values by name, which may be nested. Every process has the same names.
      what: Kind of the facts, for the message, such as "the data".

    Raises:
      UserError: In every process, if any process has other facts; the message lists the differences, process by
        process.
    """
    if jax.process_count() == 1:
        return
    mine = json.loads(json.dumps(facts, sort_keys=True, default=repr))
    lines_of_mine = _differences(json.loads(text_of_process_0(json.dumps(mine, sort_keys=True))), mine)
    differing = [
        (number, lines) for number, lines in enumerate(map(json.loads, texts(json.dumps(lines_of_mine)))) if lines
    ]
    if not differing:
        return
    lines = []
    for number, differences in differing[:MOST]:
        lines.append(f"process {number} has other values than process 0 (process 0 -> process {number}):")
        lines += [f"  {line}" for line in differences[:MOST]]
        lines += [f"  and {len(differences) - MOST} more"] if len(differences) > MOST else []
    more = f"\nand {len(differing) - MOST} more processes" if len(differing) > MOST else ""
    raise UserError(f"the processes of this job differ in {what}:\n  " + "\n  ".join(lines) + more)


def check_arrays(tree: Any, what: str, **facts: Any) -> None:
    """Compares arrays with those of process 0, which JAX does not: it takes other values of a copy without a word.

    Every process must call it.

    Args:
      tree: Tree with NumPy arrays of any shape.
      what: Kind of the arrays, for the message.
      **facts: Further facts to compare, JSON values.

    Raises:
      UserError: In every process, if any process has other arrays or facts.
    """
    if jax.process_count() > 1:
        check_equal({**facts, "content": content(tree)}, what)


def texts(text: str) -> list[str]:
    """Gathers a text from each process; every process must call it.

    Args:
      text: Text of this process.

    Returns:
      The texts of all processes, by their number.
    """
    data = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(data)))
    padded = np.zeros(max(int(lengths.max()), 1), np.uint8)
    padded[: len(data)] = data
    rows = np.asarray(multihost_utils.process_allgather(padded)).astype(np.uint8)
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths)]


def devices() -> dict[str, Any]:
    """Describes the devices of this process; every process must have the same number and kind."""
    kinds = sorted({f"{device.platform} {device.device_kind}" for device in jax.local_devices()})
    return {"kind": ", ".join(kinds), "count": jax.local_device_count(), "processes": jax.process_count()}


def content(tree: Any) -> str:
    """Returns a digest of the NumPy arrays of a tree, with their types and shapes; other leaves are left out.

    Args:
      tree: Tree with arrays of any shape.

    >>> content([np.zeros(2)]) == content([np.zeros(2), None]) != content([np.ones(2)])
    True
    """
    check = google_crc32c.Checksum()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, np.ndarray):
            check.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape};".encode())
            check.update(leaf.tobytes())
    return check.hexdigest().decode()


def _differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    missing, lines = object(), []
    for key in dict.fromkeys([*there, *here]):
        a, b = there.get(key, missing), here.get(key, missing)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            a, b = ("(absent)" if value is missing else shown(value) for value in (a, b))
            lines.append(f"{prefix}{key}: {a} -> {b}")
    return lines
