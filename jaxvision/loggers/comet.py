"""Comet: https://www.comet.com/docs."""

import json
import logging
import os
import pathlib
import shlex
from collections.abc import Callable
from typing import Any, Literal

from jaxvision import line_files
from jaxvision.errors import UserError
from jaxvision.loggers.base import Event, Run, flat, local_folder
from jaxvision.registry import part

FOLDER = "comet"  # of offline experiments, in the workdir
EMPTY = 22  # bytes of an archive without files


@part("logger", "comet", background=True, library="comet_ml")
def make_comet(
    *,
    run: Run,
    project: str = "jaxvision",
    workspace: str | None = None,
    tags: tuple[str, ...] = (),
    mode: Literal["online", "offline"] = "online",
) -> Callable[[Event], None]:
    """Makes a logger that writes to Comet.

    A resumed run continues the experiment of the same key. Comet deletes no line, so the lines that were logged after
    the checkpoint of a killed run come twice, with the same numbers. Offline, a killed launch leaves an empty archive;
    the next one then logs all lines of metrics.jsonl again.

    Args:
      run: Run.
      project, workspace: Project, and the workspace that owns it.
      tags: Tags of the experiment.
      mode: "online"; "offline" to keep the experiment in `WORKDIR/comet` until `comet upload`.

    Raises:
      UserError: There is no API key.
    """
    os.environ.setdefault("COMET_DISABLE_AUTO_LOGGING", "1")  # else it changes matplotlib and other libraries
    os.environ.setdefault("COMET_ERROR_TRACKING_ENABLE", "false")  # else it sends its warnings to a third party
    import comet_ml

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # else it warns of each attempt to connect
    for handler in logging.getLogger("comet_ml").handlers:
        handler.addFilter(_is_needed)

    if mode == "online" and comet_ml.get_config("comet.api_key") is None:
        raise UserError(
            "the logger 'comet' has no API key: run `comet login`, set the variable COMET_API_KEY, or set "
            "loggers.comet.mode to 'offline'"
        )
    page: Any = None
    folder = local_folder(run, FOLDER)

    def log(event: Event) -> None:
        nonlocal page
        if event.kind == "start":
            lost = _take_lost(pathlib.Path(folder), run, event.step) if folder and mode == "offline" else []
            page = comet_ml.start(
                workspace=workspace,
                project_name=project,
                experiment_key=run.id,
                mode="get_or_create",
                online=mode == "online",
                experiment_config=comet_ml.ExperimentConfig(
                    name=run.name,
                    tags=list(tags) or None,
                    offline_directory=folder,
                    log_code=False,
                    log_graph=False,
                    parse_args=False,
                    display_summary_level=0,
                    auto_output_logging="",
                    auto_param_logging=False,
                    auto_metric_logging=False,
                    auto_log_co2=False,
                ),
            )
            page.log_parameters(flat(run.config))
            for step, numbers in lost:
                page.log_metrics(numbers, step=step)
            archives = f"{shlex.quote(folder or '.cometml-runs')}/*.zip"
            where = page.url if mode == "online" else f"offline; to upload it at the end: comet upload {archives}"
            run.say(f"comet: {where}")
        elif event.kind in ("log", "evaluation"):
            page.log_metrics(dict(event.metrics), step=event.step)
        elif event.kind == "end":
            page.log_other("status", event.status)
            page.log_others({f"result/{name}": value for name, value in event.metrics.items()})
            page.end()

    return log


def _take_lost(folder: pathlib.Path, run: Run, step: int) -> list[tuple[int, dict[str, float]]]:
    """The lines of metrics.jsonl up to a step, if a launch was killed; removes the empty archives that it left."""
    empty = [archive for archive in folder.glob("*.zip") if archive.stat().st_size == EMPTY]
    for archive in empty:
        archive.unlink()
    texts = line_files.read_lines(run.workdir / "metrics.jsonl") if empty else []
    lines = [json.loads(text) for text in texts if text.endswith("}")]  # the last one may be half written
    kept = [(line.pop("step"), line) for line in lines if line["step"] <= step]
    return [(at, {name: value for name, value in line.items() if value is not None}) for at, line in kept]


def _is_needed(record: logging.LogRecord) -> bool:
    """Drops what Comet says of its progress, and that it could change other libraries if it were imported first."""
    return record.levelno > logging.INFO and not record.getMessage().startswith("To get all data logged automatically")
