"""The command line: help without jax, one-line errors, exit statuses."""

import os
import re
import subprocess
import sys

import pytest

from jaxvision import cli, signals
from jaxvision.cli import COMMANDS


def jaxvision(*words, **environment):
    return subprocess.run(
        [sys.executable, "-c", "from jaxvision.cli import main; main()", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", **environment},
    )


def test_help_lists_the_commands():
    done = jaxvision("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["list", "models"]])
def test_a_reader_that_leaves_early_gets_no_traceback(words):
    code = "from jaxvision.cli import main; main()"
    reader, writer = os.pipe()
    os.close(reader)
    left = subprocess.run([sys.executable, "-c", code, *words], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (left.stderr, left.returncode) == ("", 1)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_each_command_names_its_flags_without_importing_jax(command):
    code = (
        f"import sys; sys.argv = ['jaxvision', '{command}', '--help']\n"
        "from jaxvision.cli import main; main()\n"
        "assert 'jax' not in sys.modules and 'numpy' not in sys.modules, 'help imports too much'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"jaxvision {command}:" in done.stdout
    for flag in {"train": ["--config=FILE.py", "--[no]fresh"], "study": ["--preset=", "--out="]}.get(command, []):
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train"], "--config is missing"),
        (["evaluate"], "--workdir is missing"),
        (["evaluate", "--workdr=x"], "unknown flag --workdr; did you mean --workdir? Flags of evaluate: --workdir, "),
        (["predict", "--top=0"], "--top must be a whole number of at least 1, not '0'"),
        (["search", "--top=1e1", "a cat"], "--top must be a whole number of at least 1, not '1e1': write 10"),
        (["visualize", "--perplexity=many"], "--perplexity must be a number, not 'many'"),
        (["train", "--fresh=perhaps"], "--fresh must be true or false, not 'perhaps'"),
        (["evaluate", "--step"], "--step has no value: write --step=VALUE, the number of a step, or best"),
        (["predict", "--workdir=x", "--images=.", "cli.py"], "unexpected word 'cli.py': write flags as --name=value"),
        (["evaluate", "--workdir=x", "stray"], "unexpected word 'stray'"),
        (["train", "own.py", "--workdir=x"], "unexpected word 'own.py': name a config by its flag, --config=own.py"),
        (["train", "--config=absent.py", "--workdir=x"], "no config file 'absent.py'"),
        (["study", "--out=x"], "the name of the study is missing"),
    ],
)
def test_errors_are_one_line_and_status_2(words, message, capsys):
    assert message in main(capsys, *words)


def test_an_error_is_all_that_a_process_says():
    done = jaxvision("trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("jaxvision: unknown command 'trian'")
    assert done.stderr.count("\n") == 1


def main(capsys, *words):
    """What a command says in this process, which must be a mistake."""
    with pytest.raises(SystemExit) as error:
        cli.main(["jaxvision", *words])
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("jaxvision: ")
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--config={config}", "--workdir="],
        ["train", "--config={config}", "--workdir", ""],
        ["train", "--config={config}", "--workdir=  "],
        ["train", "--config=", "--workdir=x"],
        ["train", "--config", "", "--workdir=x"],
        ["train", "--config={config}:", "--workdir=x"],
        ["train", "--config={config}", "--workdir=x", "--config.augment="],
        ["train", "--config={config}", "--workdir=x", "--config.data.name", ""],
        ["predict", "--workdir=x", "--images="],
        ["visualize", "--workdir=x", "--out="],
        ["inspect", "--config={config}", "--pages="],
        ["study", "data_scaling", "--out="],
        ["study", "", "--out=x"],
        ["sweep", "--sweep=", "--out=x"],
        ["search", "--index=x", ""],
        ["convert", "--model=vit:B/16", "", "out"],
        ["launch", "--slurm=nodes=2", "--", "train", "--config={config}", "--workdir="],
    ],
)
def test_what_an_unset_variable_leaves_empty_is_an_error(words, config_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = main(capsys, *[word.format(config=config_file) for word in words])
    assert "is empty" in message
    assert "was a shell variable not set?" in message.lower()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.augment="], "--config.augment is empty: .* spec without operations is 'none'"),
        (
            ["--config.optimizer.learning_rte=1"],
            "no key 'optimizer.learning_rte'; did you mean 'optimizer.learning_rate'",
        ),
        (["--config.optimizer.learning_rate=fast"], "learning_rate"),
        (["--config.data.batch_size=16.5"], "batch_size"),
        (["--config.model.dpeth=3"], "no key 'model.dpeth'.* Keys of model: .*, variant, "),
        (["--config.model=vit"], "model"),
        (["--config"], "--config needs a file"),
    ],
)
def test_overrides_that_do_not_fit(words, message, config_file, tmp_path, capsys):
    file = tmp_path / "c.py"
    file.write_text(config_file.read_text().replace("width=0.25", "width=0.25, depth=None"))
    assert re.search(message, main(capsys, "train", f"--config={file}", "--workdir=x", *words))


def test_a_change_needs_a_config(capsys):
    assert "--config is missing: add --config=FILE.py" in main(capsys, "inspect", "--config.seed=1")
    told = main(capsys, "train", "--config.seed=1", "--workdir=x")  # a run in the workdir has a config
    assert "x holds no run to resume: give --config=FILE.py" in told


@pytest.mark.parametrize("command", ["train", "inspect"])
def test_a_key_at_the_end_needs_its_value(command, config_file, tmp_path, capsys):
    words = [command, f"--config={config_file}", *([f"--workdir={tmp_path}"] if command == "train" else [])]
    error = main(capsys, *words, "--config.train.total")
    assert "--config.train.total needs a value: write --config.train.total=VALUE" in error
    assert "true" not in error


def test_a_config_file_is_executed_once(config_file, tmp_path, capsys):
    file, log = tmp_path / "c.py", tmp_path / "log"
    file.write_text(f"open({str(log)!r}, 'a').write('x')\n" + config_file.read_text())
    main(capsys, "train", "--config", str(file), "--config.train.total", "5", f"--workdir={tmp_path / 'run'}")
    assert log.read_text() == "x"


def test_overrides_reach_the_run_and_a_stop_is_85(config_file, tmp_path, capsys):
    workdir = tmp_path / "run"
    words = ["train", f"--config={config_file}:8", f"--workdir={workdir}", "--config.optimizer.learning_rate=0.25"]
    stopped = jaxvision(*words, "--stop_after=2")
    assert stopped.returncode == 85, stopped.stderr
    advice = "Run the same command without --stop_after, or with a later step, to resume."
    assert f"after step 2 of 6; the state is saved. {advice}" in stopped.stderr
    done = jaxvision(*words)
    assert done.returncode == 0, done.stderr
    assert "resuming from step 2" in done.stdout
    assert "step 6/6" in done.stdout
    assert '"learning_rate": 0.25' in (workdir / "config.json").read_text()
    for flag, message in {
        "--config.optimizer.learning_rte=1": "did you mean 'optimizer.learning_rate'",
        "--config.optimizer.learning_rate=abc": "learning_rate must be a number of at least 0, not 'abc'",
        "--config.train.keep=1.5": "--config.train.keep must be a whole number of at least 1, not '1.5'",
        "--config.optimizer=sgd": "change the keys in it, as in --config.optimizer.KEY=VALUE",
        "--lr=0.1": "unknown flag --lr; did you mean --config.optimizer.learning_rate=VALUE?",
        "--config.optimizer.learning_rate=-1": "optimizer.learning_rate must be a number of at least 0, not '-1'",
    }.items():
        assert message in main(capsys, *words[:3], flag)


def test_a_signal_is_left_to_who_knows_its_status(monkeypatch, capsys):
    def interrupted(values, rest):
        raise signals.Interrupted

    command = cli.COMMANDS["predict"]._replace(run=interrupted, define=lambda values, words: None)
    monkeypatch.setitem(cli.COMMANDS, "predict", command)
    with pytest.raises(signals.Interrupted):
        cli.main(["jaxvision", "predict"])
    assert capsys.readouterr().err == ""
