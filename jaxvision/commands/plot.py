"""`jaxvision plot`: a page of curves and tables of one run, or of several to compare."""

import logging
import pathlib
import tempfile
from collections.abc import Sequence

from jaxvision import outputs, path_names, storage
from jaxvision.analysis import documents
from jaxvision.analysis.words import code
from jaxvision.commands import run_groups, run_page, run_panels, runs_page, tables
from jaxvision.commands.run_records import Record, read_run
from jaxvision.errors import UserError, unknown
from jaxvision.parallel.distributed import is_main
from jaxvision.storage import Path
from jaxvision.train.progress import console

PAGE = "page.html"  # in the workdir of a run
PLOTS = "plots"  # folder in the workdir of a run
GROUPS = ("seed", "none")
WRITTEN = ("index.html", "index.md", "runs.csv")
FIGURES = tuple(
    f"{name}{i or ''}.{kind}"
    for name in ("curves", "process")
    for i in (0, *range(2, run_page.FIGURES + 1))
    for kind in ("svg", "png")
)
COMPARED = ("final.svg", "final.png")
PREDICTED = ("confusion.svg", "confusion.png", "worst.png", "surest.png", "predictions.csv", "classes.csv")
_log = logging.getLogger(__name__)


def run_plot(
    runs: Sequence[str],
    out: str | Path | None = None,
    *,
    group: str = "seed",
    axis: str = run_panels.STEPS,
    predictions: bool = False,
    step: int | str | None = None,
    evaluation: str | None = None,
) -> Path:
    """Draws the curves of runs and writes the page that shows and compares them. The runs may be in progress.

    index.html    the page in one file; index.md is its text
    runs.csv      a row for each run: its results, and the keys in which the configs differ
    *.svg, *.png  the figures

    With `predictions`, also the files of `class_page.whole`. Files that an earlier call wrote and this one does not,
    such as the figure of a metric that the runs now shown do not have, are deleted.

    Args:
      runs: Workdirs, folders that hold workdirs (of a sweep or a study), or patterns.
      out: Folder for the page; None for `plots` in the workdir of a single run.
      group: "seed" to show runs that differ only in seeds as one, or "none".
      axis: Unit of the x-axis: "steps", or "examples" for runs that differ in batch size.
      predictions: True to classify the split of an evaluation, and to show what a single run gets right and wrong.
      step: Step of the checkpoint for the predictions, or "best"; None for the latest.
      evaluation: Name of the evaluation for the predictions; None for the first whose evaluator is `classify`.

    Returns:
      The path of index.html.

    Raises:
      UserError: There are no such runs, none can be read, or an option or the folder is wrong.
    """
    if group not in GROUPS:
        raise unknown("value of --group", group, GROUPS)
    if axis not in run_panels.AXES:
        raise unknown("value of --x", axis, run_panels.AXES)
    if not runs:
        raise UserError("no run is named: jaxvision plot WORKDIR..., with folders of a sweep or a study, or patterns")
    found = run_groups.find(runs)
    if out is None and len(found) > 1:
        raise UserError(f"--out is missing for the page of {len(found)} runs: add --out=FOLDER")
    if predictions and len(found) > 1:
        raise UserError(f"--predictions is for one run, not for {len(found)}: name one run, or leave it out")
    if not predictions and (step is not None or evaluation is not None):
        raise UserError("--step and --evaluation choose the --predictions, which are not asked for: add --predictions")
    folder = found[0] / PLOTS if out is None else storage.path(out, "--out")
    records, unread = run_groups.read(found)
    for workdir, why in unread.items():
        _log.warning("%s is left out: %s", workdir, why)
    groups = run_groups.groups(records, by_seed=group == "seed")
    names = (*WRITTEN, *FIGURES, *(COMPARED if len(found) > 1 else ()), *(PREDICTED if predictions else ()))
    outputs.check(folder, names, "--out")
    judgement = None
    if predictions:
        from jaxvision.commands import class_page  # it builds the model; the curves need no such thing

        judgement = class_page.judge(found[0], step, evaluation)
        if not is_main():  # asked only here: it would start the accelerator, beside a training that holds it
            return folder / "index.html"
    with outputs.filling(folder, names, "--out", (*COMPARED, *PREDICTED)) as here:
        links: tuple[str, ...] = ()
        if len(found) == 1:
            seen = class_page.whole(judgement, here) if judgement is not None else []
            about, links = _about_plots(found[0], folder)
            parts, title = run_page.whole(records[0], here, axis, seen, about=about), f"Run {records[0].name}"
        else:
            title = f"{len(records)} runs of {_common(found)}"
            parts = runs_page.whole(groups, title, here, axis, unread)
        (here / "runs.csv").write_text(_table(records), encoding="utf-8", newline="")
        documents.write("\n\n".join(parts) + "\n", here / "index.md", title, links)
    console().print(f"written to {folder}/index.html", markup=False)
    return folder / "index.html"


def write_at_end(workdir: str | Path) -> None:
    """Writes page.html to the workdir of a run that has just ended, unless a sweep or a study started it.

    The run is done by then, so a failure is only a warning. Process 0 writes.

    Args:
      workdir: Folder of the run.
    """
    if not is_main():
        return
    try:
        where = storage.path(workdir, "--workdir")
        if (where / "launch" / "command.json").exists():  # the report of all its runs is made at their end
            return
        with tempfile.TemporaryDirectory(prefix="jaxvision-") as folder:
            here = pathlib.Path(folder)
            record = read_run(where)
            about, links = _about_end(where)
            parts = run_page.whole(record, here, about=about, only_svg=True)
            text = documents.page("\n\n".join(parts) + "\n", here, f"Run {record.name}", links)
        storage.write(where / PAGE, text)
        console().print(f"its curves, time and config: {where / PAGE}", markup=False)
    except Exception as error:
        _log.warning("%s was not written: %s: %s", PAGE, type(error).__name__, " ".join(str(error).split()))


def _about_end(workdir: Path) -> tuple[str, tuple[str, ...]]:
    """What page.html is for, in Markdown, and the addresses of the pages that it links to."""
    link = f"{PLOTS}/index.html"
    made = (workdir / PLOTS / "index.html").exists()
    named = f"[{link}]({link})" if made else code(link)
    text = (
        "This page was written at the end of the run: a record in one file, which can be sent to somebody. "
        f"{code('jaxvision plot')} with the workdir makes {named} beside it, at any time: with figures as files, "
        f"results as CSV, and, with {code('--predictions')}, what a classifier gets wrong."
    )
    return text, (link,) if made else ()


def _about_plots(workdir: Path, folder: Path) -> tuple[str, tuple[str, ...]]:
    """What the page of `plot` is for, in Markdown, and the addresses of the pages that it links to."""
    text = f"This page was made by {code('jaxvision plot')}. Each of its figures is a file beside it too."
    if not (workdir / PAGE).exists():
        return text, ()
    link = f"../{PAGE}"
    near = folder == workdir / PLOTS
    named = f"[{PAGE}]({link})" if near else code(workdir / PAGE)
    return f"{text} The record from the end of the run is {named}.", (link,) if near else ()


def _common(workdirs: Sequence[Path]) -> str:
    """The folder that all runs share, or the first of them and how many there are."""
    if any(path_names.is_remote(one) for one in workdirs):
        return str(workdirs[0].parent)
    parts = [one.absolute().parts for one in workdirs]
    shared = 0
    while len({part[: shared + 1] for part in parts}) == 1:
        shared += 1
    return str(pathlib.Path(*parts[0][:shared]))


def _table(records: Sequence[Record]) -> str:
    keys = run_groups.differing_keys(records)
    names = list(dict.fromkeys(name for record in records for name in record.results))
    columns = ["run", "workdir", "state", "step", "seconds", *keys, *names]
    rows = [
        {"run": one.name, "workdir": str(one.workdir), "state": one.state, "step": one.step, "seconds": one.seconds}
        | {key: one.config.get(key) for key in keys}
        | {name: one.results.get(name) for name in names}
        for one in records
    ]
    return tables.format_rows(rows, columns, "csv")
