"""The folder of a run: its files, and whether a command may write to it.

config.json          the resolved config
run.json             versions, devices, git commit and command of every launch, and how its time was spent
metrics.jsonl        all metrics, one line per step; tensorboard/ holds the same
bad_records.jsonl    the first examples that could not be read, if there are any
checkpoints/STEP     state and metadata, with the config; digests of all files
results.json         written at the end: the last results of each evaluator
page.html            written after it: curves, time and config (`commands/plot.py`)
console.txt          the lines that the console showed, of all launches
config.py            the config as a Python file, of a run that was started without one (`recipes/`)
lock.json            the process that writes to the folder, while it does (`locks.py`)
errors/              the traceback of each failure

The folder may be in a bucket (`storage.py`).
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import own_modules, path_names, scripts, storage
from jaxvision.errors import UserError
from jaxvision.locks import Lock
from jaxvision.reading import parse_json, read_record, read_text
from jaxvision.storage import Path
from jaxvision.train.checkpoint import Saved

LIBRARIES = ("jaxvision", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
RECORDS = ("config.json", "run.json", "metrics.jsonl", "results.json")
FOLDERS = ("tensorboard", "checkpoints")
WRITTEN = (*RECORDS, "bad_records.jsonl", "skipped.json", "console.txt", "metrics.jsonl.parts", *FOLDERS)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file completely or not at all.

    Args:
      path: File to write; replaced if it exists.
      value: Value that JSON can hold.
    """
    storage.write(path, json.dumps(value, indent=2) + "\n")


def saved_config(workdir: Path) -> ConfigDict:
    """Returns the config of a run, without running any config file.

    Args:
      workdir: Folder of the run.

    Raises:
      UserError: The folder holds no run, or config.json is damaged.
    """
    path = workdir / "config.json"
    if workdir.is_file():
        raise UserError(f"{workdir} is a file, not the folder of a run: give the folder")
    if path.is_file():
        return _config_in(path)
    config = checkpoint_config(workdir)
    if config is None:
        raise UserError(f"{workdir} holds no run (no config.json): give the --workdir of a run")
    return config


def _config_in(path: Path) -> ConfigDict:
    """The config in a config.json, which must have the sections that every run has."""
    text = read_text(path)
    sections = parse_json(text, path)
    missing = [
        name for name in ("data", "model", "task", "optimizer", "train") if not isinstance(sections.get(name), dict)
    ]
    if missing:
        raise UserError(f"{path} is not the config of a run: it has no section {missing[0]!r}")
    return configs.saved(text, str(path))


def config_of(meta: Mapping[str, Any], workdir: Path) -> ConfigDict:
    """Returns the config that a checkpoint was saved with.

    Args:
      meta: Metadata of the checkpoint.
      workdir: Folder of its run, whose config.json is read if the metadata has no config.
    """
    return configs.saved(json.dumps(meta["config"]), str(workdir)) if "config" in meta else saved_config(workdir)


def checkpoint_config(workdir: Path) -> ConfigDict | None:
    """Returns the config that the newest checkpoint of a run was saved with, or None if there is no checkpoint.

    Args:
      workdir: Folder of the run.
    """
    newest = Saved(workdir).config()
    return config_of({"config": newest[1]}, workdir) if newest else None


def close_folder(folder: Path, config: Mapping[str, Any], trained_from: Mapping[str, str] | None = None) -> None:
    """Makes it impossible to import modules from a folder, which may be somebody else's.

    Also prints the user's modules that a config in the folder names. Call this before parts are built from the config.

    Args:
      folder: Folder of a run, or of converted weights.
      config: Sections of the config.
      trained_from: File of each module at training time, `meta["own"]` of a checkpoint.
    """
    scripts.close(str(folder))
    lines = own_modules.announcements(config, trained_from)
    if lines and jax.process_index() == 0:
        print(*lines, sep="\n", file=sys.stderr, flush=True)


def results(workdir: Path) -> dict[str, Any] | None:
    """Returns the content of results.json, or None while the run is unfinished.

    Args:
      workdir: Folder of the run.

    Raises:
      UserError: The file is damaged.
    """
    path = workdir / "results.json"
    record = read_record(path, steps=int, seconds=(int, float), results=dict)
    if record and (bad := [k for k, v in record["results"].items() if not isinstance(v, int | float | None)]):
        raise UserError(f"{path} is damaged: {bad[0]!r} is not a number. Restore a copy of the file, or move it away")
    return record


def launches(workdir: Path) -> list[dict[str, Any]]:
    """Returns the launches in run.json, the latest last; empty if there is no such file.

    Args:
      workdir: Folder of the run.

    Raises:
      UserError: The file is damaged.
    """
    path = workdir / "run.json"
    records = (read_record(path, launches=list) or {"launches": []})["launches"]
    if not all(isinstance(one, dict) and isinstance(one.get("start_step"), int) for one in records):
        raise UserError(f"{path} is damaged: it holds launches without 'start_step'. Move it away")
    return records


def writer(workdir: Path) -> Lock:
    """Returns the lock of the process that writes to a workdir; enter it before you write anything there.

    Args:
      workdir: Folder of the run.
    """
    return Lock(workdir, "the workdir")


def claim(
    workdir: Path, config: ConfigDict, *, fresh: bool = False, resume: bool = False, lock: Lock | None = None
) -> None:
    """Makes `workdir` the folder of a run of `config`.

    Args:
      workdir: Folder; created if absent.
      config: Config of the run.
      fresh: True to move a run in the folder aside, to `WORKDIR.1`, `WORKDIR.2`, ...
      resume: True to resume a run in the folder under `config`, even if it was started with another config.
      lock: Lock of the workdir that this process holds, from `writer`; it moves with the folder.

    Raises:
      UserError: `check` refuses the folder, before anything is changed; or the folder cannot be written.
    """
    check(workdir, config, fresh=fresh, resume=resume)
    if fresh and files_of_runs(workdir):
        workdir = workdir.resolve()  # move the folder itself, not a link to it
        aside = next(p for i in range(1, 10**6) if not os.path.lexists(p := workdir.with_name(f"{workdir.name}.{i}")))
        with storage.reaching(workdir, f"move to {aside} the folder"):
            (workdir.rename if lock is None else lock.rename)(aside)
    with storage.reaching(workdir, "write to the workdir"):
        storage.make_folder(workdir)
        write_json(workdir / "config.json", json.loads(configs.to_json(config)))
        if resume:
            (workdir / "results.json").unlink(missing_ok=True)


def check(workdir: Path, config: ConfigDict, *, fresh: bool = False, resume: bool = False) -> None:
    """Checks that a run of `config` may use the workdir; writes nothing.

    The config is compared with config.json and with that of the newest checkpoint, so a run is still recognised if
    config.json is lost or was edited.

    Args:
      workdir: Folder of the run, which need not exist.
      config: Config of the run.
      fresh: True if a run in the folder will be moved aside.
      resume: True if a run in the folder will be resumed under `config`, even if it was started with another config.

    Raises:
      UserError: The folder holds a run of another config (the message names the keys that differ), a damaged run, or
        files that no run wrote and that this one would overwrite; or `fresh` would rename a folder in a bucket, which
        a bucket cannot do.
    """
    if fresh and resume:
        raise UserError("--fresh and --resume exclude each other: give one of them")
    if not path_names.is_remote(workdir):
        there = next((place for place in (workdir, *workdir.parents) if place.exists()), workdir)
        if there.exists() and not there.is_dir():
            raise UserError(f"--workdir={workdir} cannot be a folder: {there} is a file. Give another --workdir")
        for name in FOLDERS if not fresh else ():
            if (workdir / name).is_file():
                raise UserError(f"{workdir / name} is a file, but a run has a folder of that name: move it away")
        for name in ("lock.json", "console.txt"):
            if (workdir / name).is_dir():
                raise UserError(f"{workdir / name} is a folder, but a run has a file of that name: move it away")
    files = files_of_runs(workdir)
    if fresh:
        if files and path_names.is_remote(workdir):
            raise UserError(
                f"--fresh cannot move the run in {workdir} aside: renaming in a bucket copies everything. Give another "
                f"--workdir, or move it yourself: gcloud storage mv {workdir} {workdir}.1"
            )
        return
    path = workdir / "config.json"
    newest = Saved(workdir).config()
    newest_config = config_of({"config": newest[1]}, workdir) if newest else None
    if files and not path.is_file() and newest_config is None:
        raise UserError(
            f"{workdir} holds {', '.join(files)}, but neither config.json nor a checkpoint. It is not a run, or only "
            "the rest of one, and training would overwrite it: give another --workdir, or --fresh to move the folder "
            "aside"
        )
    saved = saved_config(workdir) if path.is_file() else None
    results(workdir), launches(workdir)  # raise if damaged, before anything is done
    if resume:
        return
    if saved is not None:
        _refuse(configs.differences(saved, config), f"{workdir} holds a run of another config")
    if newest is not None and newest_config is not None and not was_resumed(workdir, config, newest[0]):
        reason = (
            f"its {path.name} is not the one that its newest checkpoint was saved with"
            if path.is_file()
            else f"its {path.name} is lost, but its newest checkpoint holds the config"
        )
        _refuse(
            configs.differences(newest_config, config),
            f"{workdir} holds a run of another config: {reason}",
        )


def describe_edit(workdir: Path, config: ConfigDict) -> str:
    """Describes in a line how config.json differs from the config of a checkpoint.

    Args:
      workdir: Folder of the run.
      config: Config that the checkpoint was saved with.

    Returns:
      The line; empty if they agree, or if `--resume` replaced the config after the checkpoint.
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
    """Returns whether a folder holds a run: its config or checkpoints.

    Args:
      workdir: Folder, which need not exist.
    """
    return (workdir / "config.json").is_file() or bool(Saved(workdir).steps())


def _refuse(changed: Sequence[str], why: str) -> None:
    if changed:
        raise UserError(
            f"{why}. The differences (that run -> this config):\n  "
            + "\n  ".join(changed)
            + "\nGive --fresh to move that run aside and start a new one, or --resume to continue it with this config."
        )


def was_resumed(workdir: Path, config: ConfigDict, step: int = 0) -> bool:
    """Returns whether a launch with --resume continued the run under `config`, from `step` or a later one.

    Args:
      workdir: Folder of the run.
      config: Config in its config.json.
      step: Step of the newest checkpoint; the launch may have saved none yet.
    """
    try:
        resumed = [one for one in launches(workdir) if one.get("resume") and one["start_step"] >= step]
    except UserError:
        return False
    return configs.fingerprint(config) in [one.get("config_fingerprint") for one in resumed]


def files_of_runs(workdir: Path) -> list[str]:
    """Returns the names in a folder that a run would write there; the files may be the user's own.

    Args:
      workdir: Folder, which need not exist.
    """
    return [name for name in WRITTEN if (workdir / name).exists()]


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that results depend on, by name."""
    numbers = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            numbers[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            numbers[name] = "not installed"
    return numbers


def code(config: Mapping[str, Any]) -> dict[str, Any]:
    """Identifies this code: versions of libraries, digests of the files of this package and of the user's modules.

    Args:
      config: Sections of a config that may name the user's modules.
    """
    here = pathlib.Path(__file__).parent
    files = {
        file.relative_to(here).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        for file in sorted(here.rglob("*.py"))
    }
    return {"versions": versions(), "files": files, "own": own_modules.digests(config)}


def git_commit() -> str | None:
    """Returns the commit of this source tree, with "+changes" if files differ from it; None outside a git checkout."""
    here = pathlib.Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
