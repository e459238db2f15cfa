"""`jaxvision evaluate`: evaluate a checkpoint of a run, or converted weights."""

import json
import time
from collections.abc import Mapping
from typing import Any

from jaxvision import evaluations, inputs, storage
from jaxvision import workdir as workdirs
from jaxvision.commands import tables
from jaxvision.commands.restore import open_weights, restore
from jaxvision.errors import UserError
from jaxvision.experiment import Experiment
from jaxvision.models.weights import folder
from jaxvision.parallel.distributed import is_main, together
from jaxvision.storage import Path
from jaxvision.train.loop import Evaluation
from jaxvision.train.progress import console, print_cautions, words
from jaxvision.train.state import TrainState

COLUMNS = ("evaluator", "metric", "value", "step", "workdir")
Sections = Mapping[str, Mapping[str, Any]]


def run_evaluate(
    path: str | Path,
    step: int | str | None = None,
    evals: Sections | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    features: str | Path | None = None,
    form: str = tables.TABLE,
    out: str | Path | None = None,
) -> dict[str, float]:
    """Runs the evaluations of the saved config, or those of `evals`.

    Args:
      path: Folder of a run, or of converted weights.
      step: Step of the checkpoint, or "best", see `train.best.step_of`; None for the latest.
      evals: Section `evals` of a config, in place of the saved one; converted weights have none of their own.
      data: Section `data` of a config; converted weights need it, unless each of `evals` names its data.
      features: Folder that keeps the features of splits, so that later evaluations need not compute them.
      form: Format of the printed results, "table", "json", "jsonl" or "csv". A row is one number, with evaluator,
        metric, value, step and workdir.
      out: File .json, .jsonl or .csv for the same rows.

    Returns:
      `{"NAME/metric": value}`. It is also appended to PATH/evaluations.jsonl, with step, time and commit, and `evals`
      if given.

    Raises:
      UserError: The workdir, the step or an evaluation has a mistake that the user can fix.
    """
    tables.check_output(form, out)
    path = storage.path(path, "--workdir")
    features = None if features is None else storage.path(features, "--features")
    with together("opening the evaluations"):
        if folder.is_folder(path):
            chosen, state = _of_weights(path, step, evals, data, features)
        else:
            chosen, state = _of_run(path, step, evals, features)
    if is_main():
        print_cautions((line for one in chosen for line in one.cautions), stderr=form != tables.TABLE)
    at = int(state.step)
    results: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for evaluation in chosen:
        evaluation.expect(state)
    for evaluation in chosen:
        values = evaluation.run(state)
        named = {f"{evaluation.name}/{name}": value for name, value in values.items()}
        results |= named
        common = {"evaluator": evaluation.name, "step": at, "workdir": str(path)}
        rows += [{**common, "metric": name, "value": float(value)} for name, value in values.items()]
        if is_main() and form == tables.TABLE:
            console().print(f"step {at}  {words(named)}")
    if is_main():
        line: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "step": at, "git": workdirs.git_commit()}
        line |= results
        if evals is not None:
            line["evals"] = {name: dict(section) for name, section in evals.items()}
        storage.append(path / "evaluations.jsonl", json.dumps(line) + "\n")
        tables.write_rows(rows, COLUMNS, form, out)
    return results


def _of_run(
    path: Path, step: int | str | None, evals: Sections | None, features: str | Path | None
) -> tuple[list[Evaluation], TrainState]:
    experiment, state, _ = restore(path, step)
    if evals is not None:
        experiment = experiment._replace(evals=evaluations.read_entries(evals))
    return _with_training_set(experiment).evaluations(features), state


def _with_training_set(experiment: Experiment) -> Experiment:
    """Opens the training set if an evaluation uses it and it is here, to warn if they share images."""
    if all(entry.common.data for entry in experiment.evals):
        return experiment
    try:
        source, *_ = inputs.open_or_describe(experiment.data, "optional", experiment.stored)
    except UserError:  # another data set is there by now; the model can be evaluated without it
        source = None
    return experiment._replace(source=source)


def _of_weights(
    path: Path, step: int | str | None, evals: Sections | None, data: Mapping | None, features: str | Path | None
) -> tuple[list[Evaluation], TrainState]:
    if step is not None:
        raise UserError(f"{path} holds converted weights, which have no steps: leave out --step")
    if not evals:
        raise UserError(f"{path} holds converted weights, which name no evaluations: add --config=FILE.py with 'evals'")
    entries = evaluations.read_entries(evals)
    if lacking := [entry.name for entry in entries if not data and not entry.common.data]:
        where = f"evals.{lacking[0]}"
        raise UserError(f"{where} has no data set: set '{where}.data', or add a section 'data' to the config")
    judged, state, _ = open_weights(path, data, features)
    return evaluations.make_evaluations(entries, judged, lambda every: 0), state
