"""One run on a Cloud TPU: the gcloud commands for all hosts of a slice.

They pack this checkout, request the machines as a queued resource, wait for it, copy the archive to every host, install
it, run the command on all hosts at once, and delete the machines. JAX finds the other hosts by itself. The hosts share
no disk, so the workdir must be a place that all of them reach, such as gs://BUCKET/NAME.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from jaxvision.arguments import LINE
from jaxvision.errors import UserError, unknown
from jaxvision.launch import pack
from jaxvision.launch.options import CODE, GIGABYTES, MACHINE, MANY, checked
from jaxvision.launch.places import check_workdir

# Runtimes by kind of TPU, from https://cloud.google.com/tpu/docs/runtimes.
RUNTIMES = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
# The Python of the images is too old for jaxvision; uv installs one.
SETUP = (
    "curl -LsSf https://astral.sh/uv/install.sh | sh && "
    "~/.local/bin/uv venv --clear --python 3.12 && ~/.local/bin/uv pip install -e '.[tpu,gcs]'"
)


class Commands(NamedTuple):
    """Command lines, each a list of words, in the order in which to run them.

    Attributes:
      pack: Command that packs the source.
      create: Command that requests the machines.
      wait: Command that waits until they are ready.
      copy: Command that copies the archive to every host.
      install: Command that installs it there.
      run: Command that runs the user's command on all hosts.
      delete: Command that deletes the machines.
    """

    pack: list[str]
    create: list[str]
    wait: list[str]
    copy: list[str]
    install: list[str]
    run: list[str]
    delete: list[str]


@checked
def commands(
    command: Sequence[str],
    name: MACHINE,
    *,
    accelerator: CODE,
    zone: CODE,
    project: CODE | None = None,
    runtime: CODE | None = None,
    slices: MANY = 1,
    spot: bool = False,
    service_account: CODE | None = None,
    source: LINE = ".",
    setup: LINE = SETUP,
    largest_mb: GIGABYTES = pack.LARGEST_MB,
) -> Commands:
    """Returns the command lines that run a command on every host of one or several TPU slices.

    Args:
      command: Words of the command line on each host, such as `["jaxvision", "train", ...]`.
      name: Name of the queued resource and its nodes.
      accelerator: Type and size of the Cloud TPU, such as "v6e-16".
      zone: Zone of the machines.
      project: Project of the machines; None for gcloud's current one.
      runtime: Image of the hosts; None for the usual one of the accelerator.
      slices: Number of slices that train together.
      spot: True for spot machines, which cost less and may be taken away at any time.
      service_account: Account whose rights the run has, for reading and writing buckets.
      source: Folder to copy, without what git ignores; see `pack.files_of`.
      setup: Shell command that installs the copy, run in its folder.
      largest_mb: Limit of the files to copy, in MB before compression.

    Raises:
      UserError: The kind of accelerator is unknown and `runtime` is None, `slices` is below 1, the workdir is on the
        hosts' own disk, or the files are too large to copy.

    >>> commands(["jaxvision", "train"], "vit", accelerator="v6e-16", zone="us-east5-a").delete[-4:]
    ['vit', '--zone=us-east5-a', '--force', '--quiet']
    """
    check_workdir(command, "/", "the hosts", "an absolute path that `setup` mounts on each of them")
    family = accelerator.partition("-")[0]
    if runtime is None and family not in RUNTIMES:
        raise unknown("kind of TPU", family, RUNTIMES)
    pack.check_size(source, pack.files_of(source), largest_mb)
    where = [f"--zone={zone}"] + ([f"--project={project}"] if project else [])
    everywhere = ["--worker=all", "--node=all"]
    archive = f"/tmp/jaxvision-{name}.tgz"

    def queued(verb: str, *words: str) -> list[str]:
        return ["gcloud", "compute", "tpus", "queued-resources", verb, *words]

    def on_hosts(script: str) -> list[str]:
        return queued("ssh", name, *where, *everywhere, f"--command={script}")

    nodes = [f"--node-id={name}"] if slices == 1 else [f"--node-count={slices}", f"--node-prefix={name}"]
    create = queued(
        "create", name, *where, *nodes, f"--accelerator-type={accelerator}",
        f"--runtime-version={runtime or RUNTIMES[family]}",
    )  # fmt: skip
    create += ["--spot"] if spot else []
    create += [f"--service-account={service_account}"] if service_account else []
    state = shlex.join(queued("describe", name, *where, "--format=value(state.state)"))
    return Commands(
        pack=[sys.executable, "-m", "jaxvision.launch.pack", source, archive, f"{largest_mb:g}"],
        create=create,
        wait=[
            "bash",
            "-c",
            f'while state="$({state})"; do case "$state" in ACTIVE) exit 0;; FAILED|SUSPENDED) break;; esac; '
            'sleep 20; done; echo "no machines: ${state:-unknown state}" >&2; exit 1',
        ],
        copy=queued("scp", archive, f"{name}:{archive}", *where, *everywhere),
        install=on_hosts(f"mkdir -p ~/jaxvision && cd ~/jaxvision && tar -xzf {shlex.quote(archive)} && {setup}"),
        run=on_hosts(f'cd ~/jaxvision && export PATH="$PWD/.venv/bin:$PATH" && {shlex.join(command)}'),
        delete=queued("delete", name, *where, "--force", "--quiet"),
    )


def script(lines: Commands) -> str:
    """Returns command lines as text to read, or to paste into a shell.

    Args:
      lines: Command lines, from `commands`.

    >>> print(script(Commands(*[["gcloud", "a b"]] * 7)).splitlines()[0])
    gcloud 'a b'
    """
    return "\n".join(shlex.join(line) for line in lines) + "\n"


def check_installed() -> None:
    """Checks that gcloud is installed.

    Raises:
      UserError: It is not.
    """
    if shutil.which("gcloud") is None:
        raise UserError(
            "gcloud is not installed: install it (https://cloud.google.com/sdk/docs/install), or print the commands "
            "with --dry_run"
        )


def run_commands(lines: Commands) -> int:
    """Runs command lines up to the first that fails, then deletes the machines.

    If the machines were not created, it deletes nothing: the name may belong to other machines.

    Args:
      lines: Command lines, from `commands`.

    Returns:
      The exit status of the last one that ran, before the deletion.

    Raises:
      UserError: gcloud is not installed.
    """
    check_installed()
    for line in (lines.pack, lines.create):
        status = subprocess.run(line).returncode
        if status:
            return status
    try:
        for line in lines[2:-1]:
            status = subprocess.run(line).returncode
            if status:
                break
    finally:
        subprocess.run(lines.delete)
    return status
