"""A failure is one line."""

import errno
import os

import pytest

from jaxvision import cli
from jaxvision.cli import failures
from jaxvision.errors import UserError


def wrapped(number, path):
    """An error of the system as TensorStore and Orbax raise it."""
    text = f'UNKNOWN: Error writing "{path}" in kvstore: [OS error {number}: {os.strerror(number)}] [source locations]'
    try:
        try:
            raise ValueError(text)
        except ValueError as error:
            raise RuntimeError("saving failed") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_what_the_system_said_is_the_line(number):
    for error in (OSError(number, os.strerror(number), "/runs/a/state"), wrapped(number, "/runs/a/state")):
        line = failures.line(error)
        assert line.startswith(f"{os.strerror(number)}: /runs/a/state; ")
        assert "\n" not in line
        assert len(line) < 250


def test_a_file_that_nobody_names_is_sought_in_the_workdir():
    line = failures.line(OSError(errno.ENOSPC, "No space left on device"), "runs/a")
    assert line.startswith("No space left on device, probably in runs/a; free some space")


def raised(error, cause):
    """`error` as it is caught when it was raised while `cause` was handled."""
    try:
        try:
            raise cause
        except type(cause):
            raise error  # noqa: B904
    except type(error) as caught:
        return caught


def test_what_was_merely_handled_is_not_the_reason():
    absent, full = (OSError(number, os.strerror(number), "/a/b") for number in (errno.ENOENT, errno.ENOSPC))
    line = failures.line(raised(TypeError("too many\nwords"), absent))
    assert line.startswith("TypeError: too many words. This was not foreseen")
    assert len(failures.line(raised(TypeError("x" * 10_000), absent))) < 600
    assert failures.line(raised(TypeError("closing"), full)).startswith("No space left on device: /a/b")
    group = ExceptionGroup("several", [ValueError("a"), OSError(errno.ENOSPC, "No space left on device", "/b")])
    assert failures.line(group).startswith("No space left on device: /b")


@pytest.fixture
def failing(monkeypatch):
    """`failing(error)`: the command `predict` raises it."""

    def fail(error):
        def run(*_):
            raise error

        command = cli.COMMANDS["predict"]._replace(run=run)
        monkeypatch.setitem(cli.COMMANDS, "predict", command)

    return fail


def left(words, capsys):
    """Exit status and standard error of a command line."""
    with pytest.raises(SystemExit) as status:
        cli.main(["jaxvision", *words])
    return status.value.code, capsys.readouterr().err


def test_a_failure_is_one_line_and_its_traceback_lies_in_the_workdir(tmp_path, failing, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    monkeypatch.setattr(failures.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    failing(ZeroDivisionError("a\nb"))
    words = ["predict", f"--workdir={tmp_path / 'run'}", "--images=x"]
    code, err = left(words, capsys)
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("jaxvision: ZeroDivisionError: a b. This was not foreseen")
    (file,) = (tmp_path / "run" / "errors").iterdir()
    assert str(file) in err
    assert "-predict-rank" in file.name
    record = file.read_text()
    assert "Traceback (most recent call last)" in record
    assert "ZeroDivisionError" in record
    assert "jaxvision predict --workdir=" in record
    assert "jax " in record
    assert f"process   {os.getpid()}" in record

    (tmp_path / "run" / "config.json").unlink()  # no run of ours: nothing is written there
    _, err = left(words, capsys)
    (file,) = (tmp_path / "tmp").iterdir()
    assert str(file) in err
    assert len(list((tmp_path / "run" / "errors").iterdir())) == 1

    monkeypatch.setenv("JAXVISION_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in left(words, capsys)[1]


def test_a_mistake_stays_the_reason_when_something_else_fails_because_of_it(failing, capsys):
    failing(raised(FileNotFoundError(errno.ENOENT, "No such file or directory", "/a/20"), UserError("it was moved")))
    code, err = left(["predict", "--workdir=x", "--images=x"], capsys)
    assert code == 2
    assert err.startswith(
        "jaxvision: it was moved (another error while the program ended: No such file or directory: /a/20"
    )


def test_an_interrupt_is_no_traceback(failing, capsys):
    failing(KeyboardInterrupt())
    assert left(["predict", "--workdir=x", "--images=x"], capsys) == (130, "jaxvision: interrupted\n")
