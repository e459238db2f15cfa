"""`jaxvision evaluate`: run the evaluations of a finished or running workdir again."""

import json
import time
from pathlib import Path

from jaxvision import workdir as workdirs
from jaxvision.commands.restore import restore
from jaxvision.parallel.distributed import is_main
from jaxvision.train.progress import console, words


def run(workdir: str | Path, step: int | None = None) -> dict[str, float]:
    """Evaluates a checkpoint as the saved config says. No config file is executed.

    Args:
      workdir: folder of a run.
      step: of the checkpoint; the latest by default.

    Returns:
      `{"NAME/metric": value}`; also appended, with step and time, to WORKDIR/evaluations.jsonl.
    """
    workdir = Path(workdir)
    experiment, state, _ = restore(workdir, step)
    at, results = int(state.step), {}
    for evaluation in experiment.evaluations():
        found = {f"{evaluation.name}/{name}": value for name, value in evaluation.run(state).items()}
        results |= found
        if is_main():
            console().print(f"step {at}  {words(found)}")
    if is_main():
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "step": at, "git": workdirs.git_commit(), **results}
        with (workdir / "evaluations.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
    return results
