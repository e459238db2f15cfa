"""What is known of a run, read from its workdir. Nothing is locked or changed, so a run may be in progress."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxvision import config as configs
from jaxvision import line_files, processes
from jaxvision import workdir as workdirs
from jaxvision.errors import UserError
from jaxvision.reading import read_json
from jaxvision.storage import Path
from jaxvision.train import divergence, metrics, transcript

_WARNING = "warning: "  # beginning of a line of console.txt
MEMBER = "@"  # in the names of metrics of a population, which has a workdir for each member, too


class Record(NamedTuple):
    """A run, as its files describe it.

    Attributes:
      name: Short name that differs from those of the other runs.
      workdir: Folder of the run.
      config: Value by dotted key.
      lines: Lines of metrics.jsonl.
      results: Last value of each result, `{"NAME/metric": value}`; None for one that is not finite.
      step: Latest step of which something is known.
      state: "finished", "running", "stopped" (by a signal), "failed", "interrupted" (killed, or of unknown end), or
        "not started".
      launches: Launches in run.json, the latest last.
      warnings: Sentences about what happened that a reader should know.
      ended: Why a finished run with `train.keep_best` ended, in words.
      best: Its `metric`, the best `value` (None if it is not finite) and its `step`; empty without `train.keep_best`.
    """

    name: str
    workdir: Path
    config: dict[str, Any]
    lines: list[dict[str, Any]]
    results: dict[str, float | None]
    step: int
    state: str
    launches: list[dict[str, Any]]
    warnings: tuple[str, ...]
    ended: str = ""
    best: Mapping[str, Any] = {}

    @property
    def seconds(self) -> float | None:
        """Time of all launches so far in seconds; None if it is not known."""
        walls = [one["goodput"]["wall"] for one in self.launches if "wall" in one.get("goodput", {})]
        return sum(walls) if walls else None

    @property
    def reconfigured(self) -> bool:
        """True if it was continued under another config (--resume)."""
        return _is_reconfigured(self.launches)

    @property
    def evaluators(self) -> tuple[str, ...]:
        """Names of its evaluations, the longest first."""
        names = {key.split(".")[1] for key in self.config if key.startswith("evals.")}
        nested = {"/".join(parts) for key in self.config if (parts := _of_sets(key.split(".")))}
        return tuple(sorted(names | nested, key=len, reverse=True))


def read_run(workdir: Path, name: str | None = None) -> Record:
    """Reads a run. What is damaged or missing besides the config becomes a warning.

    Args:
      workdir: Folder of the run.
      name: Name for the run; None for that of its folder.

    Raises:
      UserError: The folder holds no run, or its config cannot be read.
    """
    config = configs.flatten(workdirs.saved_config(workdir))
    warnings: list[str] = []
    launches: list[dict[str, Any]] = []
    done: dict[str, Any] | None = None
    parsed = metrics.Lines([], [], "")
    try:
        launches = workdirs.launches(workdir)
    except UserError as error:
        warnings.append(str(error))
    try:
        done = workdirs.results(workdir)
    except UserError as error:
        warnings.append(str(error))
    try:
        parsed = metrics.parse(workdir / "metrics.jsonl")
    except UserError as error:
        warnings.append(str(error))
    lines = parsed.lines
    results = done["results"] if done else {
        name: value for line in lines for name, value in line.items() if "/" in name and MEMBER not in name
    }  # fmt: skip
    step = max([line["step"] for line in lines] + [done["steps"] if done else 0])
    state = _state(workdir, launches, done is not None)
    if parsed.damaged:
        numbers = ", ".join(map(str, parsed.damaged[:10]))
        warnings.append(f"Lines of metrics.jsonl that cannot be read are left out: {numbers}.")
    warnings += _warnings(lines, results, launches, state)
    warnings += _printed(workdir)
    shown_name = name or workdir.name or str(workdir)
    ended, best = (done or {}).get("ended") or "", (done or {}).get("best") or {}
    return Record(shown_name, workdir, config, lines, results, step, state, launches, tuple(warnings), ended, best)


def _state(workdir: Path, launches: Sequence[Mapping[str, Any]], done: bool) -> str:
    if done:
        return "finished"
    if not launches:
        return "not started"
    end = launches[-1].get("goodput", {}).get("end", "running")
    if end in ("stopped", "failed"):
        return end
    try:
        owner = read_json(workdir / "lock.json", dict)
    except UserError:  # there is none, or it is just being written
        return "interrupted"
    return "interrupted" if processes.is_alive(owner) is False else "running"  # a process that was killed leaves it


def _is_reconfigured(launches: Sequence[Mapping[str, Any]]) -> bool:
    found = {one.get("config_fingerprint") for one in launches}
    return any(one.get("resume") for one in launches[1:]) and (len(found) > 1 or None in found)


def _warnings(
    lines: Sequence[Mapping[str, Any]], results: Mapping[str, Any], launches: Sequence[Mapping[str, Any]], state: str
) -> list[str]:
    """What happened during the run that its curves do not say at a glance."""
    said = []
    counts = {name: sum(line.get(name) or 0 for line in lines) for name in ("skipped_steps", "loss_spikes")}
    if skipped := int(counts["skipped_steps"]):
        said.append(f"{skipped:,} steps were skipped because a number was not finite; curves are over the others.")
    if spikes := int(counts["loss_spikes"]):
        said.append(f"The loss of {spikes:,} steps was a spike (7 standard deviations above its average).")
    if bad := int(max((line.get("bad_records") or 0 for line in lines), default=0)):
        said.append(f"{bad:,} examples could not be read; bad_records.jsonl names the first.")
    if why := divergence.of_numbers(lines, results):
        said.append(f"The run diverged: {why}.")
    if len(launches) > 1:
        steps = ", ".join(f"{one['start_step']:,}" for one in launches[1:])
        said.append(f"The run was launched {len(launches)} times; it resumed at step {steps}.")
    if _is_reconfigured(launches):
        said.append("It was continued under another config (--resume); this page shows the latest.")
    if len(commits := {one.get("git") for one in launches}) > 1:
        said.append(f"Its launches ran {len(commits)} different versions of the code.")
    elif any(str(commit).endswith("+changes") for commit in commits):
        said.append("The code had changes that are in no commit.")
    if state in ("failed", "stopped", "interrupted"):
        said.append(
            f"The run is not finished: its last launch was {'stopped by a signal' if state == 'stopped' else state}."
        )
    return said


def _printed(workdir: Path) -> list[str]:
    """The warnings that the last launch printed, except those of skipped steps, which are counted above."""
    try:
        shown = line_files.read_lines(workdir / transcript.NAME)
    except OSError:
        return []
    last = max((number for number, line in enumerate(shown) if line.startswith("--- ")), default=0)
    found = [line.removeprefix(_WARNING) for line in shown[last:] if line.startswith(_WARNING)]
    return [f"{line[0].upper()}{line[1:]}" for line in dict.fromkeys(found) if line and "of the last" not in line]


def split_name(result: str, evaluators: Sequence[str]) -> tuple[str, str]:
    """Splits the name of a result into evaluation and metric.

    Args:
      result: Name of a result.
      evaluators: Names of evaluations, the longest first.

    >>> split_name("val/x/top1", ["val/x", "val"]), split_name("test/knn/top1", [])
    (('val/x', 'top1'), ('test', 'knn/top1'))
    """
    for evaluator in evaluators:
        if result.startswith(f"{evaluator}/"):
            return evaluator, result.removeprefix(f"{evaluator}/")
    first, _, rest = result.partition("/")
    return first, rest


def _of_sets(parts: Sequence[str]) -> tuple[str, ...]:
    """The name of the evaluation of a key `evals.NAME.sets.SET.KEY`, in parts; empty for another key."""
    return (parts[1], parts[3]) if len(parts) > 4 and parts[0] == "evals" and parts[2] == "sets" else ()
