"""`jaxvision launch`: run one command line on all nodes of a cluster."""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

from jaxvision import calls, path_names
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
      words: Words of the command line after "jaxvision".
      where: Name of the cluster, "slurm", "jobset" (Kubernetes) or "tpu" (gcloud).
      options: Arguments of `slurm.script`, `jobset.manifest` or `tpu.commands` as text, such as "nodes=4, gpus=8".
      name: Name of the job; None for the last part of the workdir.
      dry_run: True to print the script, manifest or command lines, and submit nothing.
      check: Function that raises if `words` are wrong. It is called after the options are checked, before anything is
        printed or submitted.

    Raises:
      UserError: An option is unknown or missing, or the cluster refuses the job.
    """
    if not words:
        raise UserError("the command to launch is missing: jaxvision launch --slurm='nodes=4' -- train ...")
    name = name or _name(words)
    LAUNCH[where](words, name, options, dry_run, check)


def _slurm(words: Sequence[str], name: str, options: str, dry_run: bool, check: Callable) -> None:
    # The Python of this environment: the nodes share its file system, but may not have it on their PATH.
    command = [sys.executable, "-m", "jaxvision", *words]
    if workdir := value_of(words, "workdir"):
        path_names.check(workdir, "--workdir")
    text = _call("slurm", options, slurm.script, command, name)
    check()
    if dry_run:
        print(text, end="")
        return
    job = slurm.submit(text)
    print(f"submitted job {job}. squeue shows it; scancel --signal=TERM {job} makes it save its state and queue again")


def _jobset(words: Sequence[str], name: str, options: str, dry_run: bool, check: Callable) -> None:
    text = jobset.to_yaml(_call("jobset", options, jobset.manifest, ["jaxvision", *words], name))
    check()
    if dry_run:
        print(text, end="")
        return
    try:
        code = subprocess.run(["kubectl", "create", "-f", "-"], input=text, text=True).returncode
    except FileNotFoundError:
        raise UserError("kubectl is not installed: install it, or print the manifest with --dry_run") from None
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
    """`function(command, name, **options)`, after a check of the options against its signature."""
    written = parse(f"{where}({options})")
    if len(written) != 1 or written[0].args:
        raise UserError(f"--{where} must be options such as 'nodes=4, minutes=240', not {options!r}")
    arguments = written[0].kwargs
    calls.check(function, arguments, calls.Options(f"--{where}"), program=("command", "name"))
    return function(command, name, **arguments)


def _name(words: Sequence[str]) -> str:
    """Name of a job from its command line.

    >>> _name(["train", "--config=a.py", "--workdir=gs://runs/ViT_s16/"])
    'vit-s16'
    """
    folder = value_of(words, "workdir", "out")
    if folder is None:
        return words[0]
    return re.sub("[^a-z0-9]+", "-", PurePath(folder).name.lower()).strip("-") or words[0]
