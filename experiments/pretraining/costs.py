"""The FLOPs of a step of every arm, which make the numbers of steps; flops.csv holds them.

    python experiments/pretraining/costs.py        # traces the steps of all presets, and writes flops.csv again

They are those of convolutions and matrix products in the whole step (`jaxvision.step_costs`): augmentation, all views,
teacher, gradient. They are in a file because a trace takes seconds, and because a run that is reported keeps its number
of steps. A test compares them with a trace.
"""

import csv
import functools
from pathlib import Path

from jaxvision.commands.study import sibling
from jaxvision.errors import UserError
from jaxvision.step_costs import step_cost

FILE = Path(__file__).with_name("flops.csv")
COLUMNS = ("preset", "arm", "flops")


def flops(preset: str, name: str) -> float:
    """Returns the FLOPs of a step.

    Args:
      preset: Name of the preset.
      name: Name of the arm, "BACKBONE/METHOD".

    Raises:
      UserError: The file has no number for this arm.
    """
    if (preset, name) not in _read():
        raise UserError(
            f"{FILE.name} has no FLOPs of the arm {name!r} of the preset {preset!r}: count them with "
            f"`python experiments/pretraining/{Path(__file__).name}`"
        )
    return _read()[preset, name]


def counted(preset: str, name: str) -> float:
    """Counts the FLOPs of a step by tracing it.

    Args:
      preset: Name of the preset.
      name: Name of the arm.
    """
    p = sibling(__file__, "presets").PRESETS[preset]
    return step_cost(p.config(name, p.seeds[0], p.steps, None)).flops


@functools.cache
def _read() -> dict[tuple[str, str], float]:
    with FILE.open(newline="") as file:
        return {(row["preset"], row["arm"]): float(row["flops"]) for row in csv.DictReader(file)}


def main() -> None:
    """Counts the FLOPs of all arms and writes them."""
    rows = []
    for preset, p in sibling(__file__, "presets").PRESETS.items():
        for name in p.arms:
            rows.append((preset, name, f"{counted(preset, name):.0f}"))
            print(*rows[-1])
    with FILE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
