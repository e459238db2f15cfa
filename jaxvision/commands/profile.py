"""Prints what `train --profile` recorded: the most expensive operations, and how to open the trace."""

import shlex

from jaxvision.analysis import traces
from jaxvision.storage import Path
from jaxvision.train.goodput import words
from jaxvision.train.profiler import FOLDER, Recorded
from jaxvision.train.progress import console

MOST = 10  # operations that are listed


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
    """Returns the lines of a table of the most expensive operations, and of all by kind.

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
        numbers = f"{seconds / total:6.1%} {1e3 * seconds / steps:10.3f}"
        table.append(f"{numbers}  {operation.kind:{width}s}  {where}")
    kinds = sorted(traces.grouped(trace.seconds, "kind").items(), key=lambda item: -item[1])
    return [
        f"the most expensive of {len(ordered)} operations:",
        f" share  ms a step  {'kind':{width}s}  where",
        *table,
        "all operations by kind: " + ", ".join(f"{kind} {seconds / total:.1%}" for kind, seconds in kinds),
    ]
