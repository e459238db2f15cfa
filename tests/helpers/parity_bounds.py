"""How much the outputs of a library and ours may differ, with the same weights.

The numbers stand in tests/reference/parity.json, from which the table of docs/models.md is made too.
"""

import json
from pathlib import Path

FILE = Path(__file__).parents[1] / "reference" / "parity.json"
BOUNDS = {source: models for source, models in json.loads(FILE.read_text()).items() if source != "_about"}


def bound(source: str, model: str) -> float:
    """Returns the largest difference that is allowed, as a share of the largest output.

    Args:
      source: Library of the weights, as in `models/weights/tables.py`.
      model: Name of our model.

    Raises:
      LookupError: There is no number for this pair.
    """
    if model not in BOUNDS.get(source, {}):
        raise LookupError(f"add a bound for {model!r} with weights of {source!r} to tests/reference/{FILE.name}")
    return BOUNDS[source][model]
