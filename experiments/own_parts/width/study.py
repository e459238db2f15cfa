"""How many channels does the segmentation of shapes need? A study with your own parts: two runs of a minute each.

Run:       jaxvision study experiments/own_parts/width --preset=laptop --out=runs/width
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision.commands.study import Run, config_of

PRESETS = ("laptop",)
WIDTHS = (4, 32)
CONFIG = Path(__file__).parents[3] / "configs" / "own_parts" / "segmentation.py"


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists one run for each width.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; None if it is not given.
    """
    planned = []
    for width in WIDTHS:
        c = configs.load(str(CONFIG))
        c.task.width = width
        c.train.total = "150 steps"
        planned.append(Run(f"width{width}", c, {"width": width}))
    return planned


def get_config(arg: str) -> ConfigDict:
    """Returns the config of one of the runs, PRESET/RUN.

    Args:
      arg: Name of the run, "PRESET/RUN".
    """
    return config_of(arg, PRESETS, runs)


def analyse(rows: list[dict[str, Any]], out: Path, preset: str) -> str:
    """Returns one line for each width.

    Args:
      rows: Results of all runs, one row per run.
      out: Folder of the study.
      preset: Name of the preset.
    """
    return "\n".join(f"width {row['width']}: mean IoU {row['val/mean_iou']:.3f}" for row in rows)
