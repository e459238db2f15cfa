"""The folder of a run: what lies in it, and whether a command may write there.

config.json          the resolved config
run.json             versions, devices, git commit and command of every launch
metrics.jsonl        every number, a line a step; tensorboard/ holds the same
checkpoints/STEP     state and metadata
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
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.locks import Lock
from jaxvision.reading import parse_json, read_json, read_text
from jaxvision.storage import Path

LIBRARIES = ("jaxvision", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-datasets", "numpy")
RECORDS = ("config.json", "run.json", "metrics.jsonl", "results.json")
WRITTEN = (*RECORDS, "metrics.jsonl.parts", "tensorboard", "checkpoints")
RECORD_BYTES = 2**26  # far beyond any file of JSON that a run writes


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    storage.write(path, json.dumps(value, indent=2) + "\n")


def saved_config(workdir: Path) -> ConfigDict:
    """The config of the run in `workdir`, without running any config file."""
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir} holds no run (no config.json)")
    _check_size(path)
    text = read_text(path)
    known = parse_json(text, path)
    missing = [
        name for name in ("data", "model", "task", "optimizer", "train") if not isinstance(known.get(name), dict)
    ]
    if missing:
        raise UserError(f"{path} is not the config of a run: it has no section {missing[0]!r}")
    return configs.saved(text, str(path))


def record(path: Path, **keys: type | tuple[type, ...]) -> dict[str, Any] | None:
    """What a JSON file that a run wrote says, or None where there is none.

    Args:
      path: file of one object.
      keys: types of what it must hold.

    Raises:
      UserError: the file is damaged; it is named, with what is wrong and what to do.
    """
    if not path.is_file():
        return None
    try:
        _check_size(path)
        found = read_json(path)
        for key, kind in keys.items():
            if not isinstance(found.get(key), kind) or isinstance(found[key], bool):
                raise UserError(f"{path} holds no {key!r} of the right kind")
    except UserError as error:
        raise UserError(f"{error}. The file is damaged: bring back a copy of it, or move it away") from error
    return found


def _check_size(path: Path) -> None:
    if (size := path.stat().st_size if not storage.is_remote(path) else path.stat().length) > RECORD_BYTES:
        raise UserError(f"{path} has {size:,} bytes, far beyond what a run writes there")


def results(workdir: Path) -> dict[str, Any] | None:
    """What results.json says, or None while the run is unfinished.

    Raises:
      UserError: the file is damaged.
    """
    return record(workdir / "results.json", steps=int, seconds=(int, float), results=dict)


def launches(workdir: Path) -> list[dict[str, Any]]:
    """The launches that run.json tells of, the latest last; none where there is no such file.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / "run.json"
    found = (record(path, launches=list) or {"launches": []})["launches"]
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
      config: of the run.
      fresh: a run that lies there is moved aside, to `WORKDIR.1`, `WORKDIR.2`, ...
      resume: a run that lies there goes on under `config`, even where it was made from another.
      lock: held by this process, from `writer`; taken anew where the folder is moved.

    Raises:
      UserError: what `check` refuses, or the folder cannot be written.
    """
    check(workdir, config, fresh=fresh, resume=resume)
    if fresh and files_of_runs(workdir):
        workdir = storage.absolute(workdir)
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
    """
    if fresh and resume:
        raise UserError("--fresh and --resume exclude each other")
    found = files_of_runs(workdir)
    if fresh:
        if found and storage.is_remote(workdir):
            raise UserError(
                f"--fresh cannot move aside the run in {workdir}: a bucket copies what is renamed. Give another "
                f"--workdir, or move it yourself: gcloud storage mv {workdir} {workdir}.1"
            )
        return
    if "config.json" not in found:
        if found and not _has_checkpoints(workdir):
            raise UserError(
                f"{workdir} holds {', '.join(found)}, but no config.json: that is no run, or what is left of one, and "
                "would be overwritten. Give another --workdir; --fresh moves the folder aside"
            )
        return
    saved = saved_config(workdir)
    results(workdir), launches(workdir)  # a damaged one is told before anything is done
    if resume:
        return
    changed = configs.differences(saved, config)
    if changed:
        raise UserError(
            f"{workdir} holds a run of another config. It differs in (there -> here):\n  "
            + "\n  ".join(changed)
            + "\n--fresh moves that run aside and starts anew, --resume goes on with this config."
        )


def files_of_runs(workdir: Path) -> list[str]:
    """Names in a folder that a run would write there; they may be the user's own."""
    return [name for name in WRITTEN if (workdir / name).exists()]


def _has_checkpoints(workdir: Path) -> bool:
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(one.name.isdecimal() and one.is_dir() for one in folder.iterdir())


def record_launch(workdir: Path, config: ConfigDict, start: int, notes: Sequence[str] = ()) -> None:
    """Adds this launch to run.json, with `notes` on the weights that it starts from."""
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


def code() -> dict[str, Any]:
    """What tells this code from another: versions of libraries, and digests of the Python files of the package."""
    here = pathlib.Path(__file__).parent
    files = {
        file.relative_to(here).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        for file in sorted(here.rglob("*.py"))
    }
    return {"versions": versions(), "files": files}


def git_commit() -> str | None:
    """Commit of this source tree, with "+changes" where files differ from it; None outside a git checkout."""
    here = pathlib.Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
