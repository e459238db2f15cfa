"""The folder of a run: what lies in it, and whether a command may write there.

config.json          the resolved config
run.json             versions, devices, git commit and command of every launch, and where its time went
metrics.jsonl        every number, a line a step; tensorboard/ holds the same
bad_records.jsonl    the first examples that could not be read, where there are any
checkpoints/STEP     state and metadata
results.json         written at the end: the last evaluation of each evaluator

It may lie in a bucket (`storage.py`).
"""

import importlib.metadata
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.storage import Path

LIBRARIES = ("jaxvision", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    storage.write(path, json.dumps(value, indent=2) + "\n")


def saved_config(workdir: Path) -> ConfigDict:
    """The config of the run in `workdir`, without running any config file."""
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir} holds no run (no config.json)")
    return configs.saved(path.read_text(), str(path))


def results(workdir: Path) -> dict[str, Any] | None:
    """What results.json says, or None while the run is unfinished."""
    path = workdir / "results.json"
    return json.loads(path.read_text()) if path.is_file() else None


def claim(workdir: Path, config: ConfigDict, *, fresh: bool = False, resume: bool = False) -> None:
    """Makes `workdir` the folder of a run of `config`, or raises what `check` does before anything is changed.

    Args:
      workdir: created if absent.
      config: of the run.
      fresh: a run that lies there is moved aside, to `WORKDIR.1`, `WORKDIR.2`, ...
      resume: a run that lies there goes on under `config`, even where it was made from another.

    Raises:
      UserError: what `check` refuses, or the folder cannot be written.
    """
    check(workdir, config, fresh=fresh, resume=resume)
    if fresh and (workdir / "config.json").is_file():
        aside = next(p for i in range(1, 10**6) if not (p := workdir.with_name(f"{workdir.name}.{i}")).exists())
        workdir.rename(aside)
    with storage.reaching(workdir, "write to the workdir"):
        storage.make_folder(workdir)
        write_json(workdir / "config.json", json.loads(configs.to_json(config)))
        if resume:
            (workdir / "results.json").unlink(missing_ok=True)


def check(workdir: Path, config: ConfigDict, *, fresh: bool = False, resume: bool = False) -> None:
    """Whether `claim` will not refuse the workdir; writes nothing.

    Raises:
      UserError: a run of another config lies there (the differing keys are named), or one is to be moved aside in a
        bucket, which cannot rename.
    """
    if fresh and resume:
        raise UserError("--fresh and --resume exclude each other")
    if resume or not (workdir / "config.json").is_file():
        return
    if fresh:
        if storage.is_remote(workdir):
            raise UserError(
                f"--fresh cannot move aside the run in {workdir}: a bucket copies what is renamed. Give another "
                f"--workdir, or move it yourself: gcloud storage mv {workdir} {workdir}.1"
            )
        return
    changed = configs.differences(saved_config(workdir), config)
    if changed:
        raise UserError(
            f"{workdir} holds a run of another config. It differs in (there -> here):\n  "
            + "\n  ".join(changed)
            + "\n--fresh moves that run aside and starts anew, --resume goes on with this config."
        )


def record_launch(workdir: Path, config: ConfigDict, start: int, notes: Sequence[str] = ()) -> None:
    """Adds this launch to run.json, with `notes` on the weights that it starts from."""
    path = workdir / "run.json"
    launches = json.loads(path.read_text())["launches"] if path.is_file() else []
    launch = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "start_step": start,
        "init": list(notes),
        "config_fingerprint": configs.fingerprint(config),
        "versions": versions(),
        "devices": [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()],
        "processes": jax.process_count(),
        "git": git_commit(),
    }
    write_json(path, {"launches": [*launches, launch]})


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a result depends on."""
    found = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """Commit of this source tree, with "+changes" where files differ from it; None outside a git checkout."""
    here = pathlib.Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
