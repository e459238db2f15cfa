"""The page of several runs in words: a table of results, the keys in which they differ, curves, cost, code."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision.analysis import run_plots
from jaxvision.analysis.statistics import t_interval
from jaxvision.analysis.words import code, percent, plain, table
from jaxvision.commands import run_page
from jaxvision.commands.run_groups import ABSENT, Group, differing_keys, is_seed
from jaxvision.commands.run_records import Record
from jaxvision.train.progress import best_is, duration, is_share

KEYS_BESIDE = 4  # most keys that stand beside the results
COLUMNS = 8  # most results in the table
ROWS = 60  # most rows of a figure with a row for each run
_SHORT = 16  # most characters of a value that stands beside the results
_VALUES = 6  # most different values of a key that are listed


def whole(
    groups: Sequence[Group], title: str, here: Path, axis: str, unread: Mapping[str, str] | None = None
) -> list[str]:
    """Draws the figures of several runs and returns their page.

    Args:
      groups: Runs, those that differ only in seeds together.
      title: Title of the page.
      here: Folder of the figures.
      axis: Unit of the x-axis, "steps" or "examples".
      unread: Reasons why further runs cannot be read, by workdir.

    Returns:
      Paragraphs in Markdown.
    """
    records = [record for group in groups for record in group.records]
    name = run_page.main_result(records)
    ranked = sorted(groups, key=lambda group: -_rank(group, name))
    front = [group.name for group in ranked[: len(run_plots.COLOURS)]]
    return [
        f"# {plain(title)}",
        _summary(groups, records, name),
        *(f"- {plain(workdir)} is left out: {plain(why)}" for workdir, why in (unread or {}).items()),
        *_results(groups, records),
        *_dots(groups, name, here),
        *_keys(groups, records),
        *_curves(groups, here, axis, front, name),
        *_cost(groups),
        *_notes(records),
        *run_page.code_of(records),
    ]


def _summary(groups: Sequence[Group], records: Sequence[Record], name: str | None) -> str:
    states: dict[str, int] = {}
    for record in records:
        states[record.state] = states.get(record.state, 0) + 1
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    said = f"{len(records)} runs ({counted})."
    if len(groups) < len(records):
        said += (
            f" Those that differ only in seeds stand together, in {len(groups)} rows: a mean with the 95 % interval "
            "of Student's t over the seeds that are finished."
        )
    ended = [group for group in groups if all(one.state == "finished" for one in group.records)]
    best = max(ended, key=lambda group: _rank(group, name), default=None)
    if name and best_is(name) is None and len(groups) > 1:
        said += f" Whether a high or a low {code(name)} is better is not known, so no run is named as the best."
    if name and best and _rank(best, name) > -math.inf and len(ended) > 1:
        which = best_is(name)
        if (ties := sum(_rank(group, name) == _rank(best, name) for group in ended)) > 1:
            return said + f" {ties} share the {which} {code(name)}, {_mean(best, name)}."
        said += f" The {which} {code(name)} is that of {code(best.name)}, {_mean(best, name)}"
        of = f"{len(ended)}" if len(ended) == len(groups) else f"the {len(ended)} that are finished"
        said += f"; the {which} of {of} is partly luck, so confirm it with further seeds."
    return said


def _rank(group: Group, name: str | None) -> float:
    """Value of a group, larger for a better one; of a result of which it is not known what is better, all are equal."""
    which = best_is(name) if name else None
    if name is None or which is None:
        return -math.inf
    values = _values(group, name)
    mean = sum(values) / len(values) if values else math.nan
    return -math.inf if math.isnan(mean) else mean if which == "highest" else -mean


def _counted(group: Group) -> list[Record]:
    """The runs whose results are averaged: those that are finished, or a run that is alone as far as it is."""
    records = list(group.records)
    return records if len(records) == 1 else [one for one in records if one.state == "finished"]


def _values(group: Group, name: str) -> list[float]:
    return [value for one in _counted(group) if (value := one.results.get(name)) is not None]


def _mean(group: Group, name: str) -> str:
    """The mean of a result over seeds, with its interval."""
    values = _values(group, name)
    if not values:
        if not _counted(group):
            return f"(0 of {len(group.records)})"
        return "not finite" if any(name in one.results for one in _counted(group)) else ""
    part = f" ({len(values)} of {len(group.records)})" if len(values) < len(group.records) else ""
    if len(values) == 1:
        return run_page.cell(name, values[0]) + part
    interval = t_interval(values)
    return (f"{percent(interval)} %" if is_share(name) else f"{interval.mean:.4g} ± {interval.half:.2g}") + part


def _results(groups: Sequence[Group], records: Sequence[Record]) -> list[str]:
    names = run_page.result_names(records)
    main = run_page.main_result(records)
    shown = sorted(names, key=lambda name: name != main)[:COLUMNS]
    keys = _keys_beside(records)
    seeds = any(len(group.records) > 1 for group in groups)
    last = [key.rpartition(".")[2] for key in keys]
    head = [
        *(code(key if last.count(name) > 1 else name) for key, name in zip(keys, last)),
        *(["seeds"] if seeds else []),
        *map(code, shown),
        "step",
        "state",
    ]
    lines = {}
    for group in groups:
        cells = [_value(group.records[0], key) for key in keys]
        cells += [str(len(group.records))] if seeds else []
        cells += [_mean(group, name) for name in shown]
        cells += [_range(one.step for one in group.records), ", ".join(dict.fromkeys(r.state for r in group.records))]
        lines[code(group.name)] = cells
    more = f" {len(names) - len(shown)} further results are in runs.csv." if len(names) > len(shown) else ""
    if any(len(_counted(group)) < len(group.records) for group in groups):
        more += " Only runs that are finished are averaged; (2 of 3) tells how many of how many these are."
    return ["## Results", f"The last result of each evaluation.{more}", "\n".join(table("run", head, lines)).strip()]


def _range(numbers: Any) -> str:
    values = sorted(set(numbers))
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _dots(groups: Sequence[Group], name: str | None, here: Path) -> list[str]:
    if name is None or not 2 <= len(groups) <= ROWS:
        return []
    finals = {group.name: values for group in groups if (values := _values(group, name))}
    if len(finals) < 2:
        return []
    run_plots.final_values(finals, here / "final", xlabel=name, percent=is_share(name))
    bars = " Bars are 95 % intervals of the mean." if any(len(values) > 1 for values in finals.values()) else ""
    some = any(len(_counted(group)) < len(group.records) for group in groups)
    bars += " Seeds that are not finished are left out." if some else ""
    return [f"![final](final.svg)\n*Last {code(name)} of each run; a dot is a seed.{bars}*"]


def _keys_beside(records: Sequence[Record]) -> list[str]:
    keys = [key for key in differing_keys(records) if not is_seed(key)]
    short = [key for key in keys if all(len(_value(one, key)) <= _SHORT for one in records)]
    return short if len(short) <= KEYS_BESIDE else []


def _value(record: Record, key: str) -> str:
    value = record.config.get(key, ABSENT)
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return plain(ABSENT) if value is ABSENT else code(text if len(text) <= 60 else f"{text[:57]}...")


def _keys(groups: Sequence[Group], records: Sequence[Record]) -> list[str]:
    keys = differing_keys(records)
    if not keys:
        return ["## Config", "The configs of all runs are equal."]
    if len(groups) <= 8:
        head = [code(group.name) for group in groups]
        lines = {code(key): [_distinct(group.records, key) for group in groups] for key in keys}
    else:
        head = ["values"]
        lines = {code(key): [_distinct(records, key)] for key in keys}
    return ["## Where the configs differ", "\n".join(table("key", head, lines, left=True)).strip()]


def _distinct(records: Sequence[Record], key: str) -> str:
    values = list(dict.fromkeys(_value(record, key) for record in records))
    more = f" and {len(values) - _VALUES} more" if len(values) > _VALUES else ""
    return ", ".join(values[:_VALUES]) + more


def _curves(groups: Sequence[Group], here: Path, axis: str, front: Sequence[str], name: str | None) -> list[str]:
    parts = run_page.figures(groups, here, axis, front)
    if len(groups) > run_plots.NAMED and name:
        which = f"the {len(front)} with the best {code(name)}" if best_is(name) else f"the first {len(front)}"
        said = f"There are too many runs for a colour each: {which} have one."
        parts.insert(1, said)
    return parts


def _cost(groups: Sequence[Group]) -> list[str]:
    """The time of the runs, and how much of it were steps."""
    lines: dict[str, list[str]] = {}
    total = 0.0
    for group in groups:
        walls = [one.seconds for one in group.records if one.seconds is not None]
        if not walls:
            continue
        total += sum(walls)
        accounts = [launch["goodput"]["seconds"] for one in group.records for launch in one.launches
                    if "seconds" in launch.get("goodput", {})]  # fmt: skip
        steps = sum(account.get("productive", 0.0) for account in accounts) / max(sum(walls), 1e-9)
        speeds = [speed for one in group.records if (speed := run_page.throughput(one))]
        mean = f"{sum(speeds) / len(speeds):,.0f}" if speeds else ""
        count = sum(len(one.launches) for one in group.records)
        lines[code(group.name)] = [str(count), duration(sum(walls)), f"{steps:.0%}", mean]
    if not lines:
        return []
    head = ["launches", "time", "of it steps", "examples/s"]
    said = f"All runs together took {duration(total)}, from the start of their processes to the end."
    return ["## Cost", said, "\n".join(table("run", head, lines)).strip()]


def _notes(records: Sequence[Record]) -> list[str]:
    lines = [f"- {code(one.name)}: {plain(' '.join(one.warnings))}" for one in records if one.warnings]
    return ["## Warnings", "\n".join(lines)] if lines else []
