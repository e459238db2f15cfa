"""`jaxvision launch`: one command line on all nodes of a cluster."""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

from jaxvision import calls, storage
from jaxvision.errors import UserError
from jaxvision.launch import jobset, slurm, tpu
from jaxvision.launch.places import value_of
from jaxvision.specs import parse


def run_launch(
    words: Sequence[str],
    where: str,
    options: str,
    *,
    name: str | None = None,
    dry_run: bool = False,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Submits `jaxvision WORDS` to a cluster, or prints what would be submitted.

    Args:
      words: the command line after "jaxvision".
      where: "slurm", "jobset" (Kubernetes) or "tpu" (gcloud).
      options: arguments of `slurm.script`, `jobset.manifest` or `tpu.commands` as text, such as "nodes=4, gpus=8".
      name: name of the job; the last part of the workdir unless given.
      dry_run: print the script, manifest or command lines.
      check: called once the options fit, before anything is printed or submitted; raises where WORDS are wrong.

    Raises:
      UserError: an option that is unknown or missing, or the cluster refuses the job.
    """
    if not words:
        raise UserError("launch what? Its words come after --: jaxvision launch --slurm='nodes=4' -- train ...")
    name = name or _name(words)
    LAUNCH[where](words, name, options, dry_run, check)


def _slurm(words: Sequence[str], name: str, options: str, dry_run: bool, check: Callable) -> None:
    # The Python of this environment, since nodes share its file system; they may not have it on their PATH.
    command = [sys.executable, "-m", "jaxvision", *words]
    if workdir := value_of(words, "workdir"):
        storage.check(workdir, "--workdir")
    text = _call("slurm", options, slurm.script, command, name)
    check()
    if dry_run:
        print(text, end="")
        return
    print(f"job {slurm.submit(text)}: squeue shows it, scancel --signal=TERM has it save itself and queue again")


def _jobset(words: Sequence[str], name: str, options: str, dry_run: bool, check: Callable) -> None:
    text = jobset.to_yaml(_call("jobset", options, jobset.manifest, ["jaxvision", *words], name))
    check()
    if dry_run:
        print(text, end="")
        return
    try:
        code = subprocess.run(["kubectl", "create", "-f", "-"], input=text, text=True).returncode
    except FileNotFoundError:
        raise UserError("kubectl is not installed; --dry_run prints the manifest") from None
    if code:
        sys.exit(code)


def _tpu(words: Sequence[str], name: str, options: str, dry_run: bool, check: Callable) -> None:
    lines = _call("tpu", options, tpu.commands, ["jaxvision", *words], name)
    check()
    if not dry_run:
        tpu.check_installed()
    if dry_run:
        print(tpu.script(lines), end="")
        return
    code = tpu.run_commands(lines)
    if code:
        sys.exit(code)


LAUNCH = {"slurm": _slurm, "jobset": _jobset, "tpu": _tpu}


def _call(where: str, options: str, function: Callable[..., Any], command: Sequence[str], name: str) -> Any:
    """`function(command, name, **options)`, once the options fit its signature."""
    written = parse(f"{where}({options})")
    if len(written) != 1 or written[0].args:
        raise UserError(f"--{where} wants options like 'nodes=4, minutes=240', not {options!r}")
    given = written[0].kwargs
    calls.check(function, given, calls.Options(f"--{where}"), program=("command", "name"))
    return function(command, name, **given)


def _name(words: Sequence[str]) -> str:
    """Name of a job from its command line.

    >>> _name(["train", "--config=a.py", "--workdir=gs://runs/ViT_s16/"])
    'vit-s16'
    """
    found = value_of(words, "workdir", "out")
    if found is None:
        return words[0]
    return re.sub("[^a-z0-9]+", "-", PurePath(found).name.lower()).strip("-") or words[0]
