"""How much do weights of another task help, and how much of the network should be trained?

MLPerf Tiny's ResNet-8, trained on the photographs of CIFAR-10 (87.2 % there), is fine-tuned on nested class-balanced
subsets of Fashion-MNIST, which has other classes and pictures of another kind.

    regimes  head: a linear classifier on fixed features; last: the last of three stages and the head; all; scratch:
             all, from random weights
    sizes    numbers of training examples; each subset is part of the next
    seeds    each determines subset, initialisation and order; regimes are paired by seed

Every run takes the same number of steps of SGD with momentum and a cosine schedule. The learning rate of a regime was
chosen among 0.003, 0.03 and 0.3 by one run of seed 100 on the validation split (preset `pilot`): at 200 examples
before the test split was read, and again at 5,000 examples after that, with the same result. The test split was read
once, at the end of each run.

Criteria, fixed before the first run on the test split:
    helps    at the smallest size, the best of head, last and all minus scratch, paired by seed, has a 95 % t-interval
             above zero
    fades    this gain is smaller at the largest size
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxvision import workdir as workdirs
from jaxvision.analysis.statistics import Interval, paired_difference, t_interval
from jaxvision.commands.study import Run, config_of
from jaxvision.errors import UserError

PRESETS = ("fashion", "pilot")
SIZES = {"fashion": (200, 5_000), "pilot": (200, 5_000)}
SEEDS = {"fashion": (0, 1, 2), "pilot": (100,)}
RATES = {  # from the pilot; 0.3 diverges if the last stage is trained with running statistics
    "head": (0.003, 0.03, 0.3),
    "last": (0.003, 0.03),
    "all": (0.003, 0.03, 0.3),
    "scratch": (0.003, 0.03, 0.3),
}
REGIMES: dict[str, dict[str, Any] | None] = {  # the section `init`, without the path of the weights
    "head": dict(head="new", freeze="backbone"),
    "last": dict(head="new", freeze="all_but_last(1)"),
    "all": dict(head="new"),
    "scratch": None,
}
LEARNING_RATES = {"head": 0.3, "last": 0.03, "all": 0.03, "scratch": 0.3}


def config(regime: str, examples: int, seed: int, data_dir: str, learning_rate: float, split: str) -> ConfigDict:
    """The run of one regime on one subset, evaluated on `split`.

    Args:
      regime: Key of `REGIMES`.
      examples: Number of training examples.
      seed: Seed of subset, initialisation and order.
      data_dir: Folder written by prepare.py.
      learning_rate: Peak of the learning rate.
      split: Split to evaluate.
    """
    c = ConfigDict()
    c.seed = seed
    c.data = dict(
        name="folder",
        data_dir=f"{data_dir}/fashion",
        split="train",
        batch_size=32,
        host="decode|resize(32)",
        subset=dict(examples=examples, seed=seed),
        classes=10,
        examples=7_000,
    )
    c.augment = "flip_lr|normalize(0.0, 0.00392156862745098)"  # pixels 0 to 255, as the weights expect
    c.model = dict(name="mlperf_resnet8")
    init = REGIMES[regime]
    if init is not None:
        c.init = dict(weights=f"{data_dir}/resnet8", **init)
    c.task = dict(name="supervised")
    c.optimizer = dict(
        name="sgd", learning_rate=learning_rate, momentum=0.9, weight_decay=1e-4, schedule="cosine", warmup="5 percent"
    )
    c.train = dict(total="400 steps", log_every="25 percent", checkpoint_every="0 steps")
    c.evals = dict(test=dict(name="classify", split=split, batch_size=200))
    return c


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists the runs, seed by seed and size by size.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; None if it is not given.

    Raises:
      UserError: --data_dir is missing.
    """
    if not data_dir:
        raise UserError("the study reads what experiments/transfer/prepare.py made: name it with --data_dir=DIR")
    return _plan(preset, data_dir)


def get_config(arg: str = "fashion/all/seed0/200/0.03") -> ConfigDict:
    """Returns the config of one run, PRESET/RUN. It needs data.data_dir=DIR/fashion and init.weights=DIR/resnet8.

    Args:
      arg: Name of the run, "PRESET/RUN".
    """
    return config_of(arg, PRESETS, _plan)


def _plan(preset: str, data_dir: str | None) -> list[Run]:
    data_dir, planned = data_dir or "DIR", []
    for seed in SEEDS[preset]:
        for examples in SIZES[preset]:
            for regime in REGIMES:
                for rate in RATES[regime] if preset == "pilot" else (LEARNING_RATES[regime],):
                    split = "validation" if preset == "pilot" else "test"
                    tags = dict(regime=regime, examples=examples, seed=seed, learning_rate=rate)
                    name = f"{regime}/seed{seed}/{examples}/{rate}"
                    planned.append(Run(name, config(regime, examples, seed, data_dir, rate, split), tags))
    return planned


def analyse(rows: list[dict[str, Any]], out: Path, preset: str) -> str:
    """Writes report.md and summary.json. Returns the report.

    Args:
      rows: Results of all runs, one row per run.
      out: Folder of the study.
      preset: Name of the preset.
    """
    if preset == "pilot":
        columns = ("regime", "examples", "learning_rate")
        lines = ["  ".join(str(r[c]) for c in columns) + f"  {100 * r['test/top1']:.1f}" for r in rows]
        return "\n".join(["regime, examples, learning rate, validation top-1 in %:", *lines])
    sizes = SIZES[preset]
    top1 = {
        regime: {n: [r["test/top1"] for r in rows if (r["regime"], r["examples"]) == (regime, n)] for n in sizes}
        for regime in REGIMES
    }
    pretrained = [regime for regime in REGIMES if regime != "scratch"]
    best = {n: max(pretrained, key=lambda regime, n=n: t_interval(top1[regime][n]).mean) for n in sizes}
    gains = {n: paired_difference(top1[best[n]][n], top1["scratch"][n]) for n in sizes}
    first, last = sizes[0], sizes[-1]
    shrinks = paired_difference(gains[first].each, gains[last].each)
    versions = {"versions": workdirs.versions(), "git": workdirs.git_commit()}
    workdirs.write_json(out / "summary.json", {"top1": top1, "best": best, **versions})
    lines = [
        f"Results are test top-1 in %: the mean over the seeds {', '.join(map(str, SEEDS[preset]))} with its 95 % "
        "t-interval.",
        "",
        "| regime | learning rate | " + " | ".join(f"{n:,}" for n in sizes) + " |",
        "|---|---:|" + "---:|" * len(sizes),
        *(
            f"| {regime} | {LEARNING_RATES[regime]} | "
            + " | ".join(_percent(t_interval(top1[regime][n])) for n in sizes)
            + " |"
            for regime in REGIMES
        ),
        "| best minus scratch, paired | | " + " | ".join(_percent(gains[n].interval) for n in sizes) + " |",
        "",
        f"- helps: {_verdict(gains[first].interval.low > 0)}; {best[first]} minus scratch at {first:,} examples: "
        f"{_percent(gains[first].interval)} points (by seed {_each(gains[first].each)}).",
        f"- fades: {_verdict(shrinks.interval.mean > 0)}; the gain is smaller by {_percent(shrinks.interval)} points "
        f"at {last:,} examples (by seed {_each(shrinks.each)}).",
    ]
    report = "\n".join(lines)
    (out / "report.md").write_text(report + "\n")
    return report


def _verdict(met: bool) -> str:
    return "met" if met else "FAILED"


def _percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f} ± {100 * interval.half:.1f}"


def _each(values: tuple[float, ...]) -> str:
    return ", ".join(f"{100 * v:+.1f}" for v in values)
