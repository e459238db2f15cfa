"""The tables of the report."""

from collections.abc import Sequence

import numpy as np

from jaxvision.analysis.statistics import Difference, Interval, paired_difference, t_interval
from jaxvision.analysis.words import percent
from jaxvision.commands.study import Row, sibling

setting = sibling(__file__, "setting")

Cells = dict[str, dict[int, list[float]]]  # arm -> examples -> one value per seed, in the order of the seeds


def cells(rows: Sequence[Row], p: setting.Preset, key: str, protocol: str = "fixed") -> Cells:
    """The values of one result, with arms and sizes in order.

    Args:
      rows: Results of all runs.
      p: Preset of the runs.
      key: Key of the result in a row, such as "val/top1".
      protocol: Protocol of the runs.
    """
    by_cell: dict[tuple[str, int], dict[int, float]] = {}
    for row in rows:
        if row["protocol"] == protocol and row.get(key) is not None:
            by_cell.setdefault((row["arm"], row["examples"]), {})[row["seed"]] = row[key]
    arms: Cells = {}
    for arm, n in sorted(by_cell, key=lambda cell: (list(p.arms).index(cell[0]), cell[1])):
        arms.setdefault(arm, {})[n] = [by_cell[arm, n][seed] for seed in sorted(by_cell[arm, n])]
    return arms


def errors(sizes: dict[int, list[float]]) -> dict[int, list[float]]:
    """The share of wrong answers at every size.

    Args:
      sizes: Accuracy of each seed, by number of examples, in [0, 1].
    """
    return {n: [1 - value for value in values] for n, values in sizes.items()}


def few_shot_key(shots: int) -> str:
    """The key of a row for the accuracy with this number of shots.

    Args:
      shots: Number of labelled images per class.
    """
    return f"fewshot/{shots}shot_ridge1024"


def gap(values: Cells, pair: setting.Pair, n: int) -> Difference:
    """ResNet minus ViT at one size.

    Args:
      values: Accuracy by arm and number of examples, see `cells`.
      pair: Pair of arms.
      n: Number of training examples.
    """
    return paired_difference(values[pair.resnet][n], values[pair.vit][n])


def difference(values: Cells, one: str, other: str) -> dict[int, Difference]:
    """One arm minus another at every size that both have.

    Args:
      values: Accuracy by arm and number of examples, see `cells`.
      one, other: Names of the arms.
    """
    return {n: paired_difference(values[one][n], values[other][n]) for n in values[one] if n in values[other]}


def steps_of(p: setting.Preset) -> list[int]:
    """The lengths of schedule of a preset in steps, rising.

    Args:
      p: Preset with other lengths.
    """
    return sorted(round(factor * p.steps) for factor in (1, *p.lengths.factors))


def by_steps(rows: Sequence[Row], p: setting.Preset, n: int, key: str) -> dict[str, dict[int, list[float]]]:
    """The values of one result on schedules of every length, for the seeds that have all of them.

    Args:
      rows: Results of all runs.
      p: Preset with other lengths.
      n: Number of training examples.
      key: Key of the result in a row, such as "val/top1".

    Returns:
      Arm -> steps -> one value per seed, in the order of the seeds.
    """
    lengths: dict[str, dict[int, list[float]]] = {}
    for row in sorted(rows, key=lambda row: row["seed"]):
        if row["examples"] == n and row["protocol"] == "length":
            lengths.setdefault(row["arm"], {}).setdefault(row["steps"], []).append(row[key])
    fixed = cells([row for row in rows if row["seed"] in p.lengths.seeds], p, key)
    return {arm: dict(sorted((lengths[arm] | {p.steps: fixed[arm][n]}).items())) for arm in p.arms if arm in lengths}


def by_size(p: setting.Preset, lines: dict[str, dict[int, str]], head: Sequence[str] = ("arm",)) -> list[str]:
    """A table with a column for each size. `head` names the columns before them, which hold the keys of `lines`.

    Args:
      p: Preset of the runs.
      lines: Cells of each line, by number of examples.
      head: Names of the columns before the sizes.
    """
    return [
        "",
        f"| {' | '.join(head)} | " + " | ".join(f"{n:,}" for n in p.sizes) + " |",
        "|---|" + "---:|" * (len(head) - 1 + len(p.sizes)),
        *(f"| {name} | " + " | ".join(line.get(n, "") for n in p.sizes) + " |" for name, line in lines.items()),
        "",
    ]


def accuracy(values: Cells, p: setting.Preset, costs: dict[str, dict[str, float]]) -> list[str]:
    """Top-1 and gaps under the fixed protocol, with the cost of the arms.

    Args:
      values: Accuracy by arm and number of examples, see `cells`.
      p: Preset of the runs.
      costs: Parameters and MFLOPs of each arm.
    """
    lines = {}
    for arm, sizes in values.items():
        cost = costs[arm]
        lines[f"{arm} | {cost['parameters']:,} | {cost['mflops']:,.1f}"] = {
            n: percent(t_interval(v)) for n, v in sizes.items()
        }
    for pair in p.pairs:
        name = f"{pair.resnet} minus {pair.vit}{'' if pair.matched else ', not matched'} | | "
        lines[name] = {n: percent(gap(values, pair, n).interval) for n in pair.sizes}
    return by_size(p, lines, ("arm", "parameters", "MFLOPs a training example"))


def selection(rows: Sequence[Row], p: setting.Preset) -> list[str]:
    """By how much the best evaluation during training exceeds the last, and the gaps at the best.

    Args:
      rows: Results of all runs.
      p: Preset of the runs.
    """
    best, last = cells(rows, p, "best/top1"), cells(rows, p, "val/top1")
    lines = {
        arm: {n: percent(paired_difference(best[arm][n], last[arm][n]).interval) for n in sizes}
        for arm, sizes in best.items()
    }
    for pair in p.pairs:
        name = f"{pair.resnet} minus {pair.vit}, both at their best"
        lines[name] = {n: percent(gap(best, pair, n).interval) for n in pair.sizes}
    return by_size(p, lines)


def measures(rows: Sequence[Row], p: setting.Preset) -> list[str]:
    """Training accuracy, loss and few-shot accuracy of every arm and size.

    Args:
      rows: Results of all runs.
      p: Preset of the runs.
    """
    shots = {f"{s}-shot": few_shot_key(s) for s in setting.SHOTS}
    keys = {"training top-1": "train/top1", "loss": "val/loss", "test top-1": "test/top1", **shots}
    columns = {name: values for name, key in keys.items() if (values := cells(rows, p, key))}
    lines = ["", "| arm | examples | " + " | ".join(columns) + " |", "|---|---:|" + "---:|" * len(columns)]
    for arm, sizes in cells(rows, p, "val/top1").items():
        for n in sizes:
            shown = [t_interval(values[arm][n]) for values in columns.values()]
            texts = [_nats(i) if name == "loss" else percent(i) for name, i in zip(columns, shown)]
            lines.append(f"| {arm} | {n:,} | " + " | ".join(texts) + " |")
    return [*lines, ""]


def tuned(values: Cells, fixed: Cells, rates: dict[str, dict[int, float]], p: setting.Preset) -> list[str]:
    """The arms of the first pair at the chosen learning rates.

    Args:
      values: Accuracy of the tuned runs by arm and number of examples.
      fixed: Accuracy of the runs with the fixed learning rate, in the same form.
      rates: Chosen learning rate by arm and number of examples.
      p: Preset of the runs.
    """
    lines = {}
    for arm in p.pairs[0][:2]:
        both = [(n, paired_difference(values[arm][n], fixed[arm][n]).interval) for n in p.tuned_sizes]
        lines[f"{arm}, learning rate"] = {n: f"{rate:g}" for n, rate in rates[arm].items()}
        lines[f"{arm}, top-1"] = {n: percent(t_interval(values[arm][n])) for n in p.tuned_sizes}
        lines[f"{arm}, tuned minus fixed"] = {n: percent(interval) for n, interval in both}
    name = f"{p.pairs[0].resnet} minus {p.pairs[0].vit}, both tuned"
    lines[name] = {n: percent(gap(values, p.pairs[0], n).interval) for n in p.tuned_sizes}
    return by_size(p, lines)


def _nats(interval: Interval) -> str:
    half = "" if np.isnan(interval.half) else f" ± {interval.half:.2f}"
    return f"{interval.mean:.2f}{half}"
