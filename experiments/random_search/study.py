"""Does random search find better hyperparameters than a grid with the same number of trials?

After Bergstra and Bengio 2012, "Random search for hyper-parameter optimization", JMLR 13, fig. 1 and 2: if only a
few hyperparameters matter, a grid tries only a few values of those, and random points try many.

    problem    a narrow ResNet-8 on `shapes` at 16 pixels, 400 steps of 64 images; validation top-1 at the last step
    space      learning rate, weight decay, label smoothing
    searches   a grid of 3 x 3 x 3 points and 27 random points of the same box, as the `Sweep`s of `get_sweep`
    repeats    three, each with its own random points, its own shift of the grid within its cells (so the position of
               the grid is random too), and its own seed, which all runs of its two searches use

Criteria; intervals are 95 % t-intervals over the repeats:
    premise    among the random trials of a repeat, the learning rate's share of the importance (PED-ANOVA) minus one
               half has an interval above zero
    better     the best of 27 random trials minus the best of the grid has an interval above zero
    cheaper    27 minus the random trials needed to expect the grid's best has an interval above zero, and `better` is
               met (three counts that end at 27 meet the interval by noise in 4 to 7 % of cases, not in 2.5 %)
They were fixed before the first run with bars for means instead of intervals, which noise alone met in 25, 50 and 85 %
of cases. They were changed after the runs; README.md gives both verdicts.
"""

from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, words
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.gallery import Gallery
from jaxvision.analysis.plots import COLOURS, canvas
from jaxvision.analysis.statistics import Difference, paired_difference, t_interval
from jaxvision.commands.study import Run, config_of
from jaxvision.errors import unknown
from jaxvision.sweep import Sweep, grid, importance, log_uniform, searches, space, uniform

PRESETS = ("laptop",)
SPACE = {
    "optimizer.learning_rate": log_uniform(1e-4, 1),
    "optimizer.weight_decay": log_uniform(1e-6, 1e-2),
    "task.label_smoothing": uniform(0, 0.2),
}
CELLS = 3  # number of cells of the grid along each axis
TRIALS = CELLS ** len(SPACE)
REPEATS = (0, 1, 2)
SEARCHES = ("grid", "random")
SAMPLE = f"{len(REPEATS)} repeats"
CHANCE = 0.1  # result of a run that diverged
TITLE = "Random search against a grid"
EXPECTED = (
    "Bergstra and Bengio 2012 (JMLR 13, figs. 1 and 2): where few hyperparameters matter, random points find better "
    "ones than a grid of as many trials, because they try more values of each."
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the base config, or that of the run "PRESET/NAME".

    Args:
      arg: Name of a run, "PRESET/NAME"; None for the base config.
    """
    if arg:
        return config_of(arg, PRESETS, runs)
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="shapes",
        options=dict(image_size=32, train=12_000, validation=1_000, test=1_000),  # as in configs/quickstart.py
        split="train",
        host="decode|resize(16)",
        batch_size=64,
        classes=10,
        examples=12_000,
        image_size=32,
    )
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="resnet", variant="8", width=0.5, zero_init_residual=False)
    c.task = dict(name="supervised", label_smoothing=0.0)
    c.optimizer = dict(
        name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=1e-4, schedule="cosine", warmup="5 percent"
    )
    c.train = dict(total="400 steps", log_every="25 percent", checkpoint_every="0 steps")
    c.evals = dict(val=dict(name="classify", split="validation", batch_size=500))
    return c


def get_sweep(arg: str = "random/0") -> Sweep:
    """Returns one search, "grid/REPEAT" or "random/REPEAT".

    Args:
      arg: Name of the search, "grid/REPEAT" or "random/REPEAT".

    Raises:
      UserError: The search is unknown.
    """
    kind, _, repeat = arg.partition("/")
    if kind not in SEARCHES:
        raise unknown("search of this study", kind, SEARCHES)
    repeat = int(repeat or 0)
    if kind == "random":
        return Sweep(__file__, SPACE, search=f"random(seed={repeat})", trials=TRIALS, seeds=(repeat,))
    shifts = np.random.default_rng([repeat, len(SPACE)]).random(len(SPACE))
    values = {
        key: grid(*(space.quantile(domain, (cell + shift) / CELLS) for cell in range(CELLS)))
        for (key, domain), shift in zip(SPACE.items(), shifts.tolist())
    }
    return Sweep(__file__, values, search="grid", seeds=(repeat,))


def points(kind: str, repeat: int) -> list[dict[str, Any]]:
    """The hyperparameters of each trial.

    Args:
      kind: Kind of search, "grid" or "random".
      repeat: Number of the repeat.
    """
    sweep = get_sweep(f"{kind}/{repeat}")
    search = searches.make_search(sweep.search)
    return [search.point(sweep.space, trial) for trial in range(TRIALS)]


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists the trials of both searches, repeat by repeat.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; None if it is not given.
    """
    return [
        Run(
            f"repeat{repeat}/{kind}/{trial:02d}",
            configs.override(get_config(), {**point, "seed": repeat}),
            dict(search=kind, repeat=repeat, trial=trial, **point),
            may_fail=True,
        )
        for repeat in REPEATS
        for kind in SEARCHES
        for trial, point in enumerate(points(kind, repeat))
    ]


def expected_best(values: list[float]) -> np.ndarray:
    """The expected maximum of k of the n values, drawn without replacement: float [n], for k = 1 to n.

    Args:
      values: Result of each of the n trials.

    >>> expected_best([1.0, 2.0, 3.0]).round(3).tolist()
    [2.0, 2.667, 3.0]
    """
    n, ranked = len(values), np.sort(values)
    largest = [[comb(rank, k - 1) / comb(n, k) for rank in range(n)] for k in range(1, n + 1)]  # k by rank
    return np.array(largest) @ ranked


def criteria(rows: list[dict[str, Any]], preset: str) -> dict[str, Verdict]:
    """Judges the criteria, by name.

    Args:
      rows: Results of all runs, one row per run.
      preset: Name of the preset.
    """
    values_by_search = _values_by_search(rows)
    best = _best(values_by_search)
    each = [_shares([r for r in rows if (r["search"], r["repeat"]) == ("random", repeat)]) for repeat in REPEATS]
    shares = [share["optimizer.learning_rate"] for share in each]
    better = Verdict(
        {"points of top-1, random minus grid": paired_difference(best["random"], best["grid"])},
        show=_by_repeat,
        claim=f"the best of {TRIALS} random trials is better than the best of {TRIALS} trials of a grid",
        sample=SAMPLE,
    )
    saved = paired_difference([TRIALS] * len(REPEATS), _trials(values_by_search))
    return {
        "premise": Verdict(
            {"share of the learning rate minus one half, in %": paired_difference(shares, [0.5] * len(shares))},
            show=_by_repeat,
            claim="one hyperparameter matters most: the learning rate has more than half of the importance",
            sample=SAMPLE,
        ),
        "better": better,
        "cheaper": Verdict(
            {f"random trials saved of {TRIALS} for the grid's best": saved},
            further={"for the best see better": better.met},
            show=lambda gain: _by_repeat(gain, 1),
            claim=f"fewer than {TRIALS} random trials find what the grid finds, and the criterion `better` is met",
            sample=SAMPLE,
        ),
    }


def _answer(values_by_search: dict[str, list[list[float]]], verdicts: dict[str, Verdict]) -> str:
    """The answer in two sentences."""
    best = _best(values_by_search)
    found = paired_difference(best["random"], best["grid"]).interval
    saved = paired_difference([TRIALS] * len(REPEATS), _trials(values_by_search)).interval
    by = words.gain(found)
    better = verdicts["better"].tell(
        f"random search finds a network {by} better",
        f"random search finds a network {by} worse",
        "random search finds a better network",
        f"{words.percent(found)} points",
    )
    number = lambda interval: f"{interval.mean:.1f} ± {interval.half:.1f}"
    cheaper = verdicts["cheaper"].tell(
        f"it saves {number(saved)} of {TRIALS} trials to find what the grid finds",
        f"it needs {number(saved.negated())} trials more than the grid to find as much",
        "it needs fewer trials to find what the grid finds",
        f"{number(saved)} of {TRIALS} saved",
    )
    of = {kind: words.percent(t_interval(values)) for kind, values in best.items()}
    return (
        f"The best of {TRIALS} random trials is right on {of['random']} % of new images, and the best of a grid of "
        f"{TRIALS} on {of['grid']} %: {better}. {words.sentence(cheaper)}"
    )


def analyse(rows: list[dict[str, Any]], out: Path, preset: str) -> str:
    """Writes efficiency.png, efficiency.svg, report.md, report.html and summary.json. Returns the report.

    Args:
      rows: Results of all runs, one row per run.
      out: Folder of the study.
      preset: Name of the preset.
    """
    values_by_search = _values_by_search(rows)
    best = _best(values_by_search)
    shares = _shares([row for row in rows if row["search"] == "random"])
    verdicts = criteria(rows, preset)
    summary = {"values": values_by_search, "best": best, "needed": _trials(values_by_search), "importance": shares}
    summary |= {"criteria": {name: verdict.met for name, verdict in verdicts.items()}}
    workdirs.write_json(out / "summary.json", summary | {"versions": workdirs.versions(), "git": workdirs.git_commit()})
    report = "\n".join(
        [
            f"# {TITLE}\n",
            *opening(_answer(values_by_search, verdicts), EXPECTED, tally(verdicts)),
            "## Searches\n",
            f"Results are validation top-1 in % of the best of {TRIALS} trials: the mean over {len(REPEATS)} repeats "
            "with its 95 % t-interval.",
            "",
            "| search | best | " + " | ".join(f"repeat {r}" for r in REPEATS) + " | distinct learning rates |",
            "|---|---:|" + "---:|" * (len(REPEATS) + 1),
            *(
                f"| {kind} | {_points(t_interval(best[kind]))} | "
                + " | ".join(f"{100 * b:.1f}" for b in best[kind])
                + f" | {len({p['optimizer.learning_rate'] for p in points(kind, 0)})} |"
                for kind in SEARCHES
            ),
            "\n## Criteria\n",
            *section(verdicts),
            "",
            f"Importance in all random trials: {', '.join(f'{key} {share:.0%}' for key, share in shares.items())}.",
            "\n## Figure\n",
            *_draw(rows, values_by_search, out),
        ]
    )
    documents.write(report, out / "report.md", TITLE)
    return f"{report}\n\nwritten to {out}/: report.md, report.html, figure, summary.json, results.csv"


def _values_by_search(rows: list[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """Returns for each search the results of its trials in each repeat."""
    of = lambda kind, repeat: [_value(r) for r in rows if (r["search"], r["repeat"]) == (kind, repeat)]
    return {kind: [of(kind, repeat) for repeat in REPEATS] for kind in SEARCHES}


def _value(row: dict[str, Any]) -> float:
    return row.get("val/top1") or CHANCE


def _best(values_by_search: dict[str, list[list[float]]]) -> dict[str, list[float]]:
    return {kind: [max(values) for values in values_by_search[kind]] for kind in SEARCHES}


def _trials(values_by_search: dict[str, list[list[float]]]) -> list[int]:
    """Returns the number of random trials in each repeat whose best is expected to reach the best of its grid."""
    return [_needed(random, max(grid)) for random, grid in zip(values_by_search["random"], values_by_search["grid"])]


def _shares(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the importance of each hyperparameter in some trials."""
    return importance.shares(SPACE, [{k: r[k] for k in SPACE} for r in rows], list(map(_value, rows)), True)


def _needed(values: list[float], target: float) -> int:
    """Returns the number of trials whose best is expected to reach `target`; one more than there are if none does."""
    return next((k for k, best in enumerate(expected_best(values), 1) if best >= target), len(values) + 1)


def _draw(rows: list[dict[str, Any]], values_by_search: dict[str, list[list[float]]], out: Path) -> list[str]:
    key, gallery = "optimizer.learning_rate", Gallery(out, folder="")
    caption = (
        "Left: accuracy of every trial over its learning rate, on a logarithmic axis. Right: the best accuracy to "
        f"expect of so many trials, drawn at random among the {TRIALS} of a search; thin lines are repeats, thick ones "
        f"the mean of {len(REPEATS)}."
    )
    trials = [row for row in rows if row["search"] == "random"]
    path = gallery.place("efficiency", "every trial, and the best of so many trials", caption, [trials])
    if not path:
        return gallery.lines
    with canvas(path, 1, 2, (9.6, 3.8)) as (where, curve):
        for kind, colour, marker in zip(SEARCHES, COLOURS, "s."):
            mine = [row for row in rows if row["search"] == kind]
            values = [100 * (row.get("val/top1") or CHANCE) for row in mine]
            where.plot([row[key] for row in mine], values, marker, color=colour, alpha=0.6, ms=5, label=kind)
            curves = 100 * np.array([expected_best(values) for values in values_by_search[kind]])
            for each in curves:
                curve.plot(range(1, TRIALS + 1), each, color=colour, alpha=0.35, lw=0.9)
            curve.plot(range(1, TRIALS + 1), curves.mean(0), color=colour, lw=2, label=f"{kind}, mean of {len(curves)}")
        where.set(xscale="log", xlabel="learning rate", ylabel="validation top-1 (%)", title="all trials")
        curve.set(xlabel="trials", ylabel="expected best top-1 (%)", title="best of so many trials of the search")
        for axis in (where, curve):
            axis.legend()
    return gallery.lines


def _by_repeat(gain: Difference, scale: int = 100) -> str:
    """Formats the mean of a difference with its interval, and the difference of each repeat."""
    mean, half = scale * gain.interval.mean, scale * gain.interval.half
    return f"{mean:.1f} ± {half:.1f} (by repeat {', '.join(f'{scale * value:+.1f}' for value in gain.each)})"


def _points(interval) -> str:
    return f"{100 * interval.mean:.1f} ± {100 * interval.half:.1f}"
