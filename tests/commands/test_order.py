"""Flags before the command, and the text of --help."""

import re

import pytest
from absl import flags

from jaxvision import cli
from jaxvision.cli.order import command_first
from jaxvision.errors import UserError


@pytest.mark.parametrize(
    ("line", "ordered"),
    [
        ("train --workdir=x", "train --workdir=x"),
        ("--workdir=x train --config=y", "train --workdir=x --config=y"),
        ("--workdir x train --config=y", "train --workdir x --config=y"),
        ("--fresh train --workdir=x", "train --fresh --workdir=x"),
        ("--nofresh --workdir x train", "train --nofresh --workdir x"),
        ("--config.seed 3 --config=c.py train", "train --config.seed 3 --config=c.py"),
        ("--config.seed -3 --config=c.py train", "train --config.seed -3 --config=c.py"),
        ("--noconfig.model.scan --config=c.py train", "train --noconfig.model.scan --config=c.py"),
        ("--workdir train evaluate", "evaluate --workdir train"),
        ("--out x study sweep", "study --out x sweep"),
        ("--top 3 --index=i search train", "search --top 3 --index=i train"),
        ("--slurm=nodes=2 launch -- train --workdir=x", "launch --slurm=nodes=2 -- train --workdir=x"),
        ("--help train", "train --help"),
        ("-h train", "train -h"),
        ("--lr=1 train", "train --lr=1"),
        ("stray --workdir=x train", "stray --workdir=x train"),
    ],
)
def test_the_command_comes_first(line, ordered):
    assert command_first(line.split(), cli.COMMANDS) == ordered.split()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--workdir train", "'train' is read as the value of --workdir.*jaxvision train ..., or join"),
        ("--config.model.scan train --workdir=x", "'train' is read as the value of --config.model.scan"),
        ("--workdir=x", "no word of the command line is a command"),
        ("--workdir=x trian", "did you mean 'train'"),
    ],
)
def test_a_line_without_a_command_says_what_was_read(line, message):
    with pytest.raises(UserError, match=message):
        command_first(line.split(), cli.COMMANDS)


def test_a_flag_that_is_a_switch_in_one_command_only_is_ambiguous():
    def switch(values, words):
        flags.DEFINE_bool("x", False, "", flag_values=values)

    def text(values, words):
        flags.DEFINE_string("x", None, "", flag_values=values)

    a = cli.COMMANDS["verify"]._replace(define=switch)
    commands = {"a": a, "b": a._replace(define=text)}
    with pytest.raises(UserError, match="the command may be 'a' or 'b', the other a value"):
        command_first(["--x", "a", "b"], commands)


def test_the_order_reaches_the_command(capsys, tmp_path):
    with pytest.raises(SystemExit):
        cli.main(["jaxvision", f"--workdir={tmp_path / 'w'}", "train", "--config=absent.py"])
    assert "no config file 'absent.py'" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_has_examples_groups_and_every_default(name):
    text, command = cli.help_of(name), cli.COMMANDS[name]
    values = flags.FlagValues()
    command.define(values, [])
    for flag in {values[one].name for one in values}:
        (row,) = re.findall(rf"^  --(?:\[no\])?{flag}\b.*(?:\n   .*)*", text, re.MULTILINE)
        default = values[flag].default
        if default not in (None, []):
            shown = {True: "yes", False: "no"}.get(default, default) if values[flag].boolean else default
            assert f"(default: {shown})" in " ".join(row.split())
    assert {flag for names in command.groups.values() for flag in names.split()} <= set(values)
    assert command.examples, "one example is not several: give the Command `examples=`"
    assert all(example.split()[0] in ("jaxvision", "eval") for example in (command.example, *command.examples))
    assert max(map(len, text.splitlines())) < 140


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_flags_of_every_example_exist(name):
    command = cli.COMMANDS[name]
    for example in (command.example, *command.examples):
        values = flags.FlagValues()
        command.define(values, [])
        own = example.split(" -- ")[0] if name == "launch" else example
        for flag in re.findall(r"--(\w+)[= ]", own):
            assert flag in values or flag.removeprefix("no") in values or flag == "config", f"{example}: --{flag}"


def test_help_of_a_command_by_any_road(capsys):
    texts = []
    for words in (["verify", "--help"], ["--help", "verify"], ["help", "verify"], ["-h", "verify"]):
        cli.main(["jaxvision", *words])
        texts.append(capsys.readouterr().out)
    assert len(set(texts)) == 1


def test_the_version_is_one_line_with_the_libraries(capsys):
    import jaxvision

    cli.main(["jaxvision", "--version"])
    line = capsys.readouterr().out
    assert re.fullmatch(r"jaxvision [\d.]+ \(jax [\d.]+, flax [\d.]+, Python [\d.]+\S*\)\n", line)
    assert line.split()[1] == jaxvision.__version__
