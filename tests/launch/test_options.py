"""What a stranger writes into the options of a launcher runs nothing: scripts are really run, with false tools."""

import itertools
import os
import subprocess

import pytest
import yaml

from jaxvision.errors import UserError
from jaxvision.launch import jobset, options, slurm, tpu

SHELL = "4; touch X #"
HOSTILE = [
    SHELL, "$(touch X)", "`touch X`", "a && touch X", "a | touch X", "a\ntouch X\n#", "'; touch X; '", '"; touch X; "',
    "a\n#SBATCH --wrap=touch X", "${IFS}touch${IFS}X", "a\r\ntouch X", "\\'; touch X; \\'", "> X", "a\u2028touch X",
]  # fmt: skip
NUMBERS = ("nodes", "tasks", "gpus", "cpus", "memory_gb", "minutes", "save_seconds")
TEXTS = ("partition", "account", "qos", "constraint", "output")
COMMAND = ["jaxvision", "train", "--workdir=gs://runs/a"]


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A scratch folder, with commands in PATH that do nothing but tell their words; `sbatch` runs the script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("srun", "scontrol", "gcloud"):
        (folder / name).write_text('#!/bin/bash\nprintf "%s\\n" "$0" "$@" >> "$TOLD"\n')
    (folder / "sbatch").write_text("#!/bin/bash\nbash >&2; echo 7\n")
    for file in folder.iterdir():
        file.chmod(0o755)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.chdir(scratch)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    return tmp_path


def directives(text):
    """Names of the options that sbatch would read: it stops at the first line that is a command."""
    lines = itertools.takewhile(lambda line: not line or line.startswith("#"), text.split("\n"))
    return [line.split("=")[0].split()[1] for line in lines if line.startswith("#SBATCH")]


def submitted(command, name, **flags):
    """Whether the script was made; then it has been run, and its directives are those that were meant."""
    try:
        text = slurm.script(command, name, **flags)
    except UserError:
        return False
    names = directives(text)
    meant = set(directives(slurm.script(COMMAND, "a", **dict.fromkeys(flags.keys() & set(TEXTS), "a"))))
    assert set(names) - {"--gpus-per-node", "--cpus-per-task", "--mem"} <= meant | {"--comment"}
    assert len(set(names)) == len(names)
    slurm.submit(text)
    return True


@pytest.mark.parametrize("value", HOSTILE)
def test_no_option_of_slurm_runs_anything(tools, value):
    for key in NUMBERS:
        assert not submitted(COMMAND, "a", **{key: value})
    lines = "\n" in value or "\r" in value or "\u2028" in value
    for key in TEXTS:
        assert submitted(COMMAND, "a", **{key: value}) != lines
    submitted(COMMAND, value)
    submitted(COMMAND, "a", sbatch={"comment": value})
    submitted(COMMAND, "a", sbatch={value: "a"})
    assert submitted([*COMMAND, value, f"--config.name={value}"], "a")  # words of a command may be anything
    assert not list((tools / "scratch").iterdir())
    output = (tools / "told").read_bytes().decode()
    assert f"\n{value}\n--config.name={value}\n" in output


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", ["4", "four", -1, 1e400, float("nan"), True, [1], {"a": 1}, "9" * 20_000])
def test_a_number_is_a_number(key, value):
    with pytest.raises(UserError, match=key) as raised:
        slurm.script(COMMAND, "a", **{key: value})
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("key", ["a\nb", "a b", "a=b", "", "-a", 5, "wrap\n"])
def test_a_key_of_sbatch_is_one_word(key):
    with pytest.raises(UserError, match="option in sbatch="):
        slurm.script(COMMAND, "a", sbatch={key: "x"})


@pytest.mark.parametrize("value", ["a\nb", ["a"], "\ud800", "a\0b"])
def test_a_value_of_sbatch_is_one_line(value):
    with pytest.raises(UserError, match="sbatch="):
        slurm.script(COMMAND, "a", sbatch={"comment": value})


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-a", "a\nb", "x" * 300, "\ud800", "a\0", 5])
def test_the_name_of_a_job_is_no_path(name):
    with pytest.raises(UserError, match="name must be"):
        slurm.script(COMMAND, name)


@pytest.mark.parametrize("word", ["a\0b", "\ud800", 5, b"x"])
def test_a_word_of_the_command_is_one_that_a_command_line_can_hold(word):
    with pytest.raises(UserError, match="of the command"):
        slurm.script([*COMMAND, word], "a")


@pytest.mark.parametrize("value", HOSTILE)
def test_no_option_of_the_tpu_runs_anything(tools, value):
    (tools / "source").mkdir()
    (tools / "source" / "setup.cfg").write_text("")
    for flags in ({}, *({key: value} for key in ("accelerator", "zone", "project", "runtime", "service_account"))):
        for name in ("a", value):
            flags = {"accelerator": "v6e-8", "zone": "a", "source": str(tools / "source"), "setup": "true"} | flags
            try:
                lines = tpu.commands([*COMMAND, value], name, **flags)
            except UserError:
                continue
            script = tpu.script(lines._replace(wait=["true"], pack=["true"]))
            assert not subprocess.run(["bash"], input=script, text=True, capture_output=True).stderr
            # what the hosts get is a shell line again
            for line in (lines.install, lines.run):
                shell = line[-1].removeprefix("--command=").replace("~/jaxvision", str(tools / "scratch"))
                assert subprocess.run(["bash", "-n"], input=shell, text=True).returncode == 0
            ran = (
                lines.run[-1]
                .removeprefix("--command=")
                .replace("~/jaxvision", ".")
                .replace("jaxvision train", "gcloud")
            )
            subprocess.run(["bash"], input=ran, text=True, check=True)
    assert not list((tools / "scratch").iterdir())
    assert f"\n{value}\n" in (tools / "told").read_bytes().decode()


@pytest.mark.parametrize("value", [*HOSTILE, "a: b", "- a", "&a *a", "!!python/object:os.system", "{a: b}"])
def test_the_manifest_holds_what_was_given_and_nothing_else(value):
    tree = jobset.manifest([*COMMAND, value], "a", image="i")
    assert yaml.safe_load(jobset.to_yaml(tree)) == tree
    (container,) = tree["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    # Kubernetes reads $$ as $, and puts nothing in for it
    assert [word.replace("$$", "$") for word in container["command"]] == [*COMMAND, value]
    for key in ("image", "queue", "namespace", "claim", "tpu", "topology", "mount", "cpus", "memory_gb", "restarts"):
        with pytest.raises(UserError):
            jobset.manifest(COMMAND, "a", **{"image": "i", key: value})
    with pytest.raises(UserError, match="env="):
        jobset.manifest(COMMAND, "a", image="i", env={value: "x"})


def test_environment_variables_are_texts():
    assert options.environment({"A": 1, "B": "x y"}) == {"A": "1", "B": "x y"}
    with pytest.raises(UserError, match="'A'"):
        options.environment({"A": ["x"]})
