"""The folder of a run: what lies in it, and whether a command may write there.

config.json          the resolved config
run.json             versions, devices, git commit and command of every launch
metrics.jsonl        every number, a line a step; tensorboard/ holds the same
checkpoints/STEP     state and metadata, with the config; digests of all of it
results.json         written at the end: the last evaluation of each evaluator

It may lie in a bucket (`storage.py`).
"""

import importlib.metadata
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.reading import read_json, read_text
from jaxvision.storage import Path
from jaxvision.train.checkpoint import Saved

LIBRARIES = ("jaxvision", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    storage.write(path, json.dumps(value, indent=2) + "\n")


def saved_config(workdir: Path) -> ConfigDict:
    """The config of the run in `workdir`, without running any config file."""
    path = workdir / "config.json"
    if workdir.is_file():
        raise UserError(f"{workdir} is a file, not the folder of a run")
    if path.is_file():
        return configs.saved(read_text(path), str(path))
    found = checkpoint_config(workdir)
    if found is None:
        raise UserError(f"{workdir} holds no run (no config.json)")
    return found


def config_of(meta: Mapping[str, Any], workdir: Path) -> ConfigDict:
    """The config that a checkpoint of the run in `workdir` was saved with, from its metadata."""
    return configs.saved(json.dumps(meta["config"]), str(workdir)) if "config" in meta else saved_config(workdir)


def checkpoint_config(workdir: Path) -> ConfigDict | None:
    """The config that the newest checkpoint of the run in `workdir` was saved with; None where there is none."""
    found = Saved(workdir).config()
    return config_of({"config": found[1]}, workdir) if found else None


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
    if fresh and is_run(workdir):
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

    A run is what its config.json says and what its newest checkpoint was saved with, so that it is not taken for
    another where that file is lost or was edited.
    """
    if fresh and resume:
        raise UserError("--fresh and --resume exclude each other")
    if not storage.is_remote(workdir):
        there = next((place for place in (workdir, *workdir.parents) if place.exists()), workdir)
        if there.exists() and not there.is_dir():
            raise UserError(f"--workdir={workdir} cannot be a folder: {there} is a file")
    if resume:
        return
    if fresh:
        if not is_run(workdir):
            return
        if storage.is_remote(workdir):
            raise UserError(
                f"--fresh cannot move aside the run in {workdir}: a bucket copies what is renamed. Give another "
                f"--workdir, or move it yourself: gcloud storage mv {workdir} {workdir}.1"
            )
        return
    path = workdir / "config.json"
    if path.is_file():
        _refuse(configs.differences(saved_config(workdir), config), f"{workdir} holds a run of another config")
    known = checkpoint_config(workdir)
    if known is not None and not was_resumed(workdir, config):
        _refuse(
            configs.differences(known, config),
            f"{workdir} holds a run of another config: its {path.name} is {'not the one' if path.is_file() else 'lost'}"
            f"{' that its newest checkpoint was saved with' if path.is_file() else ', its newest checkpoint tells'}",
        )


def edited(workdir: Path, config: ConfigDict) -> str:
    """How config.json differs from the config of a checkpoint, in a line; empty where it does not, or was replaced.

    Of `--resume` under another config, the checkpoints before it have the old one.
    """
    path = workdir / "config.json"
    if not path.is_file():
        return f"{path} is missing"
    try:
        mine = saved_config(workdir)
    except UserError as error:
        return str(error)
    changed = [] if was_resumed(workdir, mine) else configs.differences(config, mine)
    return f"{path} was changed ({'; '.join(changed)})" if changed else ""


def is_run(workdir: Path) -> bool:
    """Whether a run lies in `workdir`: its config or checkpoints."""
    return (workdir / "config.json").is_file() or bool(Saved(workdir).steps())


def _refuse(changed: Sequence[str], why: str) -> None:
    if changed:
        raise UserError(
            f"{why}. It differs in (there -> here):\n  "
            + "\n  ".join(changed)
            + "\n--fresh moves that run aside and starts anew, --resume goes on with this config."
        )


def was_resumed(workdir: Path, config: ConfigDict) -> bool:
    """Whether the latest launch went on under `config`, by --resume, and may not have saved a checkpoint yet."""
    try:
        launches = read_json(workdir / "run.json")["launches"]
        return launches[-1]["config_fingerprint"] == configs.fingerprint(config)
    except (UserError, LookupError, TypeError):
        return False


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
