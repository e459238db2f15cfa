"""Weights & Biases: https://docs.wandb.ai."""

import shlex
from collections.abc import Callable
from typing import Any, Literal

from jaxvision.errors import UserError
from jaxvision.loggers.base import Event, Run, local_folder
from jaxvision.registry import part

FINISH_SECONDS = 45.0  # what is not uploaded by then stays in the workdir, for `wandb sync`


@part("logger", "wandb", background=True, library="wandb")
def make_wandb(
    *,
    run: Run,
    project: str = "jaxvision",
    entity: str | None = None,
    group: str | None = None,
    tags: tuple[str, ...] = (),
    notes: str | None = None,
    mode: Literal["online", "offline"] | None = None,
) -> Callable[[Event], None]:
    """Makes a logger that writes to Weights & Biases; its files are in `WORKDIR/wandb`.

    A resumed run continues the run of the same id. W&B deletes no line, so the lines that were logged after the
    checkpoint of a killed run come twice, with the same numbers: all charts are over `step`, where they coincide.

    Args:
      run: Run.
      project, entity: Project, and the user or team that owns it.
      group: Group of the run, such as the name of a study.
      tags: Tags of the run.
      notes: Description of the run.
      mode: "online"; "offline" to keep the run in the workdir until `wandb sync`; None for that of the variable
        WANDB_MODE, or "online".

    Raises:
      UserError: Nobody is logged in.
    """
    import wandb

    # With a console of its own, W&B would capture the output of the program.
    settings = wandb.Settings(console="off", silent=True, finish_timeout=FINISH_SECONDS)
    if (mode or wandb.setup().settings.mode) == "online":
        try:
            wandb.login(verify=False)  # without a request to the server, which may not answer now
        except wandb.errors.Error as error:
            raise UserError(
                f"the logger 'wandb' cannot log in: {error} Or set loggers.wandb.mode to 'offline'"
            ) from None
    page: Any = None

    def log(event: Event) -> None:
        nonlocal page
        if event.kind == "start":
            page = wandb.init(
                project=project,
                entity=entity,
                group=group,
                tags=tags or None,
                notes=notes,
                mode=mode,
                name=run.name,
                id=run.id,
                resume="allow",
                dir=local_folder(run, ""),
                reinit="create_new",
                settings=settings,
            )
            page.config.update(dict(run.config), allow_val_change=True)
            page.define_metric("*", step_metric="step")
            upload = f"offline; to upload it: wandb sync {shlex.quote(page.settings.sync_dir)}"
            run.say(f"wandb: {upload if page.offline else page.url}")
        elif event.kind in ("log", "evaluation"):
            page.log({"step": event.step, **event.metrics})
        elif event.kind == "end":
            page.summary.update(dict(event.metrics))
            page.finish(exit_code=0 if event.status == "finished" else 1)

    return log
