"""Which way to learn without labels gives the best features, if all get the same compute?

Networks learn from images without labels by the methods of `jaxvision/tasks`, and are judged by what their features
know about classes. Every arm of a preset gets the same FLOPs of training, those of a number of SimCLR's steps: a method
with a teacher, or with more views of an image, takes fewer steps. Each backbone has two more arms: the same network
trained with all labels, for the same FLOPs, and with its random weights, after 0 steps.

All arms are evaluated at the last step, on the output of the backbone for whole images of the validation split:

    k-NN     vote of the 20 nearest training images
    probe    linear classifier, fitted to labelled training images by L-BFGS
    1 %      the same, fitted to 1 % of the labels

A seed determines initialisation, order, views and the images that classifiers are fitted to; differences are paired by
seed. The arms and sizes are in presets.py, the FLOPs of a step in flops.csv (see costs.py), the report in analysis.py.

Criteria, fixed before the first run of a reported seed: for each method on each backbone, top-1 of the probe minus that
of random weights on the same backbone has a 95 % t-interval above zero. The name of a criterion is that of its arm.
Reported, but not criteria: the same difference by k-NN and with 1 % of the labels, and each method minus SimCLR and
minus training with labels on the same backbone. That a method is better than SimCLR is not promised.
"""

from pathlib import Path

from ml_collections import ConfigDict

from jaxvision.analysis.criteria import Verdict
from jaxvision.commands.study import Row, Run, check_dir, config_of, sibling

presets = sibling(__file__, "presets")
costs = sibling(__file__, "costs")
PRESETS = tuple(presets.PRESETS)


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists all runs, seed by seed.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; None if it is not given.
    """
    check_dir(preset, presets.PRESETS[preset].needs_dir, data_dir)
    return _plan(preset, data_dir)


def get_config(arg: str = f"{PRESETS[0]}/resnet/simclr/seed0") -> ConfigDict:
    """Returns the config of one run, PRESET/RUN. Presets that need --data_dir need --config.data.data_dir=DIR here.

    Args:
      arg: Name of the run, "PRESET/RUN".
    """
    return config_of(arg, PRESETS, _plan)


def criteria(rows: list[Row], preset: str) -> dict[str, Verdict]:
    """Judges the criteria, by name.

    Args:
      rows: Results of all runs, one row per run.
      preset: Name of the preset.
    """
    return sibling(__file__, "analysis").criteria(rows, presets.PRESETS[preset])


def analyse(rows: list[Row], out: Path, preset: str) -> str:
    """Writes report.md, report.html, figures and summary.json. Returns the report.

    Args:
      rows: Results of all runs, one row per run.
      out: Folder of the study.
      preset: Name of the preset.
    """
    return sibling(__file__, "analysis").write(rows, out, presets.PRESETS[preset])


def _plan(preset: str, data_dir: str | None) -> list[Run]:
    p, planned = presets.PRESETS[preset], []
    budget = p.steps * costs.flops(preset, p.reference)
    for seed in p.seeds:
        for name in p.arms:
            backbone, arm = name.split("/")
            cost = costs.flops(preset, name)
            steps = 0 if arm == "random" else round(budget / cost)
            config = p.config(name, seed, steps, data_dir)
            tags = dict(backbone=backbone, arm=arm, seed=seed, steps=steps, images=steps * config.data.batch_size)
            planned.append(Run(f"{name}/seed{seed}", config, tags | dict(flops=steps * cost)))
    return planned
