"""The results by arm, and the tables of the report."""

from collections.abc import Mapping, Sequence

from jaxvision.analysis.statistics import Difference, paired_by_seed, t_interval
from jaxvision.analysis.words import percent, points, table
from jaxvision.commands.study import Row, sibling

presets = sibling(__file__, "presets")

H, G = "val/probe_lbfgs/top1", "val/probe_lbfgs_projection/top1"  # results of the probes on h and on g(h)
CONTRASTIVE, RANK = "contrastive_top1", "effective_rank"  # keys in the records of training
MAIN = {  # names of the arms of `Preset.main`
    "full": "full",
    "crop": "crop only",
    "colour": "colour only",
    "no_head": "no head",
    "linear_head": "linear head",
    "random": "random network",
}
AXES = {"temperature": "temperature", "strength": "colour strength", "width": "dimensions in the loss"}


class Results:
    """The values of runs by arm.

    Args:
      rows: Rows of the runs, with the fields of `presets.Arm` and "seed".
    """

    def __init__(self, rows: Sequence[Row]):
        self._rows: dict[presets.Arm, dict[int, Row]] = {}
        for row in sorted(rows, key=lambda row: row["seed"]):
            fields = {field: row[field] for field in presets.Arm._fields} | dict(ops=tuple(row["ops"].split("+")))
            self._rows.setdefault(presets.Arm(**fields), {})[row["seed"]] = row

    def of(self, arm: presets.Arm, key: str = H) -> dict[int, float]:
        """Returns the values of an arm by ascending seed; empty if it was not run or has no such value.

        Args:
          arm: Arm of the study.
          key: Key of the result in a row.
        """
        return {seed: row[key] for seed, row in self._rows.get(arm, {}).items() if row.get(key) is not None}

    def minus(self, one: presets.Arm, other: presets.Arm, key: str = H, other_key: str | None = None) -> Difference:
        """Returns one arm minus another over the seeds that both have.

        Args:
          one: Arm of the study.
          other: Arm to subtract.
          key: Key of the result of `one` in a row.
          other_key: Key of the result of `other`; None for the same key.
        """
        return paired_by_seed(self.of(one, key), self.of(other, other_key or key))


def arms(results: Results, named: Mapping[str, presets.Arm], p: presets.Preset, corner: str = "arm") -> list[str]:
    """Makes the table of arms, with one line for each arm that was run.

    Args:
      results: Results of all runs.
      named: Arms by the words for them in the table.
      p: Preset of the runs.
      corner: Title of the first column.
    """
    lines = {}
    for name, arm in named.items():
        if results.of(arm):
            cells = {key: _mean(results.of(arm, key)) for key in (H, G, CONTRASTIVE)}
            gain = "" if arm == p.full else percent(results.minus(arm, p.full).interval)
            rank = results.of(arm, RANK)
            mean = f"{sum(rank.values()) / len(rank):.1f}" if rank else ""
            lines[name] = [cells[H], cells[G], gain, cells[CONTRASTIVE], mean]
    return table(corner, ["probe on h", "on g(h)", "h, minus full", "contrastive top-1", "effective rank"], lines)


def heads(results: Results, p: presets.Preset) -> list[str]:
    """Makes the lines that compare three kinds of heads, and probes before and after a head.

    Args:
      results: Results of all runs.
      p: Preset of the runs.
    """
    main = p.main
    full, linear, none = (main[name] for name in ("full", "linear_head", "no_head"))
    return [
        f"- nonlinear minus linear head: {points(results.minus(full, linear))}.",
        f"- linear minus no head: {points(results.minus(linear, none))}.",
        f"- h minus g(h), nonlinear head: {points(results.minus(full, full, H, G))}.",
        f"- h minus g(h), linear head: {points(results.minus(linear, linear, H, G))}.",
        "",
    ]


def axis(results: Results, field: str, p: presets.Preset) -> list[str]:
    """Makes the table of the arms that vary one number.

    Args:
      results: Results of all runs.
      field: Name of a numeric field of `Arm`.
      p: Preset of the runs.
    """
    if len(p.axis(field)) < 2:
        return []
    named = {f"{value:g}": arm for value, arm in p.axis(field).items()}
    if field == "strength":
        named = {"0 (crop only)": p.main["crop"]} | named
    return [f"## {AXES[field].capitalize()}", *arms(results, named, p, AXES[field])]


def batches(results: Results, p: presets.Preset) -> list[str]:
    """Makes the table of batch sizes by length of training, for the two rules of the learning rate.

    Args:
      results: Results of all runs.
      p: Preset of the runs.
    """
    if not p.batch_sizes:
        return []
    lengths = sorted({length for _, length, _ in p.batches})
    lines, differences = {}, []
    for size, arm in p.axis("batch_size").items():
        for rule in ("linear", "sqrt"):
            cells = [_mean(results.of(arm._replace(length=length, rule=rule))) for length in lengths]
            if any(cells):
                lines[f"{size:,}, {rule}, {p.learning_rate(arm._replace(rule=rule)):.3g}"] = cells
        root = arm._replace(rule="sqrt")
        if results.of(root):
            differences.append(f"- {size:,}: linear minus square root {points(results.minus(arm, root))}.")
    return [
        "## Batch size, length of training, learning rate\n",
        "The learning rate is proportional to the batch size or to its square root; both rules give "
        f"{p.learning_rate(p.full):.3g} at {p.full.batch_size:,}.",
        *table("batch, rule, rate", [f"{length * p.images:,.0f} images" for length in lengths], lines),
        *differences,
        "",
    ]


def grid(results: Results, p: presets.Preset) -> list[str]:
    """Makes the table of pairs of transformations, with each transformation alone on the diagonal.

    Args:
      results: Results of all runs.
      p: Preset of the runs.
    """
    if not p.grid:
        return []
    seed, ops = p.seeds[0], [op for op in presets.OPS if op in p.ops]
    lines = {op: [""] * len(ops) for op in ops}
    for (one, other), arm in p.grid.items():
        if seed in (values := results.of(arm)):
            lines[other][ops.index(one)] = f"{100 * values[seed]:.1f}"
    return [
        "## Pairs of transformations\n",
        f"One seed, {seed}. The diagonal holds each transformation alone.",
        *table("", ops, lines),
    ]


def _mean(values: Mapping[int, float]) -> str:
    return percent(t_interval([*values.values()])) if values else ""
