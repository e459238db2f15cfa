"""MLflow: https://mlflow.org."""

import logging
import math
import re
import time
from collections.abc import Callable, Mapping

from jaxvision.loggers.base import Event, Run, flat
from jaxvision.registry import part

ID_TAG = "jaxvision.id"
MOST_PARAMS = 100  # parameters in a request; MLflow takes no more
LONGEST = 6000  # characters of a parameter
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


@part("logger", "mlflow", background=True, library="mlflow")
def make_mlflow(
    *,
    run: Run,
    experiment: str = "jaxvision",
    uri: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Callable[[Event], None]:
    """Makes a logger that writes to MLflow.

    A resumed run continues the run with the same id (tag `jaxvision.id`). Lines that were logged after the checkpoint
    of a killed run, and come again with the same numbers, are left out. MLflow cannot change a parameter: if the config
    was changed with `--resume`, the first values stay.

    Args:
      run: Run.
      experiment: Name of the experiment; made if there is none.
      uri: Address of the tracking server, `sqlite:///FILE` or a folder; None for that of the variable
        MLFLOW_TRACKING_URI, or MLflow's own default.
      tags: Tags of the run.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # else it warns of each attempt to connect
    client = MlflowClient(tracking_uri=uri)
    logged: dict[str, set[int]] = {}  # steps of each metric that an earlier launch has logged
    page, resumed = "", False

    def metric(name: str, value: float, step: int) -> Metric | None:
        key = re.sub(r"[^\w\-./ ]", "_", name)
        if resumed and key not in logged:
            logged[key] = {one.step for one in client.get_metric_history(page, key)}
        return None if step in logged.get(key, ()) else Metric(key, float(value), int(1000 * time.time()), step)

    def log(event: Event) -> None:
        nonlocal page, resumed
        if event.kind == "start":
            there = client.get_experiment_by_name(experiment)
            parent = there.experiment_id if there else client.create_experiment(experiment)
            found = client.search_runs([parent], f"tags.`{ID_TAG}` = '{run.id}'", max_results=1)
            resumed = bool(found)
            if found:
                page = found[0].info.run_id
                client.update_run(page, status="RUNNING")
            else:
                page = client.create_run(
                    parent, run_name=run.name, tags={ID_TAG: run.id, **dict(tags or {})}
                ).info.run_id
            known = found[0].data.params if found else {}
            params = [Param(key, str(value)[:LONGEST]) for key, value in flat(run.config).items() if key not in known]
            for first in range(0, len(params), MOST_PARAMS):
                client.log_batch(page, params=params[first : first + MOST_PARAMS])
            client.log_batch(page, tags=[RunTag("jaxvision.workdir", str(run.workdir))])
            run.say(f"mlflow: run {page} of the experiment {experiment!r} in {client.tracking_uri}")
        elif event.kind in ("log", "evaluation"):
            metrics = [
                metric(name, value, event.step) for name, value in event.metrics.items() if not math.isinf(value)
            ]
            client.log_batch(page, metrics=[one for one in metrics if one is not None])
        elif event.kind == "end":
            client.set_terminated(page, STATUS[event.status])

    return log
