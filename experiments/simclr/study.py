"""What does contrastive learning need: which views, which head, which temperature, how large a batch?

After Chen et al. 2020, "A simple framework for contrastive learning of visual representations" (SimCLR), arXiv
2002.05709. One arm is the method of the paper, the others differ from it in one thing:

    main         full (crop, flip and colour distortion; nonlinear head), crop with flip only, colour distortion only,
                 no head, linear head, and the network at initialisation
    temperature  temperature of the loss (table 5)
    strength     strength of the colour distortion (table 1)
    width        dimensions in the loss (fig. 8)
    batch        batch size by length of training (fig. 9), with the learning rate scaled linearly, and for one length
                 with the square root (app. B.1)
    grid         each transformation alone and each pair of them, one seed; here on both views, in fig. 5 on one

All arms are evaluated at the last step by a linear probe (L-BFGS). It is fitted to features of labelled training
images, with the l2 chosen on a tenth of those, and evaluated on the validation split. Its features are h, the output
of the backbone; g(h), which the loss compares, is probed too. A seed determines initialisation, order, views and the
images that probes are fitted to; differences are paired by seed. The sizes of the study are in presets.py, the report
in analysis.py.

Criteria, fixed before the first run of a reported seed; each requires a 95 % t-interval above zero:
    crop alone     top-1 of full minus crop only
    colour alone   top-1 of full minus colour only
    head           top-1 of full, whose head is nonlinear, minus no head
    learns         top-1 of full minus the random network
    inversion      contrastive top-1 (on training batches, mean over the last tenth of training) of crop only minus
                   full; `crop alone` must be met too
Everything else is reported, but is not a criterion. The preset `cifar10_heads` has the arms of `head` and `learns`
only, for longer runs with more seeds; it was added after the runs of `cifar10`, where `head` failed, before its own.

The preset `cifar10_labels` is another experiment, SimCLRv2's training with few labels, with criteria of its own, in
labels.py.
"""

from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.analysis.criteria import Verdict
from jaxvision.commands.study import Row, Run, check_dir, config_of, sibling

presets = sibling(__file__, "presets")
labels = sibling(__file__, "labels")
PRESETS = (*presets.PRESETS, *labels.PRESETS)


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists all runs: the arms of the criteria first, the grid last; within a comparison seed by seed.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; None if it is not given.
    """
    check_dir(preset, (presets.PRESETS | labels.PRESETS)[preset].needs_dir, data_dir)
    return _plan(preset, data_dir)


def get_config(arg: str = f"{PRESETS[0]}/full/seed0") -> ConfigDict:
    """Returns the config of one run, PRESET/RUN. Presets that need --data_dir need --config.data.data_dir=DIR here.

    Args:
      arg: Name of the run, "PRESET/RUN".
    """
    return config_of(arg, PRESETS, _plan)


def criteria(rows: list[Row], preset: str) -> dict[str, Verdict]:
    """Judges the criteria, by name.

    Args:
      rows: Results of all runs, one row per run, with their training metrics.
      preset: Name of the preset.
    """
    if preset in labels.PRESETS:
        return labels.criteria(rows, labels.PRESETS[preset])
    results = sibling(__file__, "tables").Results(rows)
    return sibling(__file__, "analysis").criteria(results, presets.PRESETS[preset])


def analyse(rows: list[Row], out: Path, preset: str) -> str:
    """Writes report.md, report.html, figures and summary.json. Returns the report.

    Args:
      rows: Results of all runs, one row per run.
      out: Folder of the study.
      preset: Name of the preset.
    """
    if preset in labels.PRESETS:
        return labels.write(rows, out, labels.PRESETS[preset])
    return sibling(__file__, "analysis").write(rows, out, presets.PRESETS[preset])


def _plan(preset: str, data_dir: str | None) -> list[Run]:
    if preset in labels.PRESETS:
        return labels.plan(labels.PRESETS[preset], data_dir, _config)
    p, planned = presets.PRESETS[preset], {}
    for name, arm, seed in _arms(p):
        tags = arm._asdict() | dict(ops="+".join(arm.ops), seed=seed)
        planned.setdefault((arm, seed), Run(f"{name}/seed{seed}", _config(p, arm, seed, data_dir), tags))
    return list(planned.values())


def _arms(p: presets.Preset) -> Iterator[tuple[str, presets.Arm, int]]:
    """(name, arm, seed) of every run. An arm of several comparisons appears several times."""
    axes = {
        field: {f"{field}/{value:g}": arm for value, arm in p.axis(field).items()}
        for field in ("temperature", "strength", "width")
    }
    batches = {f"batch/{size}/{length:g}/{rule}": arm for (size, length, rule), arm in p.batches.items()}
    for axis in (p.main, axes["temperature"]):
        yield from ((name, arm, seed) for seed in p.seeds for name, arm in axis.items())
    for axis in (axes["strength"], axes["width"], batches):
        yield from ((name, arm, seed) for seed in p.further_seeds for name, arm in axis.items())
    yield from ((f"grid/{'+'.join(arm.ops)}", arm, p.seeds[0]) for arm in p.grid.values())


def _config(p: presets.Preset, arm: presets.Arm, seed: int, data_dir: str | None) -> ConfigDict:
    s = p.sections
    c = ConfigDict()
    c.seed = seed
    c.data = s["data"] | dict(batch_size=arm.batch_size, data_dir=data_dir or placeholder(str))
    c.augment = p.views(arm)
    c.model = s["model"]
    c.task = dict(name="simclr", temperature=arm.temperature, projection_layers=arm.layers, projection_dim=arm.width)
    c.optimizer = s["optimizer"] | dict(learning_rate=p.learning_rate(arm))
    c.train = s["train"] | dict(total=f"{round(arm.length * p.images / arm.batch_size)} steps")
    c.evals = s["evals"]
    c.evals.val.train_subset.seed = seed
    return c
