"""What does a network learn about objects by predicting how images were rotated?

After Gidaris, Singh and Komodakis 2018, arXiv 1803.07728 (RotNet), sec. 3.1, tables 1 and 2 and fig. 4: a Network in
Network of four blocks learns to recognise rotations, without labels. A linear classifier on each stage, frozen and
averaged over positions, measures what the stage knows about the classes.

    stages   rotation; the same network trained with all labels; and the same with its random initial weights, after 0
             steps. Each is probed at its four stages.
    angles   other rotations instead of the four right angles: 0 and 180, 90 and 270, all eight multiples of 45, and
             each image at one of the four angles instead of all
    labels   on nested, class-balanced subsets: the classifier that the paper puts on the frozen second stage of the
             rotation network (`frozen`), the whole of that network fine-tuned (`tuned`), and the same network from
             random weights (`scratch`)

A seed determines initialisation, order, labelled subsets and the images that probes are fitted to; differences are
paired by seed. The sizes of the study are in presets.py, the report in analysis.py.

Criteria, fixed before the first run of a reported seed; intervals are 95 % t-intervals:
    learns   top-1 of the probe at the third stage, rotation minus random, has an interval above zero
    below    supervised minus rotation, at the same stage, has an interval above zero
    task     only in the preset `cifar10_task`, which has no supervised arm: the accuracy on rotations minus 75 % has an
             interval above zero. It is the share of rotations that the network recognises on the training images of
             the last twentieth of the run
Reported, but not criteria: the profile over the stages, with the fall from the best to the last that the paper found;
the share of the distance from random to supervised; the angles; the curve over the labels.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.analysis.criteria import Verdict
from jaxvision.commands.study import Row, Run, check_dir, config_of, sibling, workdir

presets = sibling(__file__, "presets")
PRESETS = tuple(presets.PRESETS)


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists all runs: those of the criteria come first, seed by seed.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; None if it is not given.
    """
    check_dir(preset, presets.PRESETS[preset].needs_dir, data_dir)
    return _plan(preset, data_dir)


def get_config(arg: str = f"{PRESETS[0]}/stages/rotation/seed0") -> ConfigDict:
    """Returns the config of one run, PRESET/RUN. Presets that need --data_dir need --config.data.data_dir=DIR here.

    Args:
      arg: Name of the run, "PRESET/RUN".
    """
    return config_of(arg, PRESETS, _plan)


def criteria(rows: list[Row], preset: str) -> dict[str, Verdict]:
    """Judges the criteria, by name.

    Args:
      rows: Results of all runs, one row per run, with "rotation_top1".
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
    tasks = {arm: presets.TASKS[arm] for arm in p.arms}
    angles = {arm: presets.ANGLES[arm] for arm in p.angles}
    for protocol, arms, seeds in (("stages", tasks, p.seeds), ("angles", angles, p.angle_seeds)):
        for seed in seeds:
            for arm, task in arms.items():
                tags = dict(protocol=protocol, arm=arm, seed=seed)
                planned.append(Run(_name(protocol, arm, seed), _judged_by_stage(p, arm, task, seed, data_dir), tags))
    for seed in p.seeds:
        start = _name("stages", "rotation", seed)
        fill = lambda rows, out, start=start: {"init.weights": str(workdir(out, start))}
        for examples in p.labels.sizes:
            for arm in p.labels.optimizers:
                config = _with_labels(p, arm, examples, seed, data_dir)
                tags = dict(protocol="labels", arm=arm, seed=seed, examples=examples)
                name = f"{_name('labels', arm, seed)}/{examples}"
                planned.append(Run(name, config, tags, fill if "init" in config else None))
    return planned


def _name(protocol: str, arm: str, seed: int) -> str:
    return f"{protocol}/{arm.replace(' ', '_')}/seed{seed}"


def _judged_by_stage(p: presets.Preset, arm: str, task: dict[str, Any], seed: int, data_dir: str | None) -> ConfigDict:
    """A network trained without labels, with all labels, or not at all, and probed at its stages."""
    c = _shared(p, seed, data_dir, p.batch_sizes[arm], p.augment)
    c.task = task
    c.optimizer = p.optimizer
    c.train = p.train | (dict(total="0 steps") if arm == "random" else {})
    probe = p.probe | dict(layers=presets.STAGES)
    if "train_subset" in probe:
        probe["train_subset"] = probe["train_subset"] | dict(seed=seed)
    c.evals = dict(probe=probe)
    return c


def _with_labels(p: presets.Preset, arm: str, examples: int, seed: int, data_dir: str | None) -> ConfigDict:
    """A network trained with few labels; `init.weights` will name the run that it starts from."""
    c = _shared(p, seed, data_dir, p.labels.batch_size, p.labels.augment)
    c.data.subset = dict(examples=examples, seed=seed)
    if arm != "scratch":
        c.init = dict(weights="WORKDIR", head="new", freeze="backbone" if arm == "frozen" else None)
    c.task = dict(name="probe", **p.labels.classifier) if arm == "frozen" else dict(name="supervised")
    c.optimizer = p.labels.optimizers[arm]
    c.train = p.labels.train
    c.evals = dict(val=p.val)
    return c


def _shared(p: presets.Preset, seed: int, data_dir: str | None, batch_size: int, augment: str) -> ConfigDict:
    c = ConfigDict()
    c.seed = seed
    c.data = dict(**p.data, data_dir=data_dir or placeholder(str), batch_size=batch_size)
    c.augment = augment
    c.model = p.model
    return c
