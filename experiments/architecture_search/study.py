"""Do ageing evolution and REINFORCE find better networks than random search with as many trials?

After Real et al. 2019, "Regularized evolution for image classifier architecture search", arXiv 1802.01548, and
Zoph and Le 2017, "Neural architecture search with reinforcement learning", arXiv 1611.01578, fig. 6.

    space      three layers on maps of 4x4 pixels, on `shapes` at 16 pixels. Each is a pixel-wise convolution, one of
               3x3 pixels, a mean over 3x3 pixels, or nothing: 64 architectures, in supernet.py
    tables     every architecture is trained with each of five seeds, 250 steps of 32 images, which gives five tables:
               tabulate.py wrote them to table.csv. A search sees the validation top-1 of a table, and what it finds is
               judged by the test top-1 of the same run
    searches   those of `jaxvision sweep`: random, ageing evolution, REINFORCE; 24 trials, 200 seeds of the search on
               each table. Nothing is trained for them, so many seeds cost seconds

Criteria, fixed before the first run; intervals are 95 % t-intervals over the five tables, of means over the seeds of
the search. What is compared is the test top-1 of the architecture with the best validation top-1 of 24 trials:
    selects    that of random search minus the mean test top-1 of all architectures has an interval above zero
    evolution  that of ageing evolution minus that of random search has an interval above zero
    reinforce  that of REINFORCE minus that of random search has an interval above zero
The options of the searches are their defaults, apart from the population: five of its members are compared, as by
default, but it has five and not twenty. That was chosen on made-up tables.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxvision import workdir as workdirs
from jaxvision.analysis import documents, words
from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.gallery import Gallery
from jaxvision.analysis.plots import COLOURS, canvas
from jaxvision.analysis.statistics import paired_difference, t_interval
from jaxvision.commands import row_tables
from jaxvision.commands.study import Run, sibling
from jaxvision.errors import unknown
from jaxvision.sweep import Sweep, space, tabulated

PRESETS = ("laptop",)
SPACE = sibling(__file__, "supernet").space()
POINTS = list(space.points(SPACE))
SEEDS = (0, 1, 2, 3, 4)
TRIALS, REPEATS = 24, 200  # of each search on each table
SEARCHES = {
    "random": "random(seed={})",
    "ageing_evolution": "ageing_evolution(seed={}, population=5, sample=5)",
    "reinforce": "reinforce(seed={})",
}
NAMES = {"random": "random search", "ageing_evolution": "ageing evolution", "reinforce": "REINFORCE"}
SAMPLE = f"{len(SEEDS)} tables"
TABLE = Path(__file__).with_name("table.csv")
TITLE = "A small architecture search"
EXPECTED = (
    "Real et al. 2019 (arXiv 1802.01548) and Zoph and Le 2017 (arXiv 1611.01578, fig. 6): evolution and a "
    "controller trained by REINFORCE find better networks than random search with as many trials."
)


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of an architecture, which a sweep changes; the study itself reads a table.

    Args:
      arg: Not used: the study has no runs.
    """
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="shapes",
        options=dict(image_size=32, train=12_000, validation=1_000, test=1_000),  # as in configs/quickstart.py
        split="train[:6000]",
        host="decode|resize(16)",
        batch_size=32,
        classes=10,
        examples=6_000,
        image_size=32,
    )
    c.augment = "normalize(0.5, 0.5)"
    c.model = dict(name="experiments.architecture_search.net:layered_net")
    c.task = dict(name="supervised")
    c.optimizer = dict(name="adam", learning_rate=3e-3, schedule="constant")
    c.train = dict(total="250 steps", log_every="25 percent", checkpoint_every="0 steps")
    c.evals = {
        name: dict(name="classify", split=split, batch_size=500)
        for name, split in (("val", "validation"), ("test", "test"))
    }
    return c


def get_sweep(arg: str = "ageing_evolution/0") -> Sweep:
    """Returns one search that trains each network when it is chosen, "SEARCH/SEED".

    Args:
      arg: Name of the search and its seed, "random/0", "ageing_evolution/0" or "reinforce/0".

    Raises:
      UserError: The search is unknown.
    """
    kind, _, seed = arg.partition("/")
    if kind not in SEARCHES:
        raise unknown("search of this study", kind, SEARCHES)
    return Sweep(__file__, SPACE, search=SEARCHES[kind].format(int(seed or 0)), trials=TRIALS)


def runs(preset: str, data_dir: str | None) -> list[Run]:
    """Lists no run: the networks of the table share one program, which no config can say.

    Args:
      preset: Name of the preset.
      data_dir: Folder of the data, from --data_dir; not used.
    """
    return []


def published(preset: str) -> list[dict[str, Any]]:
    """Returns the table: a row for each architecture and seed.

    Args:
      preset: Name of the preset.
    """
    return row_tables.read(TABLE, {"run", *(key.removeprefix("model.") for key in SPACE)}).to_pylist()


Table = tuple[tuple[float, float], ...]  # validation and test top-1 of each of `POINTS`


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """Returns the table of each seed.

    Args:
      rows: Results of all runs, one row per run.
    """
    pairs = {(row["seed"], row["number"]): (row["val/top1"], row["test/top1"]) for row in rows}
    return [tuple(pairs[seed, number] for number in range(len(POINTS))) for seed in SEEDS]


@functools.lru_cache(maxsize=64)
def found(kind: str, table: Table, first: int, repeats: int) -> np.ndarray:
    """Searches a table many times: test top-1 of the best by validation so far, float [repeats, trials].

    Args:
      kind: Name of the search, a key of `SEARCHES`.
      table: Table to search.
      first: First seed of the search; the others follow it.
      repeats: Number of seeds.
    """
    places = {repr(point): i for i, point in enumerate(POINTS)}
    value = lambda point: table[places[repr(point)]][0]
    every = []
    for seed in range(first, first + repeats):
        points = tabulated.rehearse(SEARCHES[kind].format(seed), SPACE, value, TRIALS)
        tried = [table[places[repr(point)]] for point in points]
        best = [max(tried[: k + 1], key=lambda pair: pair[0])[1] for k in range(TRIALS)]  # the first of equal ones
        every.append(best)
    return np.array(every)


def curves(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The mean over seeds of the search, by search: float [tables, trials].

    Args:
      rows: Results of all runs, one row per run.
    """
    every = tables(rows)
    means = lambda kind: [found(kind, table, i * REPEATS, REPEATS).mean(0) for i, table in enumerate(every)]
    return {kind: np.array(means(kind)) for kind in SEARCHES}


def criteria(rows: list[dict[str, Any]], preset: str) -> dict[str, Verdict]:
    """Judges the criteria, by name.

    Args:
      rows: Results of all runs, one row per run.
      preset: Name of the preset.
    """
    last = {kind: values[:, -1].tolist() for kind, values in curves(rows).items()}
    average = [float(np.mean([test for _, test in table])) for table in tables(rows)]
    better = lambda kind: Verdict(
        {f"points of test top-1, {NAMES[kind]} minus random search": paired_difference(last[kind], last["random"])},
        claim=f"{TRIALS} trials of {NAMES[kind]} find a better network than {TRIALS} random ones",
        sample=SAMPLE,
    )
    return {
        "selects": Verdict(
            {"points of test top-1, random search minus the mean": paired_difference(last["random"], average)},
            claim=f"the best of {TRIALS} random architectures is better than the mean of all {len(POINTS)}",
            sample=SAMPLE,
        ),
        "evolution": better("ageing_evolution"),
        "reinforce": better("reinforce"),
    }


def analyse(rows: list[dict[str, Any]], out: Path, preset: str) -> str:
    """Writes searches.png, searches.svg, report.md, report.html and summary.json. Returns the report.

    Args:
      rows: Results of all runs, one row per run.
      out: Folder of the study.
      preset: Name of the preset.
    """
    verdicts, by_search = criteria(rows, preset), curves(rows)
    last = {kind: values[:, -1] for kind, values in by_search.items()}
    summary = {"found": {kind: values.tolist() for kind, values in last.items()}}
    summary |= {"criteria": {name: verdict.met for name, verdict in verdicts.items()}}
    workdirs.write_json(out / "summary.json", summary | {"versions": workdirs.versions(), "git": workdirs.git_commit()})
    at = (1, 4, 8, TRIALS)
    cells = {
        NAMES[kind]: [words.percent(t_interval(values[:, k - 1])) for k in at] for kind, values in by_search.items()
    }
    report = "\n".join(
        [
            f"# {TITLE}\n",
            *opening(_answer(rows, last, verdicts), EXPECTED, tally(verdicts)),
            "## Searches\n",
            f"Test top-1 in % of the best by validation after so many trials: the mean over {len(SEEDS)} tables, of "
            f"{REPEATS} seeds of the search each, with its 95 % t-interval over the tables.",
            *words.table("search", [f"{k} trials" if k > 1 else "1 trial" for k in at], cells),
            "## Architectures\n",
            f"Top-1 in % of the best and the worst of {len(POINTS)} by their mean validation: mean over "
            f"{len(SEEDS)} seeds with its 95 % t-interval.",
            *_architectures(rows),
            "## Criteria\n",
            *section(verdicts),
            "\n## Figure\n",
            *_draw(rows, by_search, out),
        ]
    )
    documents.write(report, out / "report.md", TITLE)
    return f"{report}\n\nwritten to {out}/: report.md, report.html, figure, summary.json, results.csv"


def _answer(rows: list[dict[str, Any]], last: dict[str, np.ndarray], verdicts: dict[str, Verdict]) -> str:
    """The answer in two sentences."""
    reached = [f"{NAMES[kind]} {words.percent(t_interval(values))} %" for kind, values in last.items()]
    told = []
    for name, kind in (("evolution", "ageing_evolution"), ("reinforce", "reinforce")):
        gain = paired_difference(last[kind].tolist(), last["random"].tolist()).interval
        told.append(
            verdicts[name].tell(
                f"{NAMES[kind]} is better than random search by {words.gain(gain)}",
                f"{NAMES[kind]} is worse than random search by {words.gain(gain)}",
                f"{NAMES[kind]} is better than random search",
                f"{words.percent(gain)} points",
            )
        )
    best, (_, test) = _ranking(rows)[0]
    return (
        f"The best of {TRIALS} trials of {len(POINTS)} architectures is right on so many new images: "
        f"{words.listed(reached)}; {' and '.join(told)}. The best architecture of all, by validation, is "
        f"{_described(POINTS[best])}, which is right on {words.percent(test)} %."
    )


def _ranking(rows: list[dict[str, Any]]) -> list[tuple[int, list]]:
    """Numbers of the architectures from the best to the worst mean validation, with both intervals over seeds."""
    values = np.array(tables(rows))  # seeds, points, 2
    order = np.argsort(-values[:, :, 0].mean(0), kind="stable")
    return [(int(i), [t_interval(values[:, i, part]) for part in (0, 1)]) for i in order]


def _architectures(rows: list[dict[str, Any]]) -> list[str]:
    ranking = _ranking(rows)
    lines = [(_described(POINTS[i]), [*map(words.percent, both)]) for i, both in (*ranking[:3], *ranking[-3:])]
    return words.table("architecture", ["validation", "test"], lines)


def _described(point: dict[str, Any]) -> str:
    """An architecture in words: its layers from the input on."""
    return ", ".join(point.values())


def _draw(rows: list[dict[str, Any]], by_search: dict[str, np.ndarray], out: Path) -> list[str]:
    gallery = Gallery(out, folder="")
    caption = (
        f"Left: test accuracy of the {len(POINTS)} architectures, in the order of their mean validation accuracy; a "
        f"dot for each seed. Right: test accuracy of the best by validation after so many trials. Thin "
        f"lines are tables (means of {REPEATS} seeds of the search), thick ones the mean of {len(SEEDS)}."
    )
    path = gallery.place("searches", "all architectures, and the best of so many trials", caption, [rows])
    if not path:
        return gallery.lines
    every, order = 100 * np.array(tables(rows)), [number for number, _ in _ranking(rows)]
    with canvas(path, 1, 2, (9.6, 3.8)) as (ranked, curve):
        for table in every:
            ranked.plot(range(1, len(POINTS) + 1), table[order, 1], ".", color="0.5", alpha=0.6, ms=4)
        ranked.plot(range(1, len(POINTS) + 1), every.mean(0)[order, 1], color=COLOURS[0], lw=1.2)
        for (kind, values), colour in zip(by_search.items(), COLOURS):
            for each in 100 * values:
                curve.plot(range(1, TRIALS + 1), each, color=colour, alpha=0.3, lw=0.8)
            curve.plot(range(1, TRIALS + 1), 100 * values.mean(0), color=colour, lw=2, label=NAMES[kind])
        ranked.set(xlabel="rank by validation", ylabel="test top-1 (%)", title="all architectures")
        curve.set(xlabel="trials", ylabel="test top-1 (%)", title="best by validation so far")
        curve.legend()
    return gallery.lines
