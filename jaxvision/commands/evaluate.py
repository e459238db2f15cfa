"""`jaxvision evaluate`: run the evaluations of a finished or running workdir again, or others."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxvision import workdir as workdirs
from jaxvision.commands.restore import restore
from jaxvision.parallel.distributed import is_main
from jaxvision.train.progress import console, words


def run(
    workdir: str | Path, step: int | None = None, evals: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, float]:
    """Evaluates a checkpoint as the saved config says, or as `evals` does.

    Args:
      workdir: folder of a run.
      step: of the checkpoint; the latest by default.
      evals: as section `evals` of a config, in place of the saved one.

    Returns:
      `{"NAME/metric": value}`; also appended to WORKDIR/evaluations.jsonl, with step, time and commit, and
      `evals` where given.
    """
    workdir = Path(workdir)
    experiment, state, _ = restore(workdir, step)
    if evals is not None:
        experiment = experiment._replace(config=ConfigDict({**experiment.config.to_dict(), "evals": dict(evals)}))
    at, results = int(state.step), {}
    for evaluation in experiment.evaluations():
        found = {f"{evaluation.name}/{name}": value for name, value in evaluation.run(state).items()}
        results |= found
        if is_main():
            console().print(f"step {at}  {words(found)}")
    if is_main():
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "step": at, "git": workdirs.git_commit(), **results}
        if evals is not None:
            line["evals"] = experiment.config.evals.to_dict()
        with (workdir / "evaluations.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
    return results
