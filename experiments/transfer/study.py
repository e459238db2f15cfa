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

Criteria:
    helps    at the smallest size, the best of head, last and all minus scratch, paired by seed, has a t-interval above
             zero
    fades    that gain minus the gain at the largest size, of the regime that is best there, has one above zero
The best of three regimes is chosen by the results that are judged. So the intervals cover all three together: each is
at 1 - 0.05 / 3 (Bonferroni). Before the first run on the test split, `helps` was fixed with an interval at 95 %, which
noise meets in 5 % of cases instead of 2.5 %, and `fades` with a mean, which noise meets in half of them. Both were
changed after the runs; README.md gives both verdicts.

The preset `fashion_long` has longer runs and criteria of its own, in long.py. It was added after the runs
of `fashion`, where `fades` failed for want of steps, and before its own.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.gallery import WHY
from jaxvision.analysis.statistics import Difference, Interval, paired_difference, t_interval
from jaxvision.analysis.words import gain, percent, sentence
from jaxvision.commands.study import Run, config_of, sibling
from jaxvision.errors import UserError

long = sibling(__file__, "long")
PRESETS = ("fashion", "pilot", *long.PRESETS)
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
PRETRAINED = tuple(regime for regime, init in REGIMES.items() if init is not None)
TOGETHER = 1 - 0.05 / len(PRETRAINED)  # confidence of each interval if the best regime is chosen afterwards
LEARNING_RATES = {"head": 0.3, "last": 0.03, "all": 0.03, "scratch": 0.3}


def config(
    regime: str, examples: int, seed: int, data_dir: str, learning_rate: float, split: str, steps: int = 400
) -> ConfigDict:
    """The run of one regime on one subset, evaluated on `split`.

    Args:
      regime: Key of `REGIMES`.
      examples: Number of training examples.
      seed: Seed of subset, initialisation and order.
      data_dir: Folder written by prepare.py.
      learning_rate: Peak of the learning rate.
      split: Split to evaluate.
      steps: Number of steps.
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
    c.train = dict(total=f"{steps} steps", log_every="25 percent", checkpoint_every="0 steps")
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
    if preset in long.PRESETS:
        return long.plan(long.PRESETS[preset], data_dir, config)
    for seed in SEEDS[preset]:
        for examples in SIZES[preset]:
            for regime in REGIMES:
                for rate in RATES[regime] if preset == "pilot" else (LEARNING_RATES[regime],):
                    split = "validation" if preset == "pilot" else "test"
                    tags = dict(regime=regime, examples=examples, seed=seed, learning_rate=rate)
                    name = f"{regime}/seed{seed}/{examples}/{rate}"
                    planned.append(Run(name, config(regime, examples, seed, data_dir, rate, split), tags))
    return planned


def criteria(rows: list[dict[str, Any]], preset: str) -> dict[str, Verdict]:
    """Judges the criteria, by name.

    Args:
      rows: Results of all runs, one row per run.
      preset: Name of the preset.
    """
    if preset in long.PRESETS:
        return long.criteria(rows, long.PRESETS[preset])
    if preset == "pilot":
        return {}
    first, last = SIZES[preset][0], SIZES[preset][-1]
    top1 = _top1(rows, preset)
    best, gains = _gains(top1, TOGETHER)
    fades = paired_difference(gains[first].each, gains[last].each, TOGETHER)
    return {
        "helps": Verdict(
            {f"{best[first]} minus scratch at {first:,} examples": gains[first]},
            show=_judged,
            claim=f"the best way to use pretrained weights is better than random ones at {first:,} examples",
        ),
        "fades": Verdict(
            {f"that minus {best[last]} minus scratch at {last:,} examples": fades},
            show=_judged,
            claim=f"this gain is smaller at {last:,} examples",
        ),
    }


def _answer(rows: list[dict[str, Any]], preset: str, verdicts: dict[str, Verdict]) -> str:
    """The answer in two sentences; intervals at the level of the criteria."""
    first, last = SIZES[preset][0], SIZES[preset][-1]
    top1 = _top1(rows, preset)
    best, gains = _gains(top1, TOGETHER)
    change = paired_difference(gains[first].each, gains[last].each, TOGETHER).interval
    found, value = gains[first].interval, percent(t_interval(top1[best[first]][first]))
    helps = verdicts["helps"].tell(
        f"that is {gain(found)} more than from random weights",
        f"that is {gain(found)} fewer than from random weights",
        "that is more than from random weights",
        f"{percent(found)} points",
    )
    lost = f"the gain is {gain(change)} {'less' if change.mean > 0 else 'more'}"
    fades = verdicts["fades"].tell(lost, lost, "the gain is smaller", f"{percent(change)} points less")
    later = sentence(f"with {last:,} images, {fades}")
    return (
        f"From pretrained weights, trained on {first:,} labelled images, a network is right on {value} % of new images "
        f"({best[first]}, the best of {len(PRETRAINED)} ways), and {helps}. {later}"
    )


def analyse(rows: list[dict[str, Any]], out: Path, preset: str) -> str:
    """Writes report.md, report.html and summary.json. Returns the report.

    Args:
      rows: Results of all runs, one row per run.
      out: Folder of the study.
      preset: Name of the preset.
    """
    if preset in long.PRESETS:
        return long.write(rows, out, long.PRESETS[preset])
    if preset == "pilot":
        columns = ("regime", "examples", "learning_rate")
        lines = ["  ".join(str(r[c]) for c in columns) + f"  {100 * r['test/top1']:.1f}" for r in rows]
        return "\n".join(["regime, examples, learning rate, validation top-1 in %:", *lines])
    sizes = SIZES[preset]
    top1, verdicts = _top1(rows, preset), criteria(rows, preset)
    best, gains = _gains(top1)
    summary = {"top1": top1, "best": best, "criteria": {name: verdict.met for name, verdict in verdicts.items()}}
    versions = {"versions": workdirs.versions(), "git": workdirs.git_commit()}
    workdirs.write_json(out / "summary.json", summary | versions)
    lines = [
        "# Transfer: Fashion-MNIST\n",
        *opening(_answer(rows, preset, verdicts), long.EXPECTED, tally(verdicts)),
        "## Accuracy\n",
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
        "head: a linear classifier on fixed features; last: the last of three stages and the head are trained; all: "
        "everything is; scratch: everything, from random weights.\n",
        "## Criteria\n",
        *section(verdicts),
        f"\nThe best of {len(PRETRAINED)} ways is chosen by the results that are judged, so each interval is at "
        f"{100 * TOGETHER:.1f} %, which makes it 95 % for all of them together.\n",
        f"*Not drawn: accuracy over training examples; {WHY}.*",
    ]
    report = "\n".join(lines)
    documents.write(f"{report}\n", out / "report.md", "Transfer: Fashion-MNIST")
    return report


def _top1(rows: list[dict[str, Any]], preset: str) -> dict[str, dict[int, list[float]]]:
    """Returns the top-1 of each seed, by regime and number of examples."""
    of = lambda regime, n: [r["test/top1"] for r in rows if (r["regime"], r["examples"]) == (regime, n)]
    return {regime: {n: of(regime, n) for n in SIZES[preset]} for regime in REGIMES}


def _gains(
    top1: dict[str, dict[int, list[float]]], confidence: float = 0.95
) -> tuple[dict[int, str], dict[int, Difference]]:
    """Returns the best pretrained regime of each size, and how much better it is than scratch."""
    sizes = top1["scratch"]
    best = {n: max(PRETRAINED, key=lambda regime, n=n: t_interval(top1[regime][n]).mean) for n in sizes}
    return best, {n: paired_difference(top1[best[n]][n], sizes[n], confidence) for n in sizes}


def _judged(gain: Difference) -> str:
    """Formats a difference with its interval at the level of the criteria."""
    each = ", ".join(f"{100 * value:+.1f}" for value in gain.each)
    return f"{_percent(gain.interval)} points, a {100 * TOGETHER:.1f} % interval (by seed {each})"


def _percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f} ± {100 * interval.half:.1f}"
