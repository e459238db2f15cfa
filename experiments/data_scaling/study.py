"""Does a ViT need more data than a ResNet of the same cost?

After Dosovitskiy et al. 2021, arXiv 2010.11929, sec. 4.3 and fig. 3 and 4: both are trained on nested,
class-balanced subsets with the same hyperparameters and the same number of steps for every size, and
judged once, at the last step, on the validation split. The hyperparameters came from a pilot of a few
single runs of seed 0 on the validation split of `shapes`, so its absolute numbers are not those of a
held-out test.

    arms     a CIFAR ResNet with BatchNorm, and a ViT whose training step costs about as many FLOPs
    sizes    training examples, each subset inside the next
    seeds    each reseeds subset, initialisation and order; arms are paired by seed

Criteria, fixed before the first run:
    rises    for each arm, top-1 at the largest size minus top-1 at the smallest, paired by seed, has a
             95 % t-interval above zero, and the means never fall from one size to the next
    gap      ResNet minus ViT at the smallest size, and its change up to the largest: reported with
             intervals, without a threshold
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from jaxvision import experiment as experiments
from jaxvision import workdir as workdirs
from jaxvision.analysis import plots
from jaxvision.analysis.statistics import paired_difference, t_interval
from jaxvision.commands.study import Run
from jaxvision.errors import UserError
from jaxvision.train.throughput import step_flops


class Preset(NamedTuple):
    """One size of the study."""

    data: dict[str, Any]
    validation: str
    examples: int
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    steps: int
    batch_size: int


_PRESETS = {
    "laptop": Preset(
        data=dict(name="shapes", options=dict(image_size=32, train=16_000, validation=2_000, test=100)),
        validation="validation",
        examples=16_000,
        sizes=(250, 2_000, 16_000),
        seeds=(0, 1, 2),
        steps=1_200,
        batch_size=32,
    ),
    "cifar10": Preset(
        data=dict(name="folder"),
        validation="validation",
        examples=45_000,
        sizes=(400, 2_000, 10_000, 45_000),
        seeds=(0, 1, 2),
        steps=1_500,
        batch_size=64,
    ),
}
PRESETS = tuple(_PRESETS)

# Images of 16 pixels keep a run within a minute on two cores; the two cost about the same, see the table.
_MODELS = {
    "ResNet-8": dict(
        model=dict(name="resnet", variant="8", zero_init_residual=False),  # as in He et al. 2016; learns faster here
        optimizer=dict(name="sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    ),
    "ViT": dict(
        model=dict(
            name="vit", variant="Ti/4", width=56, depth=4, mlp_dim=224, num_heads=4, pool="gap", posemb="sincos2d"
        ),
        optimizer=dict(name="adamw", learning_rate=1e-3, weight_decay=0.05, clip_norm=1.0),
    ),
}


def config(arm: str, examples: int, seed: int, preset: str, data_dir: str | None = None) -> ConfigDict:
    """The run of one arm on one subset."""
    p = _PRESETS[preset]
    c = ConfigDict(_MODELS[arm])
    c.seed = seed
    c.data = dict(
        **p.data,
        split="train",
        batch_size=p.batch_size,
        host="decode|resize(16)",
        subset=dict(examples=examples, seed=seed),
        classes=10,
        examples=p.examples,
    )
    if data_dir:
        c.data.data_dir = data_dir
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.task = dict(name="supervised")
    c.optimizer.update(schedule="cosine", warmup="5 percent")
    c.train = dict(total=f"{p.steps} steps", log_every="10 percent", checkpoint_every="0 steps")
    c.evals = dict(val=dict(name="classify", split=p.validation, batch_size=500))
    return c


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """The grid, sizes inside seeds, so that an unfinished study already holds whole curves."""
    p = _PRESETS[preset]
    if p.data["name"] == "folder" and not data_dir:
        raise UserError(
            f"the preset {preset!r} reads a folder tree train/CLASS/*.png, validation/CLASS/*.png: name it with "
            "--data_dir=DIR (experiments/data_scaling/make_cifar10_folder.py makes one)"
        )
    return [
        Run(
            f"{arm}/seed{seed}/{examples}",
            config(arm, examples, seed, preset, data_dir),
            dict(arm=arm, examples=examples, seed=seed),
        )
        for seed in p.seeds
        for arm in _MODELS
        for examples in p.sizes
    ]


def analyse(rows: list[dict[str, Any]], out: Path, preset: str) -> str:
    """Writes curve.png, curve.svg, report.md and summary.json; returns the report."""
    p = _PRESETS[preset]
    top1 = {
        arm: {
            n: [r["val/top1"] for s in p.seeds for r in rows if (r["arm"], r["examples"], r["seed"]) == (arm, n, s)]
            for n in p.sizes
        }
        for arm in _MODELS
    }
    title = (
        f"{p.data['name'] if preset == 'laptop' else preset}, {p.steps:,} steps of {p.batch_size}, {len(p.seeds)} seeds"
    )
    for suffix in ("png", "svg"):
        plots.data_curves(top1, out / f"curve.{suffix}", ylabel="validation top-1 (%)", title=title, chance=0.1)
    costs = {arm: _cost(config(arm, p.sizes[0], 0, preset)) for arm in _MODELS}
    gaps = {n: paired_difference(top1["ResNet-8"][n], top1["ViT"][n]) for n in p.sizes}
    first, last = p.sizes[0], p.sizes[-1]
    shrinks = paired_difference(gaps[first].each, gaps[last].each)
    rises = {arm: _rises(top1[arm], p.sizes) for arm in _MODELS}
    workdirs.write_json(
        out / "summary.json",
        {
            "preset": preset,
            "top1": top1,
            "costs": costs,
            "rises": {arm: ok for arm, (ok, _) in rises.items()},
            "gap": {n: g.each for n, g in gaps.items()},
            "versions": workdirs.versions(),
            "git": workdirs.git_commit(),
        },
    )
    lines = [
        f"Validation top-1 in %, mean over seeds {', '.join(map(str, p.seeds))} with its 95 % t-interval; {title}.",
        "",
        "| arm | parameters | MFLOPs a training example | " + " | ".join(f"{n:,}" for n in p.sizes) + " |",
        "|---|---:|---:|" + "---:|" * len(p.sizes),
        *(
            f"| {arm} | {costs[arm]['parameters']:,} | {costs[arm]['mflops']:.1f} | "
            + " | ".join(_percent(t_interval(top1[arm][n])) for n in p.sizes)
            + " |"
            for arm in _MODELS
        ),
        "| ResNet-8 minus ViT, paired | | | " + " | ".join(_percent(gaps[n].interval) for n in p.sizes) + " |",
        "",
        *(f"- rises ({arm}): {'met' if ok else 'FAILED'}; {words}" for arm, (ok, words) in rises.items()),
        f"- gap: {_percent(gaps[first].interval)} points at {first:,} examples (by seed {_each(gaps[first].each)}, "
        f"permutation p {gaps[first].p:.2f}), {_percent(gaps[last].interval)} at {last:,}; change "
        f"{_percent(shrinks.interval)} (p {shrinks.p:.2f}).",
    ]
    report = "\n".join(lines)
    (out / "report.md").write_text(report + "\n")
    return f"{report}\n\nwritten to {out}/: report.md, curve.png, curve.svg, summary.json, results.csv"


def _rises(sizes: dict[int, list[float]], order: tuple[int, ...]) -> tuple[bool, str]:
    gain = paired_difference(sizes[order[-1]], sizes[order[0]])
    means = [t_interval(sizes[n]).mean for n in order]
    ok = gain.interval.low > 0 and means == sorted(means)
    return ok, f"{order[0]:,} to {order[-1]:,} examples: {_percent(gain.interval)} points (by seed {_each(gain.each)})"


def _cost(config: ConfigDict) -> dict[str, float]:
    experiment = experiments.build(config, training_data="ignored")
    state = experiment.abstract_state()
    flops = step_flops(experiment.step(), state, experiment.batch) or float("nan")
    return {
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "mflops": flops / experiment.data.batch_size / 1e6,
    }


def _percent(interval) -> str:
    return f"{100 * interval.mean:.1f} ± {100 * interval.half:.1f}"


def _each(values: tuple[float, ...]) -> str:
    return ", ".join(f"{100 * v:+.1f}" for v in values)
