"""Does a ViT need more data than a ResNet of the same cost?

After Dosovitskiy et al. 2021, arXiv 2010.11929, sec. 4.3 and fig. 4. Both are trained on nested, class-balanced subsets
with the same hyperparameters and the same number of steps for every size, with crops and flips and without further
regularisation, by Adam with a weight decay of 0.1. The ResNets are the paper's, of BiT's form (GroupNorm, weight
standardisation); the small presets also have those with BatchNorm. The reported number is that of the last step on the
validation split. The best evaluation during training, which the paper reports, is given too.

    fixed     ResNets and ViTs, in pairs whose training steps cost about the same FLOPs, on subsets of growing size
    rates     the first pair with other learning rates, at a separate seed
    tuned     the first pair at the best of these rates, with the seeds of `fixed`, if this is another rate
    plain     the first pair without crops and flips
    length    all arms of matched pairs of the first ViT on shorter and longer schedules
    transfer  the runs of the largest size, and random weights, fine-tuned to other images

The preset `paper` trains nothing: published.py analyses the numbers of the paper, with criteria of its own.

A seed determines subset, initialisation and order; differences are paired by seed. What a preset consists of is in
setting.py, the presets are in small.py and large.py, the criteria in criteria.py, the report in analysis.py.

Criteria, fixed before the first run of a reported seed, for every pair under `fixed`; intervals are 95 % intervals, and
no criterion is met by an interval that includes zero (one for a ratio):
    rises              for each arm, top-1 at the largest size minus top-1 at the smallest is above zero, and the means
                       never fall from one size to the next
    positive           the gap, ResNet minus ViT, at the smallest size is above zero
    shrinks            the gap at the smallest size minus the gap at the largest is above zero
    shrinks, odds      the same for the gap in log odds, log(p / (1 - p)), which does not shrink merely because both
                       arms come near a limit
    needs more data    the ViT needs more than once the examples for the accuracy that it has at the largest size
    ratio falls        this data ratio is smaller than that at the accuracy that the ResNet has at the smallest size
    positive, loss     the gap at the smallest size is above zero where both arms have the same training loss
    shrinks, loss      the gap at the smallest size minus the gap at the largest is above zero there
Whether and where the arms cross, and where the two families of ResNets differ, is reported, but is not a criterion.

The preset `relations` looks for a crossing on a label that is made for it (relations.py). It has other criteria, fixed
before the first run of its seeds, 0 to 4; pilots had seed 100:
    few       the gap, ResNet minus ViT, at the smallest size has an interval above zero
    many      the gap at the largest size has an interval below zero
    inside    the interval of the size at which the gap is zero, interpolated between sizes, lies inside the sizes
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jaxvision.analysis.criteria import Verdict
from jaxvision.commands.study import Row, Run, check_dir, config_of, sibling, workdir
from jaxvision.errors import UserError, unknown

if TYPE_CHECKING:
    from jaxvision.sweep.spec import Sweep

presets = sibling(__file__, "presets")
setting = presets.setting
PUBLISHED = "paper"  # the preset without runs
PRESETS = (*presets.PRESETS, PUBLISHED)


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists all runs, seed by seed and size by size, so an unfinished study already has whole curves.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; None if it is not given.
    """
    if preset == PUBLISHED:
        return []
    check_dir(preset, presets.PRESETS[preset].needs_dir, data_dir)
    return _plan(preset, data_dir)


def published(preset: str) -> list[Row]:
    """Returns the rows that need no run: the numbers of the paper, for the preset `paper`.

    Args:
      preset: Name of the preset.
    """
    return sibling(__file__, "published").rows() if preset == PUBLISHED else []


def get_config(arg: str = f"{PRESETS[0]}/fixed/ViT-64/seed0/1000") -> ConfigDict:
    """Returns the config of one run, PRESET/RUN. Presets that need --data_dir need --config.data.data_dir=DIR here.

    Args:
      arg: Name of the run, "PRESET/RUN".
    """
    return config_of(arg, PRESETS, _plan)


def get_sweep(arg: str = "imagenet/ViT-B32/115000") -> "Sweep":
    """Returns the sweep of `rates` for one arm and size: PRESET/ARM/EXAMPLES, then @DIR if the data are in DIR.

    Args:
      arg: Sweep, "PRESET/ARM/EXAMPLES" or "PRESET/ARM/EXAMPLES@DIR".

    Raises:
      UserError: The preset is unknown or has no learning rates to search.
    """
    from jaxvision.sweep.space import grid
    from jaxvision.sweep.spec import Sweep

    arg, _, data_dir = arg.partition("@")
    preset, _, cell = arg.partition("/")
    p = presets.PRESETS.get(preset)
    if not (p and p.rates):
        raise unknown("preset with a sweep", preset, [name for name, p in presets.PRESETS.items() if p.rates])
    return Sweep(
        config=f"{__file__}:{preset}/rates/{cell}/{p.rates[0]:g}",
        space={"optimizer.learning_rate": grid(*p.rates)} | ({"data.data_dir": data_dir} if data_dir else {}),
        search="grid",
        seeds=(setting.TUNING_SEED,),
    )


def criteria(rows: list[Row], preset: str) -> dict[str, Verdict]:
    """Judges the criteria of all pairs, by pair and name; those at equal training loss need records, and are left out.

    Args:
      rows: Results of all runs, one row per run.
      preset: Name of the preset.
    """
    if preset == PUBLISHED:
        return sibling(__file__, "published").criteria(rows)
    p, analysis = presets.PRESETS[preset], sibling(__file__, "analysis")
    verdicts = analysis.judge(rows, analysis.measure_pairs(rows, None, p), p)
    return {f"{pair.resnet}, {pair.vit}: {name}": v for pair, judged in verdicts.items() for name, v in judged.items()}


def analyse(rows: list[Row], out: Path, preset: str) -> str:
    """Writes report.md, report.html, figures and summary.json. Returns the report.

    Args:
      rows: Results of all runs, one row per run.
      out: Folder of the study.
      preset: Name of the preset.
    """
    if preset == PUBLISHED:
        return sibling(__file__, "published").write(rows, out)
    p = presets.PRESETS[preset]
    configs = {arm: _config(p, arm, p.sizes[0], p.seeds[0], None) for pair in p.pairs for arm in pair[:2]}
    return sibling(__file__, "analysis").write(rows, out, p, configs)


def _plan(preset: str, data_dir: str | None) -> list[Run]:
    if preset == PUBLISHED:
        return []
    p = presets.PRESETS[preset]
    first, largest = p.pairs[0], p.sizes[-1]
    planned = {}

    def add(name: str, config: ConfigDict, fill: Callable | None = None, measures: dict | None = None, **tags: Any):
        protocol = name.partition("/")[0]
        may_fail = protocol == "rates"  # a rate that diverges is a result
        planned[name] = Run(name, config, dict(protocol=protocol, **tags), fill, may_fail, measures)

    for seed in p.seeds:
        for pair in p.pairs:
            for n in pair.sizes:
                for arm in pair[:2]:
                    name, config = f"fixed/{arm}/seed{seed}/{n}", _config(p, arm, n, seed, data_dir)
                    add(name, config, measures=p.measures, arm=arm, examples=n, seed=seed)
    for arm in first[:2]:
        for n in p.tuned_sizes:
            for rate in p.rates:
                config = _config(p, arm, n, setting.TUNING_SEED, data_dir, learning_rate=rate)
                tags = dict(arm=arm, examples=n, seed=setting.TUNING_SEED, learning_rate=rate)
                add(f"rates/{arm}/{n}/{rate:g}", config, **tags)
            for seed in p.seeds:
                config = _config(p, arm, n, seed, data_dir)
                add(f"tuned/{arm}/seed{seed}/{n}", config, _other_rate(p, arm, n), arm=arm, examples=n, seed=seed)
        for seed in p.seeds if p.transfer else ():
            config, start = _transfer_config(p, arm, seed, pretrained=True), f"fixed/{arm}/seed{seed}/{largest}"
            add(
                f"transfer/{arm}/seed{seed}/{largest}",
                config,
                _starts_from(start),
                arm=arm,
                examples=largest,
                seed=seed,
            )
            config = _transfer_config(p, arm, seed, pretrained=False)
            add(f"transfer/{arm}/seed{seed}/scratch", config, arm=arm, examples=0, seed=seed)
    for seed, n, arm in itertools.product(p.seeds, p.plain_sizes, first[:2]):
        config = _config(p, arm, n, seed, data_dir)
        config.augment = setting.PLAIN
        add(f"plain/{arm}/seed{seed}/{n}", config, arm=arm, examples=n, seed=seed)
    if p.lengths:
        arms = dict.fromkeys(arm for pair in p.pairs if pair.matched and pair.vit == first.vit for arm in pair[:2])
        for arm, n, factor, seed in itertools.product(arms, p.lengths.sizes, p.lengths.factors, p.lengths.seeds):
            steps = round(factor * p.steps)
            config = _config(p, arm, n, seed, data_dir, steps=steps)
            add(f"length/{arm}/seed{seed}/{n}/{steps}", config, arm=arm, examples=n, seed=seed, steps=steps)
    return list(planned.values())


def _config(
    p: setting.Preset,
    arm: str,
    examples: int,
    seed: int,
    data_dir: str | None,
    learning_rate: float | None = None,
    steps: int | None = None,
) -> ConfigDict:
    """The run of one arm on one subset."""
    c = ConfigDict()
    c.seed = seed
    subset = dict(examples=examples, seed=seed)
    c.data = dict(**p.data, data_dir=data_dir or placeholder(str), subset=subset)
    c.augment = p.augment
    c.model = p.arms[arm].model
    c.task = dict(name="supervised")
    c.optimizer = p.optimizer | dict(learning_rate=learning_rate or p.arms[arm].learning_rate)
    c.train = p.train | dict(total=f"{steps or p.steps} steps")
    # Subsets of a seed are nested, so these images are part of the subset.
    seen = p.evals["val"] | dict(split=p.data["split"], subset=dict(examples=min(examples, p.seen), seed=seed))
    del seen["every"]
    c.evals = dict(**p.evals, train=seen)
    return c


def _transfer_config(p: setting.Preset, arm: str, seed: int, *, pretrained: bool) -> ConfigDict:
    """The fine-tuning of the run whose workdir `init.weights` will name, or the same from random weights."""
    t = p.transfer
    c = ConfigDict()
    c.seed = seed
    c.data = dict(**t.data, data_dir=placeholder(str))
    c.augment = t.augment
    c.model = p.arms[arm].model
    if pretrained:
        c.init = dict(weights="WORKDIR", head="new")
    c.task = dict(name="supervised")
    c.optimizer = dict(
        name="sgd", momentum=0.9, learning_rate=t.learning_rate, clip_norm=1.0, schedule="cosine", warmup="10 percent"
    )
    c.train = p.train | dict(total=f"{t.steps} steps")
    val = {key: value for key, value in p.evals["val"].items() if key != "every"}
    c.evals = dict(val=val | dict(split=t.validation))
    return c


def _other_rate(p: setting.Preset, arm: str, n: int) -> Callable:
    """Fills in the best learning rate. The run is not needed if this is the rate of `fixed`."""

    def fill(rows: list[Row], out: Path) -> dict[str, Any] | None:
        rate = best_rate(rows, arm, n)
        return None if rate == p.arms[arm].learning_rate else {"optimizer.learning_rate": rate}

    return fill


def best_rate(rows: list[Row], arm: str, n: int) -> float:
    """The best learning rate of `rates` for this arm and size, among those that did not diverge.

    Args:
      rows: Results of all runs.
      arm: Name of the arm.
      n: Number of training examples.

    Raises:
      UserError: Every learning rate diverged.
    """
    cell = [row for row in rows if (row["protocol"], row["arm"], row["examples"]) == ("rates", arm, n)]
    tried = {row["learning_rate"]: row["val/top1"] for row in cell if not row.get("error")}
    if not tried:
        raise UserError(f"every learning rate that was tried for {arm} on {n:,} examples diverged")
    return max(tried, key=tried.get)


def _starts_from(name: str) -> Callable:
    return lambda rows, out: {"init.weights": str(workdir(out, name))}
