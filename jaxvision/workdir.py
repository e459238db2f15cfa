"""The folder of a run: what lies in it, and whether a command may write there.

config.json          the resolved config
run.json             versions, devices, git commit and command of every launch, and where its time went
metrics.jsonl        every number, a line a step; tensorboard/ holds the same
bad_records.jsonl    the first examples that could not be read, where there are any
checkpoints/STEP     state and metadata, with the config; digests of all of it
results.json         written at the end: the last evaluation of each evaluator
lock.json            of the process that writes there, while it does (`locks.py`)
errors/              the traceback of each failure

It may lie in a bucket (`storage.py`).
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import own_modules, scripts, storage
from jaxvision.errors import UserError
from jaxvision.locks import Lock
from jaxvision.reading import parse_json, read_record, read_text
from jaxvision.storage import Path
from jaxvision.train.checkpoint import Saved

LIBRARIES = ("jaxvision", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
RECORDS = ("config.json", "run.json", "metrics.jsonl", "results.json")
FOLDERS = ("tensorboard", "checkpoints")
WRITTEN = (*RECORDS, "bad_records.jsonl", "skipped.json", "metrics.jsonl.parts", *FOLDERS)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    storage.write(path, json.dumps(value, indent=2) + "\n")


def saved_config(workdir: Path) -> ConfigDict:
    """The config of the run in `workdir`, without running any config file."""
    path = workdir / "config.json"
    if workdir.is_file():
        raise UserError(f"{workdir} is a file, not the folder of a run")
    if path.is_file():
        return _config_in(path)
    found = checkpoint_config(workdir)
    if found is None:
        raise UserError(f"{workdir} holds no run (no config.json)")
    return found


def _config_in(path: Path) -> ConfigDict:
    """The config in a config.json, which holds the sections that every run has."""
    text = read_text(path)
    known = parse_json(text, path)
    missing = [
        name for name in ("data", "model", "task", "optimizer", "train") if not isinstance(known.get(name), dict)
    ]
    if missing:
        raise UserError(f"{path} is not the config of a run: it has no section {missing[0]!r}")
    return configs.saved(text, str(path))


def config_of(meta: Mapping[str, Any], workdir: Path) -> ConfigDict:
    """The config that a checkpoint of the run in `workdir` was saved with, from its metadata."""
    return configs.saved(json.dumps(meta["config"]), str(workdir)) if "config" in meta else saved_config(workdir)


def checkpoint_config(workdir: Path) -> ConfigDict | None:
    """The config that the newest checkpoint of the run in `workdir` was saved with; None where there is none."""
    found = Saved(workdir).config()
    return config_of({"config": found[1]}, workdir) if found else None


def follow(folder: Path, config: Mapping[str, Any], trained_from: Mapping[str, str] | None = None) -> None:
    """Called before parts are made of a config that lies in a folder, which may be somebody else's.

    Prints which modules it asks for; none of those that lie in the folder will be imported.

    Args:
      folder: Folder of a run, or of converted weights.
      config: Its sections.
      trained_from: File of each module when it was trained, `meta["own"]` of a checkpoint.
    """
    scripts.close(str(folder))
    lines = own_modules.tell(config, trained_from)
    if lines and jax.process_index() == 0:
        print(*lines, sep="\n", file=sys.stderr, flush=True)


def results(workdir: Path) -> dict[str, Any] | None:
    """What results.json says, or None while the run is unfinished.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / "results.json"
    found = read_record(path, steps=int, seconds=(int, float), results=dict)
    if found and (bad := [k for k, v in found["results"].items() if not isinstance(v, int | float | None)]):
        raise UserError(f"{path} is damaged: {bad[0]!r} is no number. Bring back a copy of the file, or move it away")
    return found


def launches(workdir: Path) -> list[dict[str, Any]]:
    """The launches that run.json tells of, the latest last; none where there is no such file.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / "run.json"
    found = (read_record(path, launches=list) or {"launches": []})["launches"]
    if not all(isinstance(one, dict) and isinstance(one.get("start_step"), int) for one in found):
        raise UserError(f"{path} holds launches without 'start_step'. The file is damaged: move it away")
    return found


def writer(workdir: Path) -> Lock:
    """The lock of a process that writes to the workdir, to be entered before anything is written there."""
    return Lock(workdir, "the workdir")


def claim(
    workdir: Path, config: ConfigDict, *, fresh: bool = False, resume: bool = False, lock: Lock | None = None
) -> None:
    """Makes `workdir` the folder of a run of `config`, or raises what `check` does before anything is changed.

    Args:
      workdir: created if absent.
      config: config of the run.
      fresh: a run that lies there is moved aside, to `WORKDIR.1`, `WORKDIR.2`, ...
      resume: a run that lies there goes on under `config`, even where it was made from another.
      lock: held by this process, from `writer`; taken anew where the folder is moved.

    Raises:
      UserError: what `check` refuses, or the folder cannot be written.
    """
    check(workdir, config, fresh=fresh, resume=resume)
    if fresh and files_of_runs(workdir):
        workdir = workdir.resolve()  # not a link that leads there, to a larger disk perhaps
        aside = next(p for i in range(1, 10**6) if not os.path.lexists(p := workdir.with_name(f"{workdir.name}.{i}")))
        with storage.reaching(workdir, f"move to {aside} the folder"):
            (workdir.rename if lock is None else lock.rename)(aside)
    with storage.reaching(workdir, "write to the workdir"):
        storage.make_folder(workdir)
        write_json(workdir / "config.json", json.loads(configs.to_json(config)))
        if resume:
            (workdir / "results.json").unlink(missing_ok=True)


def check(workdir: Path, config: ConfigDict, *, fresh: bool = False, resume: bool = False) -> None:
    """Whether `claim` will not refuse the workdir; writes nothing.

    Raises:
      UserError: a run of another config lies there (the differing keys are named), one whose files are damaged, or
        files that no run wrote and that this one would overwrite; or a run is to be moved aside in a bucket, which
        cannot rename.

    A run is what its config.json says and what its newest checkpoint was saved with, so that it is not taken for
    another where that file is lost or was edited.
    """
    if fresh and resume:
        raise UserError("--fresh and --resume exclude each other")
    if not storage.is_remote(workdir):
        there = next((place for place in (workdir, *workdir.parents) if place.exists()), workdir)
        if there.exists() and not there.is_dir():
            raise UserError(f"--workdir={workdir} cannot be a folder: {there} is a file")
        for name in FOLDERS if not fresh else ():
            if (workdir / name).is_file():
                raise UserError(f"{workdir / name} is a file, where a run has a folder of that name: move it away")
        if (workdir / "lock.json").is_dir():
            raise UserError(f"{workdir / 'lock.json'} is a folder, where a run has its lock: move it away")
    found = files_of_runs(workdir)
    if fresh:
        if found and storage.is_remote(workdir):
            raise UserError(
                f"--fresh cannot move aside the run in {workdir}: a bucket copies what is renamed. Give another "
                f"--workdir, or move it yourself: gcloud storage mv {workdir} {workdir}.1"
            )
        return
    path = workdir / "config.json"
    newest = Saved(workdir).config()
    known = config_of({"config": newest[1]}, workdir) if newest else None
    if found and not path.is_file() and known is None:
        raise UserError(
            f"{workdir} holds {', '.join(found)}, but neither config.json nor a checkpoint: that is no run, or what is "
            "left of one, and would be overwritten. Give another --workdir; --fresh moves the folder aside"
        )
    saved = saved_config(workdir) if path.is_file() else None
    results(workdir), launches(workdir)  # a damaged one is told before anything is done
    if resume:
        return
    if saved is not None:
        _refuse(configs.differences(saved, config), f"{workdir} holds a run of another config")
    if known is not None and not was_resumed(workdir, config, newest[0]):
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


def was_resumed(workdir: Path, config: ConfigDict, step: int = 0) -> bool:
    """Whether a launch went on under `config` by --resume, from `step` or a later one.

    Args:
      workdir: folder of the run.
      config: that its config.json holds.
      step: step of the newest checkpoint, where no checkpoint may have been saved since.
    """
    try:
        told = [one for one in launches(workdir) if one.get("resume") and one["start_step"] >= step]
    except UserError:
        return False
    return configs.fingerprint(config) in [one.get("config_fingerprint") for one in told]


def files_of_runs(workdir: Path) -> list[str]:
    """Names in a folder that a run would write there; they may be the user's own."""
    return [name for name in WRITTEN if (workdir / name).exists()]


def record_launch(
    workdir: Path, config: ConfigDict, start: int, notes: Sequence[str] = (), *, resume: bool = False
) -> None:
    """Adds this launch to run.json.

    Args:
      workdir: folder of the run.
      config: config of the launch.
      start: step that it goes on from.
      notes: lines on the weights that it starts from.
      resume: True where it was told to go on under another config.
    """
    launch = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "start_step": start,
        "resume": resume,
        "init": list(notes),
        "config_fingerprint": configs.fingerprint(config),
        "versions": versions(),
        "devices": [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()],
        "processes": jax.process_count(),
        "git": git_commit(),
    }
    write_json(workdir / "run.json", {"launches": [*launches(workdir), launch]})


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a result depends on."""
    found = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def code(config: Mapping[str, Any]) -> dict[str, Any]:
    """What tells this code from another: versions of libraries, digests of the files of the package and of own modules.

    Args:
      config: Sections that may ask for own modules.
    """
    here = pathlib.Path(__file__).parent
    files = {
        file.relative_to(here).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        for file in sorted(here.rglob("*.py"))
    }
    return {"versions": versions(), "files": files, "own": own_modules.digests(config)}


def git_commit() -> str | None:
    """Commit of this source tree, with "+changes" where files differ from it; None outside a git checkout."""
    here = pathlib.Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
