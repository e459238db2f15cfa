import os
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from jaxvision.errors import UserError
from jaxvision.launch.tpu import commands, run_commands, script

# Words that a shell would spoil, twice over: once here, once on the host.
COMMAND = [
    "jaxvision",
    "train",
    "--config=configs/quickstart.py",
    "--config.augment=flip_lr|mixup(0.2)",
    "--note=it's $5",
]
WHERE = dict(accelerator="v6e-16", zone="us-east5-a")


@pytest.fixture
def gcloud(tmp_path, monkeypatch):
    """A stand-in for gcloud, which fails at the verb $FAIL and sees machines in the state $STATE; returns its verbs."""
    tool = tmp_path / "bin" / "gcloud"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/bash\n"
        f'printf "%s\\n" "$4" >> {tmp_path}/verbs\n'
        'if [ "$4" = describe ]; then echo "${STATE:-ACTIVE}"; fi\n'
        'if [ "$4" = "$FAIL" ]; then exit 7; fi\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    yield lambda: (tmp_path / "verbs").read_text().split()
    Path("/tmp/jaxvision-vit.tgz").unlink(missing_ok=True)


def lines(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "setup.cfg").write_text("[metadata]")
    return commands(COMMAND, "vit", source=str(tmp_path / "source"), **WHERE)


def test_the_command_reaches_the_hosts_word_for_word(tmp_path):
    (text,) = [w for w in commands(COMMAND, "vit", **WHERE).run if w.startswith("--command=")]
    (tmp_path / "jaxvision").mkdir()
    host = text.removeprefix("--command=").replace("jaxvision train", "printf '%s\\n' train")
    shown = subprocess.run(
        ["bash", "-c", host], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert shown.stdout.splitlines() == COMMAND[1:]


def test_the_printed_lines_are_the_ones_that_run():
    made = commands(COMMAND, "vit", **WHERE)
    assert [shlex.split(line) for line in script(made).splitlines()] == list(made)


def test_a_slice_is_one_node_and_several_are_counted():
    one = commands(COMMAND, "vit", project="lab", spot=True, **WHERE)
    assert one.create[3:] == [
        "queued-resources", "create", "vit", "--zone=us-east5-a", "--project=lab", "--node-id=vit",
        "--accelerator-type=v6e-16", "--runtime-version=v2-alpha-tpuv6e", "--spot",
    ]  # fmt: skip
    two = commands(COMMAND, "vit", slices=2, **WHERE).create
    assert {"--node-count=2", "--node-prefix=vit"} <= set(two)
    assert "--node-id=vit" not in two


@pytest.mark.parametrize("step", ["copy", "install", "run"])
def test_every_host_of_every_slice_is_reached(step):
    assert {"--worker=all", "--node=all"} <= set(getattr(commands(COMMAND, "vit", **WHERE), step))


def test_an_unknown_tpu_needs_its_runtime():
    with pytest.raises(UserError, match="v6e"):
        commands(COMMAND, "vit", accelerator="v6-16", zone="z")
    made = commands(COMMAND, "vit", accelerator="v9-16", zone="z", runtime="image-9")
    assert "--runtime-version=image-9" in made.create


def test_a_run_creates_waits_works_and_deletes(gcloud, tmp_path):
    assert run_commands(lines(tmp_path)) == 0
    assert gcloud() == ["create", "describe", "scp", "ssh", "ssh", "delete"]


def test_the_machines_are_deleted_and_the_status_kept_when_a_step_fails(gcloud, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIL", "scp")
    assert run_commands(lines(tmp_path)) == 7
    assert gcloud() == ["create", "describe", "scp", "delete"]


def test_machines_that_were_not_created_are_not_deleted(gcloud, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIL", "create")
    assert run_commands(lines(tmp_path)) == 7
    assert gcloud() == ["create"]


def test_waiting_ends_when_the_request_has_failed(gcloud, tmp_path, monkeypatch):
    monkeypatch.setenv("STATE", "SUSPENDED")
    assert run_commands(lines(tmp_path)) == 1
    assert gcloud() == ["create", "describe", "delete"]


def test_without_gcloud_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="gcloud is not installed"):
        run_commands(lines(tmp_path))


def test_what_is_copied_is_packed_before_anything_costs_money(gcloud, tmp_path):
    made = lines(tmp_path)
    (tmp_path / "source" / "setup.cfg").unlink()
    assert run_commands(made) != 0
    assert not (tmp_path / "verbs").exists()


def test_too_much_is_refused_when_the_lines_are_made(tmp_path):
    (tmp_path / "weights.npz").write_bytes(bytes(3_000_000))
    with pytest.raises(UserError, match=r"3\.0 MB, but at most 2 MB"):
        commands(COMMAND, "vit", source=str(tmp_path), largest_mb=2, **WHERE)
