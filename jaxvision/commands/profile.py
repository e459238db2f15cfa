"""Prints what `train --profile` recorded: the most expensive operations, and how to open the trace."""

import contextlib
import logging
import shlex
from collections.abc import Iterator

from jaxvision.analysis import traces
from jaxvision.storage import Path
from jaxvision.train.goodput import Goodput, words
from jaxvision.train.profiler import FOLDER, Profiler, Recorded, Steps
from jaxvision.train.progress import console

MOST = 10  # operations that are listed

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def profiling(
    steps: Steps | None, workdir: Path, goodput: Goodput, total: int, quiet: bool
) -> Iterator[Profiler | None]:
    """Returns a context that records steps of a run and prints the profile at its end.

    A launch that ends by an exception, such as that of a signal, has little time: it only says where the trace is.

    Args:
      steps: Steps to record; None for none.
      workdir: Folder of the run.
      goodput: Meter of the loop.
      total: Number of steps of the run.
      quiet: True to print nothing.

    Returns:
      A context with the profiler, or None.
    """
    if steps is None:
        yield None
        return
    profiler, ended = Profiler(steps, workdir, goodput), False
    try:
        with profiler:
            yield profiler
        ended = True
    finally:
        if not quiet:
            _print(profiler, workdir, total, ended)
        profiler.clean()


def _print(profiler: Profiler, workdir: Path, total: int, ended: bool) -> None:
    """Prints what was recorded. It raises nothing: the run is over, and what became of it counts more."""
    try:
        if profiler.recorded is not None and ended:
            print_profile(profiler.recorded, workdir)
        elif profiler.recorded is not None:
            console().print(f"trace: {workdir / FOLDER}", markup=False)
        if missing := profiler.missing(total):
            console().print(missing)
    except Exception as error:
        _log.warning("the profile in %s cannot be shown (%s: %s)", workdir / FOLDER, type(error).__name__, error)


def print_profile(recorded: Recorded, workdir: Path) -> None:
    """Prints a profile: shares of the time, the most expensive operations, and how to open the trace.

    Args:
      recorded: Trace, and where its time went.
      workdir: Folder of the run.
    """
    out = console()
    first, last = recorded.steps
    shares = words({"wall": recorded.wall, "seconds": recorded.seconds}).partition(": ")[2]
    out.print(f"profile of the steps {first} to {last}, {recorded.wall:.3g} s: {shares}", markup=False)
    trace = traces.read_trace(recorded.folder)
    if trace.seconds:
        busy = min(trace.busy / recorded.wall, 1.0)
        out.print(f"the devices computed in {busy:.1%} of this time and were idle in {1 - busy:.1%}")
        for line in lines_of(trace, last - first):
            out.print(line, markup=False)
    else:
        out.print("the trace has no operations of a device")
    files = sorted(recorded.folder.glob("plugins/profile/*/*.trace.json.gz"))
    place = workdir / FOLDER / str(files[-1].relative_to(recorded.folder))
    out.print(f"trace: {place} (open it in https://ui.perfetto.dev)", markup=False)
    viewer = f"tensorboard --logdir={shlex.quote(str(workdir))}"
    out.print(f"or:    pip install 'jaxvision[profile]'; {viewer} (tab Profile)", markup=False)


def lines_of(trace: traces.Trace, steps: int) -> list[str]:
    """Returns the lines of a table of the most expensive operations, and of all by kind. Times are means over devices.

    Args:
      trace: Trace with at least one operation.
      steps: Number of steps in it.

    >>> trace = traces.Trace({traces.Operation("dot.1", "jit(f)/jvp(ViT)/block_0/mlp/dot_general"): 0.02}, 0.02)
    >>> print(*lines_of(trace, 2), sep="\\n")
    the most expensive of 1 operations:
    share  ms a step  kind             where
    100.0%     10.000  matrix products  forward ViT/block_0/mlp/dot_general
    all operations by kind: matrix products 100.0%
    """
    total = sum(trace.seconds.values())
    ordered = sorted(trace.seconds.items(), key=lambda item: -item[1])
    listed = ordered[:MOST]
    width = max(len(operation.kind) for operation, _ in listed)
    table = []
    for operation, seconds in listed:
        where = f"{operation.direction} {operation.path}" if operation.source else operation.name
        numbers = f"{seconds / total:6.1%} {1e3 * seconds / trace.devices / steps:10.3f}"
        table.append(f"{numbers}  {operation.kind:{width}s}  {where}")
    kinds = sorted(traces.grouped(trace.seconds, "kind").items(), key=lambda item: -item[1])
    return [
        f"the most expensive of {len(ordered)} operations:",
        f" share  ms a step  {'kind':{width}s}  where",
        *table,
        "all operations by kind: " + ", ".join(f"{kind} {seconds / total:.1%}" for kind, seconds in kinds),
    ]
