"""The command line: help without jax, one-line errors, exit statuses."""

import os
import subprocess
import sys

import pytest

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
    for flag in {"train": ["--config:", "--fresh:"], "study": ["--preset:", "--out:"]}.get(command, []):
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["train"], "--config is needed"),
        (["evaluate"], "--workdir is needed"),
        (["evaluate", "--workdr=x"], "unknown flag --workdr; did you mean --workdir? Flags of evaluate: --workdir, "),
        (["predict", "--top=0"], "--top must be a whole number of at least 1, not '0'"),
        (["search", "--top=1e1", "a cat"], "--top must be a whole number of at least 1, not '1e1': write 10"),
        (["visualize", "--perplexity=many"], "--perplexity must be a number, not 'many'"),
        (["train", "--fresh=perhaps"], "--fresh must be true or false, not 'perhaps'"),
        (["evaluate", "--step"], "--step has no value: write --step=VALUE, a whole number"),
        (["predict", "--workdir=x", "--images=.", "cli.py"], "unexpected argument 'cli.py'; flags are written"),
        (["evaluate", "--workdir=x", "stray"], "unexpected argument 'stray'"),
        (["train", "--config=absent.py", "--workdir=x"], "no config file 'absent.py'"),
        (["study", "--out=x"], "which study?"),
    ],
)
def test_errors_are_one_line_and_status_2(words, message):
    done = jaxvision(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("jaxvision: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_overrides_reach_the_run_and_a_stop_is_85(config_file, tmp_path):
    workdir = tmp_path / "run"
    words = ["train", f"--config={config_file}:8", f"--workdir={workdir}", "--config.optimizer.learning_rate=0.25"]
    stopped = jaxvision(*words, "--stop_after=2")
    assert stopped.returncode == 85, stopped.stderr
    assert "after step 2 of 6; the same command goes on" in stopped.stderr
    done = jaxvision(*words)
    assert done.returncode == 0, done.stderr
    assert "going on from step 2" in done.stdout
    assert "step 6/6" in done.stdout
    assert '"learning_rate": 0.25' in (workdir / "config.json").read_text()
    for flag, message in {
        "--config.optimizer.learning_rte=1": "did you mean 'optimizer.learning_rate'",
        "--config.optimizer.learning_rate=abc": "--config.optimizer.learning_rate must be a number, not 'abc'",
        "--config.train.keep=1.5": "--config.train.keep must be a whole number, not '1.5'",
        "--config.optimizer=sgd": "set the keys in it, as in --config.optimizer.KEY=VALUE, not 'sgd'",
        "--lr=0.1": "unknown flag --lr; did you mean --config.optimizer.learning_rate=VALUE?",
        "--config.optimizer.learning_rate=-1": "config key optimizer.learning_rate must be a number of at least 0",
    }.items():
        wrong = jaxvision(*words[:3], flag)
        assert wrong.returncode == 2, flag
        assert message in wrong.stderr
        assert "Traceback" not in wrong.stderr
