"""`jaxvision evaluate --ensemble=RUN,RUN`: evaluates several runs, and all of them as one classifier."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxvision import evaluations, storage
from jaxvision.commands import tables
from jaxvision.commands.restore import restore
from jaxvision.errors import UserError, shown, unknown
from jaxvision.evals.classify import restricted
from jaxvision.evals.ensemble import MEANS, ensemble_log_probabilities, judge
from jaxvision.evals.predictions import make_predictions
from jaxvision.experiment import Experiment
from jaxvision.parallel.distributed import is_main, together
from jaxvision.storage import Path
from jaxvision.train.progress import console, words
from jaxvision.train.state import TrainState

ENSEMBLE = "ensemble"  # the place of a workdir in the rows of the ensemble itself
EVALUATOR = "classify"
COLUMNS = ("evaluator", "metric", "value", "step", "workdir")


class _Member(NamedTuple):
    """A run of the ensemble."""

    path: Path
    experiment: Experiment
    state: TrainState
    facts: Mapping[str, Any]  # what all members must have in common, by name


def run_ensemble(
    workdirs: Sequence[str | Path],
    step: int | str | None = None,
    evals: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    mean: str = "probabilities",
    form: str = tables.TABLE,
    out: str | Path | None = None,
) -> dict[str, dict[str, float]]:
    """Evaluates several runs and their ensemble, see `judge_ensemble`, and prints the results.

    Args:
      workdirs, step, evals, mean: Arguments of `judge_ensemble`.
      form: Format of the printed results, "table", "json", "jsonl" or "csv". A row is one number, with evaluator,
        metric, value, step and workdir, which is "ensemble" for the ensemble.
      out: File .json, .jsonl or .csv for the same rows.

    Returns:
      `{"NAME/metric": value}` for each workdir and for "ensemble". Nothing is written to the workdirs.

    Raises:
      UserError: The runs do not fit together, or nothing can be evaluated; see `judge_ensemble`.
    """
    tables.check_output(form, out)
    results, steps = judge_ensemble(workdirs, step, evals, mean=mean)
    if not is_main():
        return results
    rows: list[dict[str, Any]] = []
    for path, values in results.items():
        at = f" step {steps[path]}" if path in steps else ""
        for name, value in values.items():
            evaluator, _, metric = name.rpartition("/")
            rows.append(dict(zip(COLUMNS, (evaluator, metric, value, steps.get(path), path), strict=True)))
        if form == tables.TABLE:
            console().print(f"{path}{at}  {words(values)}", markup=False)
    tables.write_rows(rows, COLUMNS, form, out)
    return results


def judge_ensemble(
    workdirs: Sequence[str | Path],
    step: int | str | None = None,
    evals: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    mean: str = "probabilities",
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Evaluates several classifiers, and the mean of their answers.

    Args:
      workdirs: Folders of two runs or more.
      step: Step of the checkpoint of each, or "best", see `train.best.step_of`; None for the latest.
      evals: Section `evals` of a config, in place of that of the first run. Its entries with the evaluator `classify`
        are evaluated, with their `topk`, `label` and `only`.
      mean: Kind of the mean: of "probabilities" or of "logits".

    Returns:
      `{"NAME/metric": value}` for each workdir and for "ensemble", and the step of each workdir.

    Raises:
      UserError: There are fewer than two runs, or one twice; they have other classes, fields or preprocessing; or no
        entry can be evaluated.
    """
    if mean not in MEANS:
        raise unknown("value of --mean", mean, MEANS)
    paths = [storage.path(path, "--ensemble") for path in workdirs]
    if len(set(paths)) < max(2, len(paths)):
        raise UserError(f"an ensemble needs two runs or more, each once, not {', '.join(map(str, paths)) or 'none'}")
    with together("opening the runs of the ensemble"):
        members = [_open(path, step) for path in paths]
        entries = _entries(members[0].experiment.evals if evals is None else evaluations.read_entries(evals))
        for member in members[1:]:
            _check_same(members[0], member)
    results: dict[str, dict[str, float]] = {str(path): {} for path in [*paths, ENSEMBLE]}
    for entry in entries:
        prefix, logits, labels = _logits(entry, members)
        alone = (ensemble_log_probabilities(one[None]) for one in logits)
        of = {str(member.path): one for member, one in zip(members, alone, strict=True)}
        of[ENSEMBLE] = ensemble_log_probabilities(logits, mean)
        for path, log_probabilities in of.items():
            judged = judge(log_probabilities, labels, entry.options.get("topk", (1, 5)))
            results[path] |= {
                f"{entry.name}/{'' if name == 'examples' else prefix}{name}": value for name, value in judged.items()
            }
    return results, {str(member.path): int(member.state.step) for member in members}


def _open(path: Path, step: int | str | None) -> _Member:
    experiment, state, meta = restore(path, step)
    host, transform = (meta["preprocessing"][name] for name in ("host", "augment"))
    image = experiment.image
    facts = {
        "classes": list(meta["classes"]) or meta["data"]["classes"],
        "fields": list(experiment.data.fields),
        "size of the images": None if image is None else list(experiment.batch[image].shape[1:3]),
        "preprocessing on the host": host,
        "preprocessing on the device": transform,
        "statistics of the training set": {k: np.asarray(v).tolist() for k, v in sorted(experiment.statistics.items())},
    }
    return _Member(path, experiment, state, facts)


def _check_same(first: _Member, other: _Member) -> None:
    for name, value in first.facts.items():
        if other.facts[name] != value:
            raise UserError(
                f"{first.path} and {other.path} have other {name}, so they are no ensemble: {shown(value)} and "
                f"{shown(other.facts[name])}"
            )


def _entries(entries: Sequence[evaluations.Entry]) -> list[evaluations.Entry]:
    chosen = [entry for entry in entries if entry.common.name == EVALUATOR]
    if not chosen:
        names = ", ".join(f"{entry.name} ({entry.common.name})" for entry in entries) or "none"
        raise UserError(
            f"an ensemble is evaluated by entries with the evaluator {EVALUATOR!r}, and there is none. The entries: "
            f"{names}. Give --config=FILE.py with one"
        )
    return chosen


def _logits(entry: evaluations.Entry, members: Sequence[_Member]) -> tuple[str, np.ndarray, np.ndarray]:
    """A prefix of the names of metrics, the logits of the members, float32 [m, n, k], and the labels, int [n]."""
    found = []
    label = entry.options.get("label", "label")
    for member in members:
        judged = member.experiment.judged()._replace(data=members[0].experiment.data)
        data = evaluations.open_split(entry.common, entry.common.split, entry.common.subset, judged, {})
        variables = evaluations.VARIABLES[entry.common.weights](member.state)
        predict = make_predictions(task=judged.task, data=data, variables=variables, label=label)
        found.append(predict(variables))
    if any(not np.array_equal(one.rows, found[0].rows) for one in found):
        raise UserError(f"evals.{entry.name}: other examples could be read by each run of the ensemble: repair the set")
    logits, labels = np.stack([one.logits for one in found]), found[0].labels
    if (only := entry.options.get("only")) is None:
        return "", logits, labels
    kept, places, prefix = restricted(data.info, judged.info, label, only)
    rows = places[labels] >= 0
    if not rows.any():
        raise UserError(f"evals.{entry.name}: the split has no image of the classes of only={only!r}")
    return prefix, logits[:, rows][:, :, kept], places[labels[rows]]
