"""Are deeper networks harder to train, and do shortcuts help?

After He et al. 2016, "Deep residual learning for image recognition", arXiv 1512.03385, sec. 4.2 and fig. 6: a plain
network of 56 layers has a higher error than one of 20 layers, on the training images too, so this is no overfitting.
With shortcuts that have no parameters, the deeper network has the lower error.

Two kinds of networks, plain and residual, are trained at several depths with the recipe of the paper: SGD with
momentum, a rate of 0.1 that falls tenfold at 50 % and 75 % of the run, crops and flips. A seed determines
initialisation, order and augmentation; differences are paired by seed. The sizes of the study are in presets.py, the
report in analysis.py.

The measure is the training loss, in nats: the mean over the training batches of the last records, which cover the last
tenth of the run (the last hundredth in the preset `paper`).

Criteria, fixed before the first run of a reported seed, with 95 % t-intervals; "deep" and "shallow" are the largest and
the smallest depth:
    degrades   plain: training loss of deep minus shallow has an interval above zero
    cured      this difference minus that of the residual networks has an interval above zero, and the interval of the
               residual difference itself is not above zero
    gains      residual: training loss of shallow minus deep has an interval above zero, as in the paper
Reported, but not criteria: training and validation accuracy, and the depths between.
"""

from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.analysis.criteria import Verdict
from jaxvision.commands.study import Row, Run, check_dir, config_of, sibling

presets = sibling(__file__, "presets")
PRESETS = tuple(presets.PRESETS)


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists all runs, seed by seed.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; None if it is not given.
    """
    check_dir(preset, presets.PRESETS[preset].needs_dir, data_dir)
    return _plan(preset, data_dir)


def get_config(arg: str = f"{PRESETS[0]}/plain56/seed0") -> ConfigDict:
    """Returns the config of one run, PRESET/RUN. Presets that need --data_dir need --config.data.data_dir=DIR here.

    Args:
      arg: Name of the run, "PRESET/RUN".
    """
    return config_of(arg, PRESETS, _plan)


def criteria(rows: list[Row], preset: str) -> dict[str, Verdict]:
    """Judges the criteria, by name.

    Args:
      rows: Results of all runs, one row per run, with "train_loss".
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
    p = presets.PRESETS[preset]
    return [
        Run(
            f"{kind}{depth}/seed{seed}",
            _config(p, kind, depth, seed, data_dir),
            dict(kind=kind, depth=depth, seed=seed),
        )
        for seed in p.seeds
        for kind in presets.KINDS
        for depth in p.depths
    ]


def _config(p: presets.Preset, kind: str, depth: int, seed: int, data_dir: str | None) -> ConfigDict:
    c = ConfigDict()
    c.seed = seed
    c.data = p.data | dict(data_dir=data_dir or placeholder(str))
    c.augment = p.augment
    c.model = dict(name="resnet", variant=str(depth), width=p.width, **presets.KINDS[kind])
    c.task = dict(name="supervised")
    c.optimizer = p.optimizer
    c.train = p.train
    c.evals = p.evals
    return c
