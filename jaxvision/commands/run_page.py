"""The page of one run in words: results, curves, time, warnings, code, config. Parts in Markdown."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from jaxvision.analysis import run_plots
from jaxvision.analysis.run_plots import Panel
from jaxvision.analysis.words import code, plain, table
from jaxvision.commands import run_panels
from jaxvision.commands.run_groups import Group
from jaxvision.commands.run_records import Record, split_name
from jaxvision.train.goodput import KINDS
from jaxvision.train.progress import duration, is_share, number

PANELS = 8  # most panels of a figure
FIGURES = 4  # most figures of one kind; metrics beyond them are in the tables only


def whole(
    record: Record,
    here: Path,
    axis: str = run_panels.STEPS,
    more: Sequence[str] = (),
    *,
    about: str = "",
    only_svg: bool = False,
) -> list[str]:
    """Draws the figures of a run and returns its page.

    Args:
      record: Run.
      here: Folder of the figures.
      axis: Unit of the x-axis, "steps" or "examples".
      more: Paragraphs to put after the curves.
      about: Paragraph on what the page is for; empty for none.
      only_svg: True to draw each figure as SVG only, which is all that the page needs.

    Returns:
      Paragraphs in Markdown.
    """
    return [
        f"# Run {plain(record.name)}",
        *summary(record),
        *([about] if about else []),
        *(f"- {plain(line)}" for line in record.warnings),
        *results(record),
        *figures([Group(record.name, (record,))], here, axis, only_svg=only_svg),
        *more,
        *_time(record),
        *code_of([record]),
        *_config(record),
    ]


def summary(record: Record) -> list[str]:
    """Returns the sentences with which the page of a run begins.

    Args:
      record: Run.
    """
    model, data = (code(record.config.get(f"{part}.name", "?")) for part in ("model", "data"))
    task = code(record.config.get("task.name", "?"))
    took = f", after {duration(record.seconds)} of running" if record.seconds is not None else ""
    name = main_result([record])
    value = record.results.get(name) if name else None
    found = f" {code(name)} is {number(name, value)}." if name and value is not None else ""
    return [
        f"{model} on {data}, task {task}, {record.state} at step {record.step:,}{took}.{found} "
        f"Workdir: {code(record.workdir)}."
    ]


def main_result(records: Sequence[Record]) -> str | None:
    """Returns the result that stands for a run: the first share, such as "val/top1", or another.

    Results for a validation split come before those for another, and those for the split of training last.

    Args:
      records: Runs; the results that most of them have are preferred.
    """
    names = result_names(records)
    most = max((sum(name in one.results for one in records) for name in names), default=0)
    names = [name for name in names if sum(name in one.results for one in records) == most]
    # An evaluation of the images of training says little, and runs are compared by validation rather than by test.
    trained = {one.config.get("data.split") for one in records}
    entry = lambda name: split_name(name, records[0].evaluators)[0]
    split = lambda name: records[0].config.get(f"evals.{entry(name)}.split")
    names.sort(
        key=lambda name: (split(name) in trained, "val" not in f"{entry(name)} {split(name)}", not is_share(name))
    )
    return names[0] if names else None


def result_names(records: Sequence[Record]) -> list[str]:
    """Returns the names of the results of runs, in the order of their evaluations, without numbers of examples.

    Args:
      records: Runs.
    """
    names = dict.fromkeys(name for record in records for name in record.results)
    return [name for name in names if not name.endswith("/examples")]


def results(record: Record) -> list[str]:
    """Returns the table of the results of a run.

    Args:
      record: Run.
    """
    if not record.results:
        return ["## Results", "No evaluation has ended yet."]
    said = "at the end" if record.state == "finished" else "so far: the last of each evaluation"
    lines = {code(name): [cell(name, value)] for name, value in record.results.items()}
    parts = [f"Results {said}."]
    if record.ended:
        parts.append(f"Why the run ended: {plain(record.ended)}.")
    if best := record.best:
        parts.append(
            f"The best {code(best['metric'])} was {cell(best['metric'], best['value'])} at step {best['step']:,}; its "
            "checkpoint is kept (`--step=best`). It was chosen by this number, which is therefore too good to report: "
            "evaluate the checkpoint on other images."
        )
    return ["## Results", " ".join(parts), "\n".join(table("result", ["value"], lines)).strip()]


def cell(name: str, value: float | None) -> str:
    """Formats a result for a table.

    Args:
      name: Name of the result.
      value: Value; None if it is not finite.
    """
    return "not finite" if value is None else number(name, value)


def figures(
    groups: Sequence[Group], here: Path, axis: str, front: Sequence[str] = (), *, only_svg: bool = False
) -> list[str]:
    """Draws the curves of runs and returns the paragraphs that show them.

    Args:
      groups: Runs.
      here: Folder of the figures.
      axis: Unit of the x-axis, "steps" or "examples".
      front: Names of the groups to draw in colour if there are too many.
      only_svg: True to draw no PNG.
    """
    learning, process = run_panels.of_learning(groups, axis), run_panels.of_process(groups, axis)
    several = any(len(group.records) > 1 for group in groups)
    how = "A faint line is a raw curve, the line over it is smoothed" if _smoothed(learning + process) else ""
    bands = "the line is the mean over seeds, the band reaches from the lowest to the highest" if several else ""
    note = "; ".join(words for words in (how, bands) if words)
    note = f" {note[0].upper()}{note[1:]}." if note else ""
    what = "Means over the training batches since the last log, and evaluations."
    parts = ["## Curves"]
    parts += _drawn(learning, here, "curves", f"Loss and metrics. {what}{note}", axis, front, only_svg)
    parts += _drawn(process, here, "process", "Optimizer and machine, in training.", axis, front, only_svg)
    return parts if len(parts) > 1 else [*parts, "There are no curves: no metric has three points yet."]


def _drawn(
    panels: list[Panel], here: Path, name: str, caption: str, axis: str, front: Sequence[str], only_svg: bool
) -> list[str]:
    chunks = [panels[i : i + PANELS] for i in range(0, len(panels), PANELS)]
    parts = []
    for number_, chunk in enumerate(chunks[:FIGURES]):
        file = f"{name}{number_ + 1 if number_ else ''}"
        run_plots.curves(chunk, here / (f"{file}.svg" if only_svg else file), axis, front)
        text = caption if not number_ else f"{caption.partition('.')[0]}, continued."
        parts.append(f"![{file}]({file}.svg)\n*{text}*")
    if left := sum(map(len, chunks[FIGURES:])):
        parts.append(f"{left} more metrics are not drawn.")
    return parts


def _smoothed(panels: Sequence[Panel]) -> bool:
    lengths = [len(values) for panel in panels for curve in panel.curves for _, values in curve.seeds]
    return max(lengths, default=0) >= run_plots.SMOOTHED_FROM


def throughput(record: Record) -> float | None:
    """Returns the median of the examples per second of a run; None if it is not known.

    Args:
      record: Run.
    """
    speeds = [line["examples_per_second"] for line in record.lines if line.get("examples_per_second")]
    return statistics.median(speeds) if speeds else None


def _time(record: Record) -> list[str]:
    """The time account of each launch."""
    known = [one for one in record.launches if "seconds" in one.get("goodput", {})]
    if not known:
        return []
    share = lambda one, kind: one["goodput"]["seconds"].get(kind, 0) / max(one["goodput"]["wall"], 1e-9)
    kinds = [kind for kind in KINDS if kind != "other" and any(share(one, kind) >= 0.01 for one in known)]
    head = ["from step", "to step", "end", "time", *(KINDS[kind] for kind in kinds), "rest"]
    lines: list[tuple[str, list[str]]] = []
    for one in known:
        account = one["goodput"]
        shares = [share(one, kind) for kind in kinds]
        began = code(str(one.get("time", "?"))[:16].replace("T", " "))
        ends = [f"{one['start_step']:,}", f"{account['step']:,}", plain(account["end"]), duration(account["wall"])]
        lines.append((began, [*ends, *(f"{value:.1%}" for value in (*shares, max(1 - sum(shares), 0.0)))]))
    speed = throughput(record)
    fast = f" The median speed was {speed:,.0f} examples per second." if speed else ""
    return [
        "## Time",
        f"Launches, and the shares of their time.{fast}",
        "\n".join(table("began", head, lines)).strip(),
    ]


def code_of(records: Sequence[Record]) -> list[str]:
    """Returns what code, libraries and devices the runs had, by the last launch of each.

    Args:
      records: Runs.
    """
    rows: dict[str, dict[str, int]] = {}
    for record in records:
        for name, value in _versions(record):
            values = rows.setdefault(name, {})
            values[value] = values.get(value, 0) + 1
    if not rows:
        return []
    lines = {
        plain(name): [", ".join(code(v) + (f" ({n} runs)" if len(values) > 1 else "") for v, n in values.items())]
        for name, values in rows.items()
    }
    return ["## Code and machine", "\n".join(table("", ["of the last launch"], lines, left=True)).strip()]


def _versions(record: Record) -> list[tuple[str, str]]:
    if not record.launches:
        return []
    last = record.launches[-1]
    devices: list[Any] = last.get("devices") or []
    kinds: dict[str, int] = {}
    for device in map(str, devices):
        kind = device.partition(" ")[2] or device
        kinds[kind] = kinds.get(kind, 0) + 1
    versions = last.get("versions") or {}
    found = [("commit", str(last.get("git") or "not in a git checkout"))]
    found.append(("devices", ", ".join(f"{count} {kind}" for kind, count in kinds.items())))
    found += [(name, str(version)) for name, version in versions.items() if version != "not installed"]
    return found


def _config(record: Record) -> list[str]:
    """The whole config, and the command line of the last launch."""
    nested: dict[str, Any] = {}
    for key, value in record.config.items():
        section = nested
        *parts, last = key.split(".")
        for part in parts:
            section = section.setdefault(part, {})
        section[last] = value
    text = yaml.safe_dump(_lists(nested), sort_keys=False, allow_unicode=True, width=110)
    command = record.launches[-1].get("command") if record.launches else None
    said = [f"The last launch was {code(' '.join(map(str, command)))}."] if command else []
    return ["## Config", *said, "\n".join(f"    {line}" for line in text.rstrip().splitlines())]


def _lists(value: Any) -> Any:
    """Tuples as lists, which YAML has."""
    if hasattr(value, "items"):  # also an empty section, a ConfigDict
        return {key: _lists(one) for key, one in value.items()}
    return [_lists(one) for one in value] if isinstance(value, list | tuple) else value
