"""Longer runs: does the gain of pretraining fade where training from scratch converges?

    rates     both regimes, `all` and `scratch`, at each size with several learning rates, at a separate seed and on the
              validation split; the best of them is that of the other runs of the regime and size
    all       the whole pretrained network, trained further
    scratch   the same network from random weights
    double    `scratch` at the largest size for twice the steps

All runs but `double` take the same number of steps. A regime that is fixed beforehand stands for pretraining, so no
choice is made by the results that are judged.

Criteria, fixed before the first run of a reported seed, with 95 % t-intervals over seeds, paired:
    helps      at the smallest size, all minus scratch has an interval above zero
    fades      that gain minus the gain at the largest size has an interval above zero
    converged  at the largest size, double minus scratch has an interval below one point
"""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, plots
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.gallery import Gallery
from jaxvision.analysis.statistics import paired_by_seed, paired_difference, t_interval
from jaxvision.analysis.words import gain, percent, points, sentence, table
from jaxvision.analysis.words import seeds as seeds_in_words
from jaxvision.commands.study import Row, Run

RATES_SEED = 100  # of no reported run
REGIMES = ("all", "scratch")
SLACK = 0.01  # a longer run that gains less than this shows that the shorter one has converged
TOP1 = "test/top1"
EXPECTED = (
    "He, Girshick and Dollár 2018 (arXiv 1811.08883): pretrained weights help where labels are few or training is "
    "short; with enough of both, random weights end as well."
)


class Preset(NamedTuple):
    """One size of the longer runs.

    Attributes:
      title: Name of the data, for captions.
      sizes: Numbers of training examples, ascending.
      seeds: Seeds of all arms.
      rates: Learning rates that are tried for each regime and size.
      steps: Number of steps of every run but `double`.
    """

    title: str
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    steps: int


PRESETS = {
    "fashion_long": Preset(
        title="Fashion-MNIST",
        sizes=(200, 1_000, 7_000),
        seeds=(0, 1, 2),
        rates=(0.01, 0.03, 0.1, 0.3),
        steps=3_000,
    ),
}


def plan(p: Preset, data_dir: str, config: Callable[..., ConfigDict]) -> list[Run]:
    """Lists the runs: those of the rates, then all others seed by seed.

    Args:
      p: Preset of the runs.
      data_dir: Folder of the data.
      config: Function `config` of study.py.
    """
    planned = []
    for examples in p.sizes:
        for regime in REGIMES:
            for rate in p.rates:
                one = config(regime, examples, RATES_SEED, data_dir, rate, "validation", steps=p.steps)
                tags = _tags("rates", regime, examples, RATES_SEED, rate)
                planned.append(Run(f"rates/{regime}/{examples}/{rate:g}", one, tags, may_fail=True))
    for seed in p.seeds:
        for arm, regime, examples in _arms(p):
            steps = p.steps * (2 if arm == "double" else 1)
            one = config(regime, examples, seed, data_dir, p.rates[0], "test", steps=steps)
            fill = functools.partial(_fill, regime, examples)
            planned.append(Run(f"{arm}/{examples}/seed{seed}", one, _tags(arm, regime, examples, seed), fill))
    return planned


def _arms(p: Preset) -> list[tuple[str, str, int]]:
    """(arm, regime, size) of the reported runs."""
    return [(regime, regime, n) for n in p.sizes for regime in REGIMES] + [("double", "scratch", p.sizes[-1])]


def _tags(arm: str, regime: str, examples: int, seed: int, rate: float = 0.0) -> dict[str, Any]:
    return dict(arm=arm, regime=regime, examples=examples, seed=seed, rate=rate)


def _fill(regime: str, examples: int, rows: list[Row], out: Path) -> dict[str, Any]:
    return {"optimizer.learning_rate": best_rate(rows, regime, examples)}


def best_rate(rows: Sequence[Row], regime: str, examples: int) -> float:
    """Returns the learning rate with the best result at the separate seed; a run that diverged is the worst.

    Args:
      rows: Rows of the runs, with those of `rates`.
      regime: Regime, "all" or "scratch".
      examples: Number of training examples.
    """
    tried = {row["rate"]: _top1(row) for row in _rates(rows, regime, examples)}
    return max(sorted(tried), key=lambda rate: tried[rate])


def _rates(rows: Sequence[Row], regime: str, examples: int) -> list[Row]:
    return [r for r in rows if (r["arm"], r["regime"], r["examples"]) == ("rates", regime, examples)]


def _top1(row: Row) -> float:
    value = row.get(TOP1)
    return -math.inf if value is None or row.get("error") or math.isnan(value) else value


def criteria(rows: Sequence[Row], p: Preset) -> dict[str, Verdict]:
    """Judges the criteria of this file.

    Args:
      rows: Results of all runs, one row per run.
      p: Preset of the runs.
    """
    first, last = p.sizes[0], p.sizes[-1]
    gains = {n: paired_by_seed(of(rows, "all", n), of(rows, "scratch", n)) for n in p.sizes}
    fades = paired_difference(gains[first].each, gains[last].each)
    room = {seed: value + SLACK for seed, value in of(rows, "scratch", last).items()}
    left = paired_by_seed(room, of(rows, "double", last))
    return {
        "helps": Verdict(
            {f"all minus scratch at {first:,} examples": gains[first]},
            claim=f"pretrained weights are better than random ones at {first:,} examples",
        ),
        "fades": Verdict(
            {f"that minus all minus scratch at {last:,} examples": fades},
            claim=f"this gain is smaller at {last:,} examples",
        ),
        "converged": Verdict(
            {f"1 point less the gain of twice the steps, scratch at {last:,} examples": left},
            claim=f"random weights have converged at {last:,} examples: twice the steps gain less than 1 point",
        ),
    }


def _answer(rows: Sequence[Row], p: Preset, verdicts: dict[str, Verdict]) -> str:
    """The answer in two sentences."""
    first, last = p.sizes[0], p.sizes[-1]
    found = {n: paired_by_seed(of(rows, "all", n), of(rows, "scratch", n)) for n in p.sizes}
    change = paired_difference(found[first].each, found[last].each).interval
    longer = paired_by_seed(of(rows, "double", last), of(rows, "scratch", last)).interval
    by, lost = gain(found[first].interval), f"{gain(change)} {'less' if change.mean > 0 else 'more'}"
    helps = verdicts["helps"].tell(
        f"pretrained weights end {by} better than random ones",
        f"pretrained weights end {by} worse than random ones",
        "pretrained weights end better than random ones",
        f"{percent(found[first].interval)} points",
    )
    fades = verdicts["fades"].tell(
        f"the gain is {lost}", f"the gain is {lost}", "the gain is smaller", f"{percent(change)} points less"
    )
    converged = verdicts["converged"].tell(
        f"random weights have converged there (twice the steps gain {percent(longer)} points)",
        f"random weights have not converged there (twice the steps gain {percent(longer)} points)",
        "random weights have converged there",
        f"twice the steps gain {percent(longer)} points",
    )
    clauses = f"with {first:,} labelled images, {helps}", f"with {last:,}, {fades}, and {converged}"
    return " ".join(map(sentence, clauses))


def of(rows: Sequence[Row], arm: str, examples: int) -> dict[int, float]:
    """Returns top-1 of an arm by ascending seed.

    Args:
      rows: Results of all runs, one row per run.
      arm: Name of the arm.
      examples: Number of training examples.
    """
    by_seed = {row["seed"]: row[TOP1] for row in rows if (row["arm"], row["examples"]) == (arm, examples)}
    return dict(sorted(by_seed.items()))


def write(rows: list[Row], out: Path, p: Preset) -> str:
    """Writes report.md, report.html, summary.json and figures/ to `out`; returns the report.

    Args:
      rows: Rows of all runs.
      out: Folder of the study.
      p: Preset of the runs.
    """
    verdicts = criteria(rows, p)
    curves = {arm: {n: [*of(rows, arm, n).values()] for n in p.sizes} for arm in REGIMES}
    lines = {arm: [percent(t_interval(values)) for values in curve.values()] for arm, curve in curves.items()}
    double = percent(t_interval([*of(rows, "double", p.sizes[-1]).values()]))
    lines["scratch, twice the steps"] = [""] * (len(p.sizes) - 1) + [double]
    found = lambda n: paired_by_seed(of(rows, "all", n), of(rows, "scratch", n))
    heads = [f"{n:,}" for n in p.sizes]
    tried = {
        f"{regime}, {rate:g}": [_percent_of_rate(rows, regime, n, rate) for n in p.sizes]
        for regime in REGIMES
        for rate in p.rates
    }
    report = "\n".join(
        [
            f"# Transfer: {p.title}, {p.steps:,} steps\n",
            *opening(_answer(rows, p, verdicts), EXPECTED, tally(verdicts)),
            "## Accuracy\n",
            f"Results are test top-1 in %: the mean over the seeds {', '.join(map(str, p.seeds))} with its 95 % "
            "t-interval, by the number of training examples. Differences are paired by seed.",
            *table("regime", heads, lines),
            *(f"- {n:,} examples, all minus scratch: {points(found(n))}." for n in p.sizes),
            "\n## Criteria\n",
            *section(verdicts),
            f"\n## Learning rates\n\nValidation top-1 in %, one run of seed {RATES_SEED} each.",
            *table("regime, rate", heads, tried),
            "## Figure\n",
            *_draw(curves, out, p),
        ]
    )
    summary = {
        "top1": curves,
        "rates": {regime: {n: best_rate(rows, regime, n) for n in p.sizes} for regime in REGIMES},
        "criteria": {name: verdict.met for name, verdict in verdicts.items()},
        "versions": workdirs.versions(),
    }
    workdirs.write_json(out / "summary.json", summary)
    documents.write(report, out / "report.md", f"Transfer: {p.title}")
    return report


def _percent_of_rate(rows: Sequence[Row], regime: str, examples: int, rate: float) -> str:
    values = [_top1(row) for row in _rates(rows, regime, examples) if row["rate"] == rate]
    return "" if not values else "diverged" if math.isinf(values[0]) else f"{100 * values[0]:.1f}"


def _draw(curves: dict[str, dict[int, list[float]]], out: Path, p: Preset) -> list[str]:
    """Draws figures/gain.svg and .png in `out`. Returns a line of Markdown for it, also if it is left out."""
    gallery = Gallery(out)
    caption = (
        "Accuracy on the test images over training examples, on a logarithmic axis, from pretrained weights (all) and "
        f"random ones (scratch). Dots are seeds, bands 95 % t-intervals of the mean over {seeds_in_words(p.seeds)}."
    )
    if path := gallery.place("gain", "test top-1 against training examples", caption, curves.values()):
        plots.data_curves(curves, path, ylabel="test top-1 (%)", title=f"{p.title}, {p.steps:,} steps")
    return gallery.lines
